"""A session from accepted to accounted for, on loopback; what it does on a real path is told by tests/wire."""

from __future__ import annotations

import os
import random
import socket
import struct

import pytest
import trio

from proxy.core.address import Authority, Endpoint
from proxy.core.evidence import Evidence
from proxy.core.fastopen import Standing
from proxy.core.outcomes import EndedBy, Reason, Stage
from proxy.core.pace import NEAR
from proxy.core.snapshot import Cluster, Connect, FastOpen, Replay, ServerFirst, Timeouts
from tests.serving import Serving, echo, one_listener, serving, upstream

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
        (Timeouts(first_bytes=300.0), ServerFirst.YES, Replay.SAFE),
        (Timeouts(first_bytes=300.0), ServerFirst.AUTO, Replay.NONE),
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
            with trio.fail_after(30):
                assert await stream.receive_some() == b"220 ready"
        record = await here.events.record()
        assert record.waited == 0
        assert record.server_first


async def test_first_bytes_are_waited_for_as_long_as_is_said() -> None:
    async with (
        upstream(echo) as cluster,
        serving(one_listener(cluster, timeouts=Timeouts(first_bytes=60.0))) as here,
    ):
        async with await here.connect() as stream:
            await trio.sleep(0.1)
            await stream.send_all(GET)
            assert await stream.receive_some() == GET
        record = await here.events.record()
        assert record.early_bytes == len(GET)
        assert 0.08 <= record.waited < 60


async def test_a_client_that_goes_before_it_has_said_anything() -> None:
    async with (
        upstream(echo) as cluster,
        serving(one_listener(cluster, timeouts=Timeouts(first_bytes=60.0))) as here,
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


# --- upstreams on this host


def come_near(here: Serving, cluster: Cluster) -> Standing:
    """The proxy has met the cluster's endpoint, and found it near."""
    (endpoint,) = cluster.only
    standing = here.worker._shared.standings.get(endpoint)
    standing.learn_rtt(NEAR / 5)
    return standing


def speak_first(here: Serving, data: bytes) -> trio.SocketStream:
    """A client whose bytes are there before the proxy has noticed it; as much of them as the kernel takes."""
    sock = socket.create_connection(here.sockets["a"][0].getsockname())
    sock.setblocking(False)
    sock.send(data)
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))


async def test_a_near_endpoint_is_dialled_plainly_and_nothing_is_learned() -> None:
    async with upstream(echo) as cluster, serving(one_listener(cluster)) as here:
        standing = come_near(here, cluster)
        before = standing.state
        async with speak_first(here, GET) as stream:
            assert await stream.receive_some() == GET
            await stream.send_all(b"more")
            assert await stream.receive_some() == b"more"
        record = await here.events.record()
        assert (record.open, record.evidence, record.protocol) == ("plain", Evidence.PLAIN, "")
        assert (record.early_bytes, record.safe_bytes, record.syn_bytes) == (len(GET), 0, 0)
        assert (record.up_bytes, record.down_bytes) == (len(GET) + 4, len(GET) + 4)
        assert (record.endpoint, record.tried, record.rtt) == (cluster.only[0], 1, standing.rtt)
        assert (record.standing_before, record.standing_after, standing.state) == (before,) * 3
        assert (record.ended_by, record.reason) == (EndedBy.DOWNSTREAM, Reason.CLOSED)
        assert standing.rtt == NEAR / 5


async def test_of_much_no_byte_is_lost_on_the_way_to_a_near_endpoint() -> None:
    """More than the first read holds, and than the first send takes."""
    much = random.Random(7).randbytes(3_000_000)
    async with upstream(echo) as cluster, serving(one_listener(cluster)) as here:
        come_near(here, cluster)
        stream = speak_first(here, much[:60_000])
        got = bytearray()

        async def speak() -> None:
            await stream.send_all(much[60_000:])
            await stream.send_eof()

        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(speak)
            async for data in stream:
                got += data
        assert got == much
        record = await here.events.record()
        assert (record.protocol, record.safe_bytes, record.up_bytes) == ("", 0, len(much))


async def test_a_near_endpoint_that_is_gone_is_told_by_a_reset() -> None:
    cluster = Cluster("c", (Endpoint("127.0.0.1", await refused()),), warm_up=False)
    async with serving(one_listener(cluster)) as here:
        come_near(here, cluster)
        async with speak_first(here, GET) as stream:
            with trio.fail_after(30), pytest.raises(trio.BrokenResourceError) as broken:
                await stream.receive_some()
        assert isinstance(broken.value.__cause__, ConnectionResetError)
        record = await here.events.record()
        assert (record.ended_by, record.during, record.reason) == (
            EndedBy.UPSTREAM, Stage.DIAL, Reason.REFUSED,
        )  # fmt: skip
        assert (record.open, record.tried) == ("plain", 1)
        assert "ECONNREFUSED" in record.detail


async def test_a_client_that_only_ends_goes_the_ordinary_way() -> None:
    async def last_word(stream: trio.SocketStream) -> None:
        assert not [data async for data in stream]
        await stream.send_all(b"bye")

    async with upstream(last_word) as cluster, serving(one_listener(cluster)) as here:
        come_near(here, cluster)
        with socket.create_connection(here.sockets["a"][0].getsockname()) as client:
            client.shutdown(socket.SHUT_WR)
            async with trio.SocketStream(trio.socket.from_stdlib_socket(client.dup())) as stream:
                with trio.fail_after(30):
                    assert await stream.receive_some() == b"bye"
        assert (await here.events.record()).open == "empty"


async def test_a_client_that_has_said_nothing_yet_goes_the_ordinary_way() -> None:
    async with upstream(echo) as cluster, serving(one_listener(cluster)) as here:
        come_near(here, cluster)
        async with await here.connect() as stream:
            await trio.sleep(0.05)
            await stream.send_all(GET)
            assert await stream.receive_some() == GET
        assert (await here.events.record()).open != "plain"


@pytest.mark.parametrize("settings", [{"fast_open": FastOpen.ALWAYS}, {"preconnect": 1}])
async def test_what_the_operator_insists_on_is_done_also_for_a_near_endpoint(
    settings: dict[str, object],
) -> None:
    async with upstream(echo, **settings) as cluster, serving(one_listener(cluster)) as here:
        come_near(here, cluster)
        async with speak_first(here, GET) as stream:
            assert await stream.receive_some() == GET
        record = await here.events.record()
        assert (record.protocol, record.safe_bytes) == ("http1", len(GET))


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
        with trio.fail_after(30):
            while len(os.listdir("/proc/self/fd")) > before:  # noqa: ASYNC110
                await trio.sleep(0.01)
