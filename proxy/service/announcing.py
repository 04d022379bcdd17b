"""What whoever started the program should hear besides: what this machine lacks, and how far the warm-up has come.

The warm-up has a line on the terminal while it lasts, and one in the log.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeAlias

import trio

from proxy.core.snapshot import Snapshot
from proxy.core.warming import Warming, Warmth
from proxy.net import sockopt
from proxy.telemetry.events import Events

FEW = 5  # endpoints that are warm before anybody has read that they are being warmed
_SOON, _LOOK, _DRAW = 0.3, 1.0, 0.1
_SAY_EVERY = 30.0  # seconds between two lines in the log about the same warm-up


class Line(Protocol):
    """A line that is written over and over (`proxy.commands.progress.Progress`)."""

    def tell(self, words: str) -> None:
        """What is being waited for now."""
        ...


Waits: TypeAlias = Callable[[], AbstractContextManager[Line]]
"""Makes such a line for one wait."""


class Announcing:
    """Of the whole program; ``waits`` where somebody sits at a terminal."""

    def __init__(self, warming: Callable[[], Warming | None], events: Events, waits: Waits | None) -> None:
        self._warming, self._events, self._waits = warming, events, waits
        self._told: float | None = None  # when the warm-up began that was told of last

    async def run(self) -> None:
        """Tell of every warm-up, until cancelled."""
        before: Warming | None = None
        await trio.sleep(_SOON)
        while True:
            warming = self._warming()
            if warming is not None and not warming.over:
                await self._until_over(warming)
            elif warming is not None and warming == before:  # no worker has reported anything else since
                self._over(warming)
            before = self._warming()
            await trio.sleep(_LOOK)

    async def _until_over(self, warming: Warming) -> None:
        said = trio.current_time()
        with nullcontext() if self._waits is None else self._waits() as line:
            while not warming.over:
                if line is not None and warming.endpoints > FEW:
                    line.tell(in_words(warming))
                if trio.current_time() - said >= _SAY_EVERY:
                    said += _SAY_EVERY
                    self._events.say("warming_up", **_fields(warming), waiting=warming.waiting)
                await trio.sleep(_LOOK if line is None else _DRAW)
                now = self._warming()
                if now is None:
                    return
                warming = now

    def _over(self, warming: Warming) -> None:
        if warming.began == self._told or warming.waiting:  # what was broken off is not worth a line
            return
        self._told = warming.began
        self._events.say("warmed_up", **_fields(warming))


def warn_of_sources(snapshot: Snapshot, events: Events) -> None:
    """Say what this machine, or our privileges, lack of the addresses and marks that connections should have."""
    for cluster in snapshot.clusters.values():
        if cluster.source is not None and (problem := sockopt.source_problem(cluster.source)):
            events.warn("no_source", cluster=cluster.name, problem=problem)


def in_words(warming: Warming) -> str:
    """For the line on the terminal."""
    found = {warmth.replace("_", " "): number for warmth, number in warming.found.items() if number}
    parts = [f"warm-up: {warming.done} of {warming.endpoints} endpoints"]
    parts += [f"{number} {words}" for words, number in found.items()]
    return ", ".join(parts)


def _fields(warming: Warming) -> dict[str, object]:
    numbers = {str(warmth): warming.number(warmth) for warmth in Warmth}
    return {"endpoints": warming.endpoints, **numbers, "seconds": round(warming.lasted, 3)}
