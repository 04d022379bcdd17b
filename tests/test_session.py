"""A session from accepted to accounted for, on loopback; what it does on a real path is told by tests/wire."""

from __future__ import annotations

import os
import socket
import struct

import pytest
import trio

from proxy.core.address import Authority, Endpoint
from proxy.core.outcomes import EndedBy, Reason, Stage
from proxy.core.snapshot import Cluster, Connect, Replay, ServerFirst, Timeouts
from tests.serving import echo, one_listener, serving, upstream

GET = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"


async def test_from_accepted_to_accounted_for() -> None:
    async with upstream(echo) as cluster, serving(one_listener(cluster)) as here:
        stream = await here.connect()
        await stream.send_all(GET)
        assert await stream.receive_some() == GET
        client = stream.socket.getsockname()
        await stream.aclose()
        record = await here.events.record()
        assert (record.listener, record.cluster, record.client) == ("a", "c", f"127.0.0.1:{client[1]}")
        assert record.endpoint == cluster.endpoints[0]
        assert (record.up_bytes, record.down_bytes) == (len(GET), len(GET))
        assert (record.ended_by, record.during, record.reason) == (
            EndedBy.DOWNSTREAM,
            Stage.RELAY,
            Reason.CLOSED,
        )
        assert record.first_byte is not None
        assert record.dial_time is not None
        assert 0 <= record.dial_time <= record.duration
        assert not here.worker.sessions


async def test_many_sessions_at_once_are_not_mixed_up() -> None:
    async with (
        upstream(echo) as cluster,
        serving(one_listener(cluster)) as here,
        trio.open_nursery() as nursery,
    ):

        async def client(number: int) -> None:
            data = b"%d " % number * 1000
            stream = await here.connect()
            async with stream:
                await stream.send_all(data)
                await stream.send_eof()
                assert b"".join([part async for part in stream]) == data

        for number in range(100):
            nursery.start_soon(client, number)
    assert len(here.events.records) == 100
    assert len({record.number for record in here.events.records}) == 100


@pytest.mark.parametrize(
    ("timeouts", "server_first", "replay"),
    [
        (Timeouts(first_bytes=0.0), ServerFirst.AUTO, Replay.SAFE),
        (Timeouts(first_bytes=10.0), ServerFirst.YES, Replay.SAFE),
        (Timeouts(first_bytes=10.0), ServerFirst.AUTO, Replay.NONE),
    ],
)
async def test_where_first_bytes_cannot_help_they_are_not_waited_for(
    timeouts: Timeouts, server_first: ServerFirst, replay: Replay
) -> None:
    async def greets(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 ready")

    async with (
        upstream(greets, server_first=server_first, replay=replay) as cluster,
        serving(one_listener(cluster, timeouts=timeouts)) as here,
    ):
        async with await here.connect() as stream:
            with trio.fail_after(2):
                assert await stream.receive_some() == b"220 ready"
        record = await here.events.record()
        assert record.waited == 0
        assert record.server_first


async def test_first_bytes_are_waited_for_as_long_as_is_said() -> None:
    async with (
        upstream(echo) as cluster,
        serving(one_listener(cluster, timeouts=Timeouts(first_bytes=5.0))) as here,
    ):
        async with await here.connect() as stream:
            await trio.sleep(0.1)
            await stream.send_all(GET)
            assert await stream.receive_some() == GET
        record = await here.events.record()
        assert record.early_bytes == len(GET)
        assert 0.08 <= record.waited < 1


async def test_a_client_that_goes_before_it_has_said_anything() -> None:
    async with (
        upstream(echo) as cluster,
        serving(one_listener(cluster, timeouts=Timeouts(first_bytes=5.0))) as here,
    ):
        rude = await here.connect()
        rude.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.sleep(0.02)
        await rude.aclose()
        record = await here.events.record()
        assert (record.ended_by, record.during, record.reason) == (
            EndedBy.DOWNSTREAM, Stage.SNIFF, Reason.RESET,
        )  # fmt: skip


async def refused() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


async def test_a_refused_session_is_reset_and_says_why() -> None:
    cluster = Cluster("c", (Endpoint("127.0.0.1", await refused()),), warm_up=False)
    async with serving(one_listener(cluster)) as here:
        stream = await here.connect()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        await stream.aclose()
        record = await here.events.record()
        assert (record.ended_by, record.during, record.reason) == (
            EndedBy.UPSTREAM,
            Stage.DIAL,
            Reason.REFUSED,
        )
        assert "ECONNREFUSED" in record.detail


async def test_as_many_endpoints_are_tried_as_may_be() -> None:
    async with upstream(echo) as alive:
        (good,) = alive.endpoints
        dead = [Endpoint("127.0.0.1", await refused()) for _ in range(3)]
        patient = Cluster("c", (*dead, good), connect=Connect(retries=3), warm_up=False)
        async with serving(one_listener(patient)) as here:
            async with await here.connect() as stream:
                await stream.send_all(b"x")
                assert await stream.receive_some() == b"x"
            record = await here.events.record()
            assert record.endpoint == good
            assert 1 <= record.tried <= 4
        hasty = Cluster("c", tuple(dead), connect=Connect(retries=1), warm_up=False)
        async with serving(one_listener(hasty)) as here:
            await (await here.connect()).aclose()
            assert (await here.events.record()).tried == 2


async def test_a_name_that_does_not_exist() -> None:
    cluster = Cluster("c", (Authority("does-not-exist.invalid", 80),), warm_up=False)
    async with serving(one_listener(cluster)) as here:
        stream = await here.connect()
        with trio.fail_after(20), pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        await stream.aclose()
        record = await here.events.record()
        assert (record.ended_by, record.during, record.reason) == (
            EndedBy.PROXY, Stage.ROUTE, Reason.NO_SUCH_HOST,
        )  # fmt: skip
        assert "does-not-exist.invalid" in record.detail


async def test_a_name_is_dialled() -> None:
    async with upstream(echo) as cluster:
        named = Cluster("c", (Authority("localhost", cluster.endpoints[0].port),), warm_up=False)
        async with serving(one_listener(named)) as here, await here.connect() as stream:
            await stream.send_all(b"x")
            assert await stream.receive_some() == b"x"


async def test_cut_off_sessions_leave_no_descriptor() -> None:
    async with upstream(echo) as cluster, serving(one_listener(cluster)) as here:
        before = len(os.listdir("/proc/self/fd"))
        streams = [await here.connect() for _ in range(20)]
        for stream in streams:
            await stream.send_all(b"x")
            await stream.receive_some()
        assert len(here.worker.sessions) == 20
        for session in list(here.worker.sessions):
            session.interrupt(EndedBy.OPERATOR, Reason.DRAIN)
        assert not here.worker.sessions
        for stream in streams:
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
            await stream.aclose()
        assert {record.reason for record in here.events.records} == {Reason.DRAIN}
        with trio.fail_after(5):
            while len(os.listdir("/proc/self/fd")) > before:  # noqa: ASYNC110
                await trio.sleep(0.01)
