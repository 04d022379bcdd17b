"""One worker process, as it knows itself: it does what the supervisor says, and reports once a second.

It ends when the supervisor does: the kernel kills it (``PR_SET_PDEATHSIG``), and the channel ends. Signals are the
supervisor's business, so those that a terminal or a service manager sends to all of us are ignored here. A report that
the supervisor does not take is not made: what is to be said next waits, bounded, and no session waits with it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import socket

import trio

from proxy.core.limits import Tally
from proxy.core.snapshot import Snapshot
from proxy.core.standings import SharedStandings
from proxy.net.clock import Clock
from proxy.service import parts, privileges, process
from proxy.service.crew import orders
from proxy.service.crew.channel import Broken, Channel, Message
from proxy.service.crew.notes import Notes
from proxy.service.memory import Memory
from proxy.service.supervised import keep_running
from proxy.service.warmup import Share
from proxy.service.worker import Worker
from proxy.telemetry import logs
from proxy.telemetry.counters import Counters
from proxy.telemetry.events import Events
from proxy.telemetry.region import Region

REPORT_EVERY = 1.0
_PDEATHSIG = 1  # include/uapi/linux/prctl.h
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main(fd: int, parent: int) -> int:
    """Serve on the orders that come over ``fd``; ``parent`` is the supervisor."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None, use_errno=True).prctl(_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        return 1  # it has died before we asked
    privileges.hide()
    process.prepare()
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    code = 0
    try:
        trio.run(Shift(Channel(sock)).run, clock=Clock())
    except* Broken:
        code = 1  # the supervisor is gone
    return code


class Shift:
    """From the first order to the last."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._sockets: dict[int, socket.socket] = {}
        self._events = Events(logs.configure("info", "json"))
        self._worker: Worker | None = None
        self._sending = trio.Lock()
        self._draining = False

    async def run(self) -> None:
        """Work until told to end; raises `Broken` when there is nobody left who could tell."""
        try:
            begin = await self._channel.receive()
            hello = orders.order(begin.body)
            assert isinstance(hello, orders.Begin)
            self._events.use(logs.configure(hello.level, hello.form))
            self._events.start_writing()
            async with trio.open_nursery() as self._nursery:
                await self._obey(hello, begin.descriptors)
                self._nursery.cancel_scope.cancel()
        finally:
            self._events.finish_writing()  # the supervisor ends a process whose channel is closed
            self._channel.close()

    async def _obey(self, hello: orders.Begin, memories: list[int]) -> None:
        while True:
            message = await self._channel.receive()
            order = orders.order(message.body)
            match order:
                case orders.Take():
                    self._take(order, message)
                case orders.Serve() if self._worker is None:
                    await self._begin(order, hello, memories)
                case orders.Drain():
                    assert self._worker is not None
                    if self._draining:
                        self._worker.hurry()
                    else:
                        self._draining = True
                        self._nursery.start_soon(self._drain, self._worker, order.limit)
                case orders.Begin():
                    raise Broken("there is but one beginning")
                case _:
                    await self._do(order)

    async def _do(self, order: orders.Order) -> None:
        worker = self._worker
        assert worker is not None
        match order:
            case orders.Serve():
                if order.snapshot:
                    snapshot = self._snapshot(order)
                    worker.swap(snapshot, self._chosen(order), takes_syn_data=order.takes_syn_data)
                else:
                    worker.man(self._chosen(order))
                self._forget(order)
                await self._say(orders.Serving(order.turn))
            case orders.Learn():
                self._notes.learn(order)
            case orders.WarmUp():
                worker.tending.again()
            case orders.Level():
                self._events.use(logs.configure(order.level, order.form))
            case orders.Leave():
                worker.leave()
                await self._say(orders.Left())
            case _:
                raise Broken("an order that nobody gives")

    def _take(self, order: orders.Take, message: Message) -> None:
        for number, fd in zip(order.numbers, message.descriptors, strict=True):
            sock = self._sockets[number] = socket.socket(fileno=fd)
            sock.setblocking(False)

    async def _begin(self, order: orders.Serve, hello: orders.Begin, memories: list[int]) -> None:
        counters, tally, nonces = memories
        snapshot = self._snapshot(order)
        standings = SharedStandings()
        memory = Memory(None, self._events, standings)
        worker = self._worker = Worker(
            snapshot,
            memory,
            self._events,
            takes_syn_data=order.takes_syn_data,
            tally=Tally(memoryview(mmap.mmap(tally, 0)), hello.workers, hello.number),
            counters=Counters(Region(counters)),
            nonces=nonces,
            share=Share(hello.number, hello.workers),
        )
        os.close(tally)
        self._notes = Notes(worker, memory, standings)
        await self._nursery.start(worker.run, self._chosen(order))
        await self._say(orders.Serving(order.turn))
        self._nursery.start_soon(keep_running, "reports", self._report, self._events)

    def _snapshot(self, order: orders.Serve) -> Snapshot:
        snapshot = orders.unpack(order.snapshot)
        parts.fetch(snapshot)
        privileges.harden(secrets=privileges.holds_secrets(snapshot))
        return snapshot

    def _chosen(self, order: orders.Serve) -> dict[str, list[socket.socket]]:
        return {name: [self._sockets[one] for one in numbers] for name, numbers in order.sockets.items()}

    def _forget(self, order: orders.Serve) -> None:
        """The worker has closed what it is not to serve any more."""
        wanted = {number for numbers in order.sockets.values() for number in numbers}
        self._sockets = {number: sock for number, sock in self._sockets.items() if number in wanted}

    async def _drain(self, worker: Worker, limit: float) -> None:
        cut_off = await worker.drain(limit)
        await self._say(self._notes.report())
        await self._say(orders.Drained(cut_off))
        self._nursery.cancel_scope.cancel()

    async def _report(self) -> None:
        while True:
            await trio.sleep(REPORT_EVERY)
            await self._say(self._notes.report())

    async def _say(self, answer: orders.Answer) -> None:
        async with self._sending:
            with trio.CancelScope(shield=True):  # half a message would be the end of the channel
                await self._channel.send(orders.encode(answer))
