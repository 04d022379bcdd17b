"""Deadlines of those who have no task that could wait for them.

Whoever asks for the same number of seconds is due in the order in which he has asked, so setting a deadline and calling
it off are a dict's work, and one task sleeps until the first of them all: some times in as many seconds, however many
come and go meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import trio

WhoT = TypeVar("WhoT")
_STOOD_STILL = 1.0  # seconds too late: the process did not run
_LOOK_FIRST = 0.05


class Deadlines(Generic[WhoT]):
    """When somebody has to have done something. `run` must be running."""

    __slots__ = ("_awake", "_queues", "_until")

    def __init__(self) -> None:
        self._queues: dict[float, dict[WhoT, tuple[float, Callable[[], None]]]] = {}  # by seconds
        self._until = math.inf  # when `run` looks next
        self._awake = trio.Event()

    def set(self, who: WhoT, now: float, seconds: float, call: Callable[[], None]) -> None:
        """Call ``call``, which must not raise, so many ``seconds`` after ``now`` (trio's clock), unless called off."""
        queue = self._queues.get(seconds)
        if queue is None:
            queue = self._queues[seconds] = {}
        queue[who] = now + seconds, call
        if now + seconds < self._until:
            self._awake.set()

    def call_off(self, who: WhoT, seconds: float) -> None:
        """What was asked for ``who`` and so many ``seconds`` is no longer wanted, if it ever was."""
        queue = self._queues.get(seconds)
        if queue is not None:
            queue.pop(who, None)

    def __iter__(self) -> Iterator[WhoT]:
        """All who have one."""
        for queue in list(self._queues.values()):
            yield from list(queue)

    async def run(self) -> None:
        """Keep them, until cancelled."""
        while True:
            if trio.current_time() - self._until > _STOOD_STILL:
                await trio.sleep(_LOOK_FIRST)  # what has come meanwhile is heard before anybody is late
            now, self._until, self._awake = trio.current_time(), math.inf, trio.Event()
            for seconds, queue in list(self._queues.items()):
                due = self._due(queue, now)
                if due < math.inf:
                    self._until = min(self._until, due)
                else:
                    del self._queues[seconds]
            with trio.move_on_at(self._until):
                await self._awake.wait()

    @staticmethod
    def _due(queue: dict[WhoT, tuple[float, Callable[[], None]]], now: float) -> float:
        """Call those who are due; when the next one is."""
        while queue:
            who = next(iter(queue))
            due, call = queue[who]
            if due > now:
                return due
            del queue[who]
            call()
        return math.inf
