"""One worker at work inside the test's own process, on loopback, with a server behind it; records instead of a log."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import trio

from proxy.core.address import Endpoint
from proxy.core.record import SessionRecord
from proxy.core.snapshot import Bind, Cluster, Listener, Mode, Snapshot, Timeouts
from proxy.net.watch import LoopTimer
from proxy.service.listeners import Listeners, Sockets
from proxy.service.memory import Memory
from proxy.service.worker import Worker
from proxy.telemetry.events import Events

STALL = 0.05  # seconds that nothing may keep the loop
HERE = (Bind("127.0.0.1", 0),)


class Recorder(Events):
    """What would be logged."""

    def __init__(self) -> None:
        self.records: list[SessionRecord] = []
        self.faults: list[BaseException] = []
        self.troubles: list[OSError] = []
        self.said: list[tuple[str, dict[str, object]]] = []

    def session(self, record: SessionRecord) -> None:
        self.records.append(record)

    def fault(self, record: SessionRecord, fault: BaseException) -> None:
        self.faults.append(fault)

    def background_fault(self, work: str, fault: BaseException) -> None:
        self.faults.append(fault)

    def listening(self, listener: str, bind: str, cluster: str, *, fast_open: bool) -> None:
        self.said.append(("listening", {"listener": listener, "bind": bind}))

    def accept_trouble(self, listener: str, error: OSError) -> None:
        self.troubles.append(error)

    def fast_open_unavailable(self, code: int) -> None:
        self.said.append(("fast_open_unavailable", {"code": code}))

    def say(self, event: str, **fields: object) -> None:
        self.said.append((event, fields))

    def warn(self, event: str, **fields: object) -> None:
        self.said.append((event, fields))

    async def record(self, number: int = 1) -> SessionRecord:
        """The record of the `number`-th session that ended."""
        with trio.fail_after(30):
            while len(self.records) < number:  # noqa: ASYNC110  # whoever records it is what is tested
                await trio.sleep(0.002)
        return self.records[number - 1]


def one_listener(cluster: Cluster, *, name: str = "a", timeouts: Timeouts | None = None) -> Snapshot:
    listener = Listener(name, HERE, Mode.FORWARD, cluster, timeouts=timeouts or Timeouts())
    return Snapshot((listener,), {cluster.name: cluster})


class Serving:
    def __init__(self, worker: Worker, events: Recorder, sockets: Sockets) -> None:
        self.worker, self.events, self.sockets = worker, events, sockets

    async def connect(self, listener: str = "a") -> trio.SocketStream:
        return await trio.open_tcp_stream(*self.sockets[listener][0].getsockname()[:2])


@asynccontextmanager
async def serving(snapshot: Snapshot) -> AsyncIterator[Serving]:
    events = Recorder()
    listeners = Listeners()
    listeners.open(snapshot)
    sockets = listeners.shares[0]
    worker = Worker(snapshot, Memory(None, events), events, takes_syn_data=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run, sockets)
        yield Serving(worker, events, sockets)
        await worker.drain(0.0)
        nursery.cancel_scope.cancel()
    assert not events.faults, events.faults
    assert not worker.sessions


@asynccontextmanager
async def upstream(
    behave: Callable[[trio.SocketStream], Awaitable[None]], **settings: object
) -> AsyncIterator[Cluster]:
    """A server on loopback, and a cluster of it alone."""
    async with trio.open_nursery() as nursery:

        async def handle(stream: trio.SocketStream) -> None:
            with suppress(trio.BrokenResourceError):
                await behave(stream)

        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        port = listeners[0].socket.getsockname()[1]
        cluster = Cluster("c", (Endpoint("127.0.0.1", port),), warm_up=False)
        yield replace(cluster, **settings)  # type: ignore[arg-type]  # a cluster's settings
        nursery.cancel_scope.cancel()


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)


def scheduled() -> float:
    """A monotonic clock, in seconds, that stands still while this thread waits for a processor (schedstat of proc(5)).

    A machine that is busy with other things does not make anything take longer by it.
    """
    try:
        waited = int(Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        waited = 0.0
    return time.monotonic() - waited


@contextmanager
def nothing_stalls(most: float = STALL) -> Iterator[LoopTimer]:
    """Fail if anything keeps the running trio loop for more than ``most`` seconds within the block."""
    timer = LoopTimer(scheduled)
    trio.lowlevel.add_instrument(timer)
    try:
        yield timer
    finally:
        trio.lowlevel.remove_instrument(timer)
    assert timer.longest <= most, f"the loop was kept for {timer.longest * 1e3:.0f} ms"
