"""One epoll for all sessions of a worker: what happens on a socket is handled where it happens, not in a task.

Trio's own wait takes one descriptor and one task at a time, and registers it anew for each wait. A relay has two
descriptors and little to do with each, so most of its time would go into being woken. Here a descriptor is registered
once, edge-triggered, with a handler; one task waits for the epoll descriptor itself (epoll(7): it is as good a thing to
wait for as any) and calls the handlers of all that has happened since. Decision 0008 has the measurements.

A handler never blocks, never raises, and may close, add and remove descriptors, its own included.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from contextlib import suppress
from time import monotonic  # noqa: TID251  # what trio's clock is; it stands still while the machine is suspended

import trio

URGENT = select.EPOLLPRI
READ = select.EPOLLIN | select.EPOLLRDHUP | URGENT
WRITE = select.EPOLLOUT
EDGE = select.EPOLLET
BROKEN = select.EPOLLERR | select.EPOLLHUP
HUNG_UP = BROKEN | select.EPOLLRDHUP
FAULT = select.EPOLLERR  # without it, EPOLLHUP only says that both directions have ended in order
_BATCH = 512

Handler = Callable[[int], None]
"""Told the events of its descriptor, a mask of the constants above."""


class _Closed:
    """What is left of an epoll. Who was cancelled together with it may still have descriptors to give back."""

    def register(self, fd: int, events: int) -> None:
        """Nothing will ever happen on it."""

    def modify(self, fd: int, events: int) -> None:
        """As above."""

    def unregister(self, fd: int) -> None:
        """As above."""


class Watch:
    """The descriptors of one worker's sessions and who is told of them. `run` must be running."""

    __slots__ = ("_added", "_again", "_epoll", "_handlers", "after", "busy", "clock", "fault")

    def __init__(self, clock: Callable[[], float] = trio.current_time) -> None:
        self.clock = clock  # trio's
        self.fault: Callable[[Exception], None] = _raise  # told what a handler raises in spite of everything
        self.busy = False  # handlers are being called
        self.after: Callable[[], None] = _nothing  # called when all that had happened has been dealt with
        self._epoll: select.epoll | _Closed = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._added: set[int] = set()  # descriptors, in this round: what it tells of them is of others before
        self._again: list[Callable[[], None]] = []

    def add(self, fd: int, events: int, handler: Handler) -> None:
        """Tell ``handler`` when one of ``events`` happens; what is the case already is told in the next round.

        Who was told so far is told no more. Raises OSError (ENOMEM, and ENOSPC for ``fs.epoll.max_user_watches``), and
        then nothing is watched that was not.
        """
        if fd in self._handlers:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._added.add(fd)
        self._handlers[fd] = handler

    def handler(self, fd: int) -> Handler | None:
        """The one that is told of ``fd`` now."""
        return self._handlers.get(fd)

    def change(self, fd: int, events: int) -> None:
        """Watch for something else; what is the case already is told again."""
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Watch no longer a descriptor that stays open."""
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def forget(self, *fds: int) -> None:
        """Descriptors are about to be closed; the kernel forgets them by itself."""
        for fd in fds:
            self._handlers.pop(fd, None)

    def let_go(self, fd: int) -> None:
        """A descriptor is about to be closed whose socket stays open under another number, by dup(2).

        The kernel watches sockets, not numbers, and would tell whoever gets this number next of the old socket.
        """
        self._handlers.pop(fd, None)
        with suppress(OSError):
            self._epoll.unregister(fd)

    def again(self, call: Callable[[], None]) -> None:
        """Call ``call`` in the next round: there is more to do, and others should have their turn before."""
        self._again.append(call)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; the epoll descriptor is closed at the end."""
        epoll, handlers, added = self._epoll, self._handlers, self._added
        assert isinstance(epoll, select.epoll)
        fd = epoll.fileno()
        try:
            task_status.started()
            while True:
                if self._again:
                    await trio.lowlevel.checkpoint()
                    self.busy = True
                    calls, self._again = self._again, []
                    for call in calls:
                        try:
                            call()
                        except Exception as fault:  # noqa: BLE001  # one session's mistake is not all others' end
                            self.fault(fault)
                else:
                    await trio.lowlevel.wait_readable(fd)
                    self.busy = True
                happened = epoll.poll(0, _BATCH)
                added.clear()
                for ready, events in happened:
                    handler = handlers.get(ready)
                    # An earlier handler of this round may have closed it, and another have taken its number.
                    if handler is not None and ready not in added:
                        try:
                            handler(events)
                        except Exception as fault:  # noqa: BLE001  # as above
                            self.fault(fault)
                self.busy = False
                try:
                    self.after()
                except Exception as fault:  # noqa: BLE001  # as above
                    self.fault(fault)
        finally:
            self.busy = False
            self._epoll = _Closed()
            epoll.close()


def _raise(fault: Exception) -> None:
    raise fault


def _nothing() -> None:
    pass


STALL = 0.05  # seconds


class LoopTimer(trio.abc.Instrument):
    """Counts how often trio's loop did not come back to waiting for I/O within `STALL` seconds, and how long it took.

    To be added to the running loop with `trio.lowlevel.add_instrument`; that costs each round some 300 ns.
    Everything between two waits counts: work, blocking calls, garbage collection, and time in which the kernel let
    others run; a suspended machine does not. ``clock`` returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.stalls = 0
        self.stalled = 0.0  # seconds, all of them together
        self.longest = 0.0  # seconds
        self._clock = clock
        self._woke: float | None = None

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002  # trio's signature
        """As `trio.abc.Instrument` has it."""
        self._woke = self._clock()

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002  # as above
        """As `trio.abc.Instrument` has it."""
        if self._woke is not None and (took := self._clock() - self._woke) > STALL:
            self.stalls += 1
            self.stalled += took
            self.longest = max(self.longest, took)


class Bell:
    """Where one task waits for what handlers tell it. Rings are counted as they come: none is missed."""

    __slots__ = ("_task", "rung")

    def __init__(self) -> None:
        self.rung: list[tuple[int, int]] = []
        self._task: trio.lowlevel.Task | None = None

    def ring(self, fd: int, events: int) -> None:
        """Something happened on ``fd``."""
        self.rung.append((fd, events))
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task)

    async def wait(self) -> list[tuple[int, int]]:
        """What was rung since the last wait; waits for something if nothing was."""
        if not self.rung:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        rung, self.rung = self.rung, []
        return rung

    async def wait_until(self, deadline: float) -> list[tuple[int, int]]:
        """The same, but an empty list at ``deadline`` (trio's clock)."""
        with trio.move_on_at(deadline):
            return await self.wait()
        return []

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
