"""Several sockets of one session behind one wait, so that a session needs one task and no nursery.

Trio waits for one descriptor at a time; two of them would take two tasks, a nursery and its bookkeeping, some
five times the price of what is here: an epoll descriptor of the session's own, which is itself something to wait
for (epoll(7), "it is possible to wait for an epoll file descriptor"). Used by the dial for its race and by the relay.
Decision 0008 has the measurements.
"""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import contextmanager

import trio

READ = select.EPOLLIN | select.EPOLLRDHUP
WRITE = select.EPOLLOUT
EDGE = select.EPOLLET
BROKEN = select.EPOLLERR | select.EPOLLHUP
HUNG_UP = BROKEN | select.EPOLLRDHUP
_MOST_SOCKETS = 4
_SPARE = 256  # epoll descriptors kept for the next session: making one costs as much as using one


class Watch:
    """What a session is waiting for: descriptors and events, changed as it goes."""

    __slots__ = ("_epoll", "_fd")

    def __init__(self) -> None:
        self._epoll = select.epoll(_MOST_SOCKETS)
        self._fd = self._epoll.fileno()

    def add(self, fd: int, events: int) -> None:
        """Watch a descriptor. It is forgotten by itself when it is closed."""
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        """Watch a descriptor for something else."""
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """No longer watch a descriptor."""
        self._epoll.unregister(fd)

    async def wait(self) -> list[tuple[int, int]]:
        """Wait until something happens; descriptors and their events."""
        await trio.lowlevel.wait_readable(self._fd)
        return self._epoll.poll(0, _MOST_SOCKETS)

    async def wait_until(self, deadline: float) -> list[tuple[int, int]]:
        """The same, but an empty list at ``deadline`` (trio's clock)."""
        with trio.move_on_at(deadline):
            await trio.lowlevel.wait_readable(self._fd)
        return self._epoll.poll(0, _MOST_SOCKETS)

    def interrupt(self) -> None:
        """Wake the waiting session with `trio.ClosedResourceError`: its time is up."""
        trio.lowlevel.notify_closing(self._fd)

    def close(self) -> None:
        """Give the descriptor back to the kernel."""
        self._epoll.close()


class Watches:
    """The spare ones. One of these a worker."""

    __slots__ = ("_spare",)

    def __init__(self) -> None:
        self._spare: list[Watch] = []

    @contextmanager
    def borrow(self) -> Iterator[Watch]:
        """A `Watch` for one session, which must have closed or removed all it watched at the end."""
        watch = self.take()
        try:
            yield watch
        finally:
            self.give_back(watch)

    def take(self) -> Watch:
        """A spare one or a new one; raises OSError where descriptors have run out."""
        return self._spare.pop() if self._spare else Watch()

    def give_back(self, watch: Watch) -> None:
        """Keep it for the next session, or close it."""
        if len(self._spare) < _SPARE:
            self._spare.append(watch)
        else:
            watch.close()

    def close(self) -> None:
        """Close the spare ones."""
        while self._spare:
            self._spare.pop().close()
