from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from proxy.config import Loaded
from proxy.config.schema import Config
from proxy.core.snapshot import Snapshot
from proxy.service import supervisor
from tests.serving import Recorder, echo, one_listener, upstream


def loaded(snapshot: Snapshot) -> Loaded:
    return Loaded(None, snapshot, Config(), ())


@asynccontextmanager
async def running(snapshot: Snapshot) -> AsyncIterator[tuple[Recorder, int, trio.Event]]:
    """The supervisor in this process: what it says, its first port, and when it has ended."""
    events, over = Recorder(), trio.Event()
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await supervisor.run(loaded(snapshot), events)
            over.set()

        nursery.start_soon(run)
        with trio.fail_after(30):
            while not any(event == "ready" for event, _ in events.said):  # noqa: ASYNC110
                await trio.sleep(0.005)
        where = str(next(fields["bind"] for event, fields in events.said if event == "listening"))
        yield events, int(where.rpartition(":")[2]), over
        nursery.cancel_scope.cancel()


async def until_said(events: Recorder, event: str) -> None:
    with trio.fail_after(30):
        while not said(events, event):  # noqa: ASYNC110
            await trio.sleep(0.005)


def said(events: Recorder, event: str) -> list[dict[str, object]]:
    return [fields for name, fields in events.said if name == event]


async def test_it_says_where_it_listens_and_serves() -> None:
    async with upstream(echo) as cluster, running(one_listener(cluster)) as (events, port, _):
        assert said(events, "ready")[0]["pid"] == os.getpid()
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"x")
            assert await stream.receive_some() == b"x"
        await events.record()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_drains_and_returns(number: signal.Signals) -> None:
    async with upstream(echo) as cluster, running(one_listener(cluster)) as (events, port, over):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"x")
        await stream.receive_some()
        os.kill(os.getpid(), number)
        await until_said(events, "draining")
        assert said(events, "draining")[0]["sessions"] == 1
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"y")
        assert await stream.receive_some() == b"y"
        assert not over.is_set()
        await stream.aclose()
        with trio.fail_after(30):
            await over.wait()
        assert said(events, "stopped") == [{"cut_off": 0}]


async def test_a_second_signal_does_not_wait() -> None:
    async with (
        upstream(echo) as cluster,
        running(one_listener(cluster)) as (events, port, over),
        await trio.open_tcp_stream("127.0.0.1", port) as stream,
    ):
        await stream.send_all(b"x")
        await stream.receive_some()
        os.kill(os.getpid(), signal.SIGTERM)
        await until_said(events, "draining")
        os.kill(os.getpid(), signal.SIGTERM)
        with trio.fail_after(30):
            await over.wait()
        assert said(events, "stopped") == [{"cut_off": 1}]
        assert (await events.record()).reason == "drain"
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()


async def test_the_drain_has_its_limit() -> None:
    async with (
        upstream(echo) as cluster,
        running(replace(one_listener(cluster), drain=0.2)) as (events, port, over),
    ):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"x")
            await stream.receive_some()
            os.kill(os.getpid(), signal.SIGTERM)
            with trio.fail_after(30):
                await over.wait()
        assert said(events, "stopped") == [{"cut_off": 1}]


async def test_status_on_request_while_it_drains_too() -> None:
    async with upstream(echo) as cluster, running(one_listener(cluster)) as (events, port, over):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"x")
            await stream.receive_some()
            os.kill(os.getpid(), signal.SIGUSR1)
            await until_said(events, "status")
            status = said(events, "status")[0]
            assert status["open_sessions"] == 1
            assert status["tasks"] == [trio.lowlevel.current_statistics().tasks_living]
            os.kill(os.getpid(), signal.SIGTERM)
            await until_said(events, "draining")
            os.kill(os.getpid(), signal.SIGUSR1)
            await trio.sleep(0.05)
            assert not over.is_set()
        with trio.fail_after(30):
            await over.wait()
