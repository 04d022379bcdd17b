"""What all workers together have counted: the sum of their regions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import add
from typing import TypeAlias

from proxy.telemetry.region import (
    DOUBLES,
    DOUBLES_OF_PROCESS,
    SLOTS,
    Block,
    OfListener,
    OfProcess,
    OfWay,
    Region,
)

Numbers: TypeAlias = list[float]
"""The slots of one block: whole numbers, and floats where `region.DOUBLES` says so."""

_SLOTS_OF_WAY = SLOTS[Block.WAY]
_DOUBLES: dict[Block, frozenset[OfWay] | frozenset[OfProcess]] = {
    Block.WAY: DOUBLES,
    Block.PROCESS: DOUBLES_OF_PROCESS,
}


@dataclass(slots=True)
class Sums:
    """By the labels of the blocks, in the order in which they came up."""

    listeners: dict[str, Numbers] = field(default_factory=dict[str, Numbers])  # `OfListener`
    ways: dict[tuple[str, str], Numbers] = field(default_factory=dict[tuple[str, str], Numbers])  # `OfWay`
    endings: dict[tuple[str, str], dict[tuple[str, str, str], int]] = field(
        default_factory=dict[tuple[str, str], dict[tuple[str, str, str], int]]
    )  # listener, cluster → ended by, during, reason → sessions
    refused: dict[tuple[str, str], int] = field(
        default_factory=dict[tuple[str, str], int]
    )  # listener, reason
    processes: Numbers = field(default_factory=lambda: [0] * len(OfProcess))  # `OfProcess`, of all together

    @property
    def total(self) -> Numbers:
        """All ways together."""
        return add_all(self.ways.values())

    def of_listener(self, name: str) -> Numbers:
        """All ways from one listener."""
        return add_all(numbers for (listener, _), numbers in self.ways.items() if listener == name)

    def of_cluster(self, name: str) -> Numbers:
        """All ways to one cluster."""
        return add_all(numbers for (_, cluster), numbers in self.ways.items() if cluster == name)

    def endings_of(
        self, listener: str | None = None, cluster: str | None = None
    ) -> dict[tuple[str, str, str], int]:
        """How sessions ended, of one listener, of one cluster, or of all."""
        found: dict[tuple[str, str, str], int] = {}
        for (one, other), endings in self.endings.items():
            if listener in {None, one} and cluster in {None, other}:
                for ending, sessions in endings.items():
                    found[ending] = found.get(ending, 0) + sessions
        return found


def add_up(regions: Iterable[Region]) -> Sums:
    """The sum over all workers, as it is now."""
    sums = Sums()
    for region in regions:
        for block, labels, numbers in _blocks(region):
            if block is Block.WAY:
                way = labels[0], labels[1]
                known = sums.ways.get(way)
                sums.ways[way] = numbers if known is None else list(map(add, known, numbers))
            elif block is Block.LISTENER:
                known = sums.listeners.get(labels[0])
                sums.listeners[labels[0]] = numbers if known is None else list(map(add, known, numbers))
            elif block is Block.ENDING:
                endings = sums.endings.setdefault((labels[0], labels[1]), {})
                ending = labels[2], labels[3], labels[4]
                endings[ending] = endings.get(ending, 0) + int(numbers[0])
            elif block is Block.PROCESS:
                sums.processes = _of_processes(sums.processes, numbers)
            else:
                refusal = labels[0], labels[1]
                sums.refused[refusal] = sums.refused.get(refusal, 0) + int(numbers[0])
    return sums


def fold(regions: Iterable[Region], into: Region) -> bool:
    """Add up what others have counted, who count no more, in an empty region; False where it does not fit."""
    known: dict[tuple[Block, tuple[str, ...]], int] = {}
    for region in regions:
        for block, labels, numbers in _blocks(region):
            start = known.get((block, labels)) or into.add(block, labels)
            if start is None:
                return False
            known[block, labels] = start
            for slot, number in enumerate(numbers):
                if block is Block.PROCESS and slot == OfProcess.LONGEST_STALL:
                    into.doubles[start + slot] = max(into.doubles[start + slot], number)
                elif slot in _DOUBLES.get(block, ()):
                    into.doubles[start + slot] += number
                else:
                    into.integers[start + slot] += int(number)
    return True


def add_all(several: Iterable[Sequence[float]]) -> Numbers:
    """The slots of several ways, added up."""
    total: Numbers = [0] * _SLOTS_OF_WAY
    for numbers in several:
        total = list(map(add, total, numbers))
    return total


def histogram(numbers: Sequence[float], start: OfWay, buckets: int) -> tuple[float, list[int]]:
    """The sum and the buckets (each for itself) of a histogram that begins at ``start`` and has so many buckets."""
    return numbers[start], [int(number) for number in numbers[start + 1 : start + 1 + buckets]]


def _of_processes(one: Numbers, other: Numbers) -> Numbers:
    """Two of them together: sums, and the longer one of the longest stalls."""
    both = list(map(add, one, other))
    both[OfProcess.LONGEST_STALL] = max(one[OfProcess.LONGEST_STALL], other[OfProcess.LONGEST_STALL])
    return both


def _blocks(region: Region) -> Iterator[tuple[Block, tuple[str, ...], Numbers]]:
    for block, labels, start in region.blocks():
        numbers: Numbers = list(region.integers[start : start + SLOTS[block]])
        for slot in _DOUBLES.get(block, ()):
            numbers[slot] = region.doubles[start + slot]
        if block is Block.LISTENER and region.former:
            numbers[OfListener.OPEN] = 0
        yield block, labels, numbers
