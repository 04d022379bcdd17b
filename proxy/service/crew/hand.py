"""One worker process, as the supervisor knows it: started, told, heard, and replaced when it dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import trio

import proxy
from proxy.service.crew import orders
from proxy.service.crew.channel import MOST_DESCRIPTORS, Broken, Channel
from proxy.service.listeners import Sockets
from proxy.telemetry.events import Events

ENTRY = "_worker"  # the first argument of a process that is one
_BEGIN = "import sys; sys.path.append(sys.argv.pop(1)); from proxy.__main__ import main; sys.exit(main())"
_STEADY = 30.0  # seconds that a worker must have lived for its death to be the first one
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 30.0
_TRIES = 3  # of a worker that has never served
_DEAF = 60.0  # seconds without a report after which a worker is taken for stuck
_GRACE = 5.0
_MOST_WAITING = 2000  # things learned that wait for a worker that does not listen
_NOT_FOR_WORKERS = (
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
)


class CannotServe(Exception):
    """Workers end before they begin."""


class Hand:
    """One of the workers. ``hello`` and ``memories`` are what each of its processes is told first."""

    def __init__(
        self,
        hello: Callable[[], orders.Begin],
        memories: Sequence[int],
        events: Events,
        told: Callable[[Hand, orders.Answer], None],
        died: Callable[[], None],
    ) -> None:
        self.hello, self._memories = hello, memories
        self.number = hello().number
        self.pid = 0
        self.restarts = -1
        self.began = 0.0  # of the clock that nobody sets
        self.state = "starting"
        self.report: orders.Report | None = None
        self.has_served = False  # one of its processes
        self.taught = False  # the process that is there now
        self.leaving = False  # no other process after this one
        self.cut_off: int | None = None  # sessions, once it has drained
        self.wanted: Callable[[], tuple[orders.Serve, Sockets]] | None = None
        self._events, self._told, self._died = events, told, died
        self._snapshot = b""  # that the process has
        self._pending: list[orders.Order] = []  # short orders, each said once
        self._lessons: dict[object, orders.Learn] = {}  # by what they are about: the last one counts
        self._stirred = trio.Event()
        self._known: dict[socket.socket, int] = {}
        self._turn = 0  # of the last snapshot that was asked for
        self._served = -1  # of the last one that is served
        self._answered = trio.Event()

    # --- what it is to do

    def serve(self, turn: int) -> None:
        """Serve what `wanted` says now."""
        self._turn = turn
        self._stirred.set()

    def say(self, order: orders.Order) -> None:
        """One order, to the process that is there now; one that comes later does not hear it."""
        self._pending.append(order)
        self._stirred.set()

    def teach(self, key: object, lesson: orders.Learn) -> None:
        """What others have found out; what it has not taken in yet is replaced by what is newer."""
        if key in self._lessons or len(self._lessons) < _MOST_WAITING:
            self._lessons[key] = lesson
            self._stirred.set()

    async def until_served(self, turn: int) -> None:
        """Wait until it serves that, or a newer one."""
        while self._served < turn:
            await self._answered.wait()

    def kill(self) -> None:
        """It has had its time."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    # --- its life

    async def live(self) -> None:
        """Have a process serve, and another one after it, until one has drained."""
        pause = 0.0
        while True:
            began = trio.current_time()
            how = await self._one_process()
            if self.cut_off is not None or self.leaving:
                return
            lived = trio.current_time() - began
            pause = 0.0 if lived >= _STEADY else min(max(pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
            if pause == _FIRST_PAUSE and self.restarts == 0:
                pause = 0.0  # the first time may be an accident
            again_in = {"lived": round(lived, 3), "again_in": pause}
            self._events.warn("worker_died", worker=self.number, **how, **again_in)
            if not self.has_served and self.restarts >= _TRIES:
                said = ", ".join(f"{name} {value}" for name, value in how.items())
                raise CannotServe(f"worker {self.number} ends before it can serve: {said}")
            await trio.sleep(pause)

    async def _one_process(self) -> Mapping[str, object]:
        """From its start to its end; how it ended. Without a process or a descriptor to be had it ends at once."""
        try:
            process, channel = self._start()
        except OSError as error:
            self.restarts += 1
            return {"why": f"it cannot be started: {error.strerror}"}
        try:
            await self._with(process, channel)
        except OSError as error:
            self._events.warn("worker_not_reached", worker=self.number, why=error.strerror)
        finally:
            channel.close()
            self._end(process)
        code = process.returncode
        how = {"signal": signal.Signals(-code).name} if code < 0 else {"exit_code": code}
        return {"pid": process.pid, **how}

    def _start(self) -> tuple[subprocess.Popen[bytes], Channel]:
        """A fresh interpreter, started from this very thread: its end would be the end of the process, too."""
        env = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_WORKERS}
        package = str(Path(proxy.__file__).parent.parent)
        ours, theirs = socket.socketpair()
        with theirs:
            command = [
                sys.executable, "-P", "-c", _BEGIN, package, ENTRY, str(theirs.fileno()), str(os.getpid()),
            ]  # fmt: skip
            try:
                process = subprocess.Popen(  # noqa: S603  # ourselves
                    command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, env=env
                )
            except OSError:
                ours.close()
                raise
        self.pid, self.state, self.restarts, self.began = (
            process.pid,
            "starting",
            self.restarts + 1,
            trio.current_time(),
        )
        self.report, self._known, self._served, self.taught = None, {}, -1, False
        self._pending.clear()
        self._lessons.clear()
        self._snapshot = b""
        return process, Channel(ours)

    async def _with(self, process: subprocess.Popen[bytes], channel: Channel) -> None:
        pidfd = os.pidfd_open(process.pid)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tell, channel)
                nursery.start_soon(self._hear, channel)
                await trio.lowlevel.wait_readable(pidfd)
                nursery.cancel_scope.cancel()
        finally:
            os.close(pidfd)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            process.kill()
        process.wait()
        self.pid, self.state, self.report = 0, "down", None
        self._died()

    async def _tell(self, channel: Channel) -> None:
        """Everything that is to be said, in its order; what the process does not take waits here."""
        with suppress(Broken):
            await channel.send(orders.encode(self.hello()), self._memories)
            said = -1
            while True:
                self._stirred = trio.Event()
                if said != self._turn and self.wanted is not None:
                    said = self._turn
                    await self._tell_snapshot(channel, *self.wanted())
                while self._pending:
                    await channel.send(orders.encode(self._pending.pop(0)))
                while self._lessons:
                    await channel.send(orders.encode(self._lessons.pop(next(iter(self._lessons)))))
                if said == self._turn or self.wanted is None:
                    await self._stirred.wait()

    async def _tell_snapshot(self, channel: Channel, order: orders.Serve, sockets: Sockets) -> None:
        before, self._known = self._known, {}
        fresh: list[tuple[int, socket.socket]] = []
        numbers: dict[str, list[int]] = {}
        following = max(before.values(), default=0) + 1
        for name, several in sockets.items():
            for sock in several:
                number = self._known.get(sock) or before.get(sock)
                if number is None:
                    number, following = following, following + 1
                    fresh.append((number, sock))
                self._known[sock] = number
                numbers.setdefault(name, []).append(number)
        # Copies, as the supervisor may close its own before all of them have been sent.
        copies = [(number, sock.dup()) for number, sock in fresh]
        try:
            for at in range(0, len(copies), MOST_DESCRIPTORS):
                some = copies[at : at + MOST_DESCRIPTORS]
                take = orders.Take([number for number, _ in some])
                await channel.send(orders.encode(take), [sock.fileno() for _, sock in some])
        finally:
            for _, sock in copies:
                sock.close()
        snapshot = b"" if order.snapshot is self._snapshot else order.snapshot
        self._snapshot = order.snapshot
        await channel.send(orders.encode(msgspec.structs.replace(order, snapshot=snapshot, sockets=numbers)))

    async def _hear(self, channel: Channel) -> None:
        """Everything it says. One that says nothing for too long is put out of its misery."""
        with suppress(Broken):
            while True:
                body: bytes | None = None
                for patience in (_DEAF, _GRACE):  # it may be we who have been away
                    with trio.move_on_after(patience):
                        body = (await channel.receive()).body
                    if body is not None:
                        break
                if body is None:
                    self._events.warn("worker_stuck", worker=self.number, pid=self.pid, silent_for=_DEAF)
                    break
                try:
                    self._take(orders.answer(body))
                except msgspec.DecodeError as error:
                    self._events.warn("worker_confused", worker=self.number, pid=self.pid, why=str(error))
                    break
        self.kill()

    def _take(self, answer: orders.Answer) -> None:
        match answer:
            case orders.Serving():
                self._served, self.state, self.has_served = answer.turn, "ready", True
                self._answer()
            case orders.Left():
                self.state = "draining"
                self._answer()
            case orders.Drained():
                self.cut_off = answer.cut_off
            case orders.Report():
                self.report = answer
        self._told(self, answer)

    def _answer(self) -> None:
        self._answered.set()
        self._answered = trio.Event()
