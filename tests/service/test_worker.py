from __future__ import annotations

import errno
import socket

import pytest
import trio

from proxy.core.outcomes import EndedBy, Reason
from proxy.core.snapshot import Keepalive, Log, Snapshot, Timeouts
from proxy.net.accept import close_listener
from proxy.service.worker import SWEEP
from tests.serving import Serving, echo, one_listener, serving, upstream


async def silent(stream: trio.SocketStream) -> None:
    async for _ in stream:
        pass


async def test_the_ledger_adds_sessions_up() -> None:
    async with upstream(echo) as cluster, serving(one_listener(cluster)) as here:
        for _ in range(3):
            async with await here.connect() as stream:
                await stream.send_all(b"four")
                assert await stream.receive_some() == b"four"
        await here.events.record(3)
        total = here.worker._memory.ledger.total
        assert (total.sessions, total.up_bytes, total.down_bytes) == (3, 12, 12)


async def test_sessions_need_not_be_logged() -> None:
    async with upstream(echo) as cluster:
        loud = one_listener(cluster)
        quiet = Snapshot(loud.listeners, loud.clusters, log=Log(sessions=False))
        async with serving(quiet) as here:
            async with await here.connect() as stream:
                await stream.send_all(b"x")
                await stream.receive_some()
            with trio.fail_after(30):
                while not here.worker._memory.ledger.total.sessions:  # noqa: ASYNC110  # nobody tells
                    await trio.sleep(0.005)
            assert not here.events.records
            assert here.worker._memory.ledger.total.sessions == 1


@pytest.mark.parametrize(
    ("timeouts", "reason"), [(Timeouts(idle=0.5), Reason.IDLE), (Timeouts(lifetime=0.5), Reason.LIFETIME)]
)
async def test_the_sweep_ends_what_lasts_too_long(timeouts: Timeouts, reason: Reason) -> None:
    async with (
        upstream(silent) as cluster,
        serving(one_listener(cluster, timeouts=timeouts)) as here,
        await here.connect() as stream,
    ):
        await stream.send_all(b"x")
        started = trio.current_time()
        record = await here.events.record()
        assert (record.ended_by, record.reason) == (EndedBy.TIMEOUT, reason)
        assert 0.4 < trio.current_time() - started < 0.5 + 20 * SWEEP


async def test_a_half_closed_session_is_ended_and_a_busy_one_is_not() -> None:
    async def holds_on(stream: trio.SocketStream) -> None:
        async for _ in stream:
            pass
        await trio.sleep_forever()

    async with (
        upstream(holds_on) as cluster,
        serving(one_listener(cluster, timeouts=Timeouts(half_closed=0.5))) as here,
    ):
        half, whole = await here.connect(), await here.connect()
        for stream in (half, whole):
            await stream.send_all(b"x")
        await half.send_eof()
        record = await here.events.record()
        assert (record.ended_by, record.reason) == (EndedBy.TIMEOUT, Reason.HALF_CLOSED)
        assert len(here.worker.sessions) == 1
        for stream in (half, whole):
            await stream.aclose()


async def test_a_session_that_moves_bytes_is_not_idle() -> None:
    async with (
        upstream(echo) as cluster,
        serving(one_listener(cluster, timeouts=Timeouts(idle=3.0))) as here,
        await here.connect() as stream,
    ):
        for _ in range(13):  # the sweep has looked when it had been there for longer
            await stream.send_all(b"x")
            assert await stream.receive_some() == b"x"
            await trio.sleep(0.4)
        assert not here.events.records


async def test_sessions_that_last_are_kept_alive() -> None:
    async with (
        upstream(echo, keepalive=Keepalive(idle=77)) as cluster,
        serving(one_listener(cluster)) as here,
        await here.connect() as stream,
    ):
        await stream.send_all(b"x")
        await stream.receive_some()
        (session,) = here.worker.sessions
        sock = session._upstream
        assert sock is not None
        with trio.fail_after(30 * SWEEP):
            while not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):  # noqa: ASYNC110
                await trio.sleep(0.02)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 77


async def stop_listening(here: Serving) -> None:
    for sock in here.sockets["a"]:
        close_listener(sock)


async def test_draining_waits_for_the_last_session() -> None:
    async with upstream(echo) as cluster, serving(one_listener(cluster)) as here:
        stream = await here.connect()
        await stream.send_all(b"x")
        await stream.receive_some()
        await stop_listening(here)
        cut_off: list[int] = []

        async def drain() -> None:
            cut_off.append(await here.worker.drain(60.0))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain)
            await trio.sleep(0.1)
            assert not cut_off
            await stream.aclose()
        assert cut_off == [0]


async def test_draining_cuts_off_what_does_not_end() -> None:
    async with upstream(silent) as cluster, serving(one_listener(cluster)) as here:
        streams = [await here.connect() for _ in range(3)]
        for stream in streams:
            await stream.send_all(b"x")
        with trio.fail_after(30):
            while len(here.worker.sessions) < 3:  # noqa: ASYNC110
                await trio.sleep(0.005)
        await stop_listening(here)
        with trio.fail_after(30):
            assert await here.worker.drain(0.2) == 3
        for stream in streams:
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
            await stream.aclose()
        assert [record.reason for record in here.events.records] == [Reason.DRAIN] * 3


async def test_trouble_is_told_once_a_second_for_each_listener() -> None:
    async with upstream(echo) as cluster, serving(one_listener(cluster)) as here:
        (post,) = here.worker._posts.values()
        for _ in range(5):
            here.worker._trouble(post, OSError(errno.EMFILE, ""))
        assert len(here.events.troubles) == 1
        await trio.sleep(1.05)
        here.worker._trouble(post, OSError(errno.EMFILE, ""))
        assert len(here.events.troubles) == 2


async def test_missing_fast_open_is_told_once() -> None:
    async with upstream(echo) as cluster, serving(one_listener(cluster)) as here:
        for _ in range(3):
            here.worker._no_fast_open(errno.EOPNOTSUPP)
        assert [event for event, _ in here.events.said].count("fast_open_unavailable") == 1
