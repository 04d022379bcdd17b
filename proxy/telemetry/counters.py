"""What a worker counts: told of everything that happens, it adds it up in its region of shared memory.

An increment is an addition to a slot, some 50 ns; nothing is locked, sent or formatted.
"""

from __future__ import annotations

from bisect import bisect_left

from proxy.core.account import FIRST_BYTE_BOUNDS, was_fast
from proxy.core.evidence import Evidence
from proxy.core.outcomes import EndedBy, Reason, Stage
from proxy.core.record import SessionRecord
from proxy.telemetry.region import DURATION_BOUNDS, NOWHERE, Block, OfListener, OfProcess, OfWay, Region

OTHER = "other"  # the label of what there was no room for
_EVIDENCE = {evidence: OfWay.EVIDENCE + number for number, evidence in enumerate(Evidence)}

# Bound once: asking an enum for a member costs as much as several additions (Python 3.11).
_DOWNSTREAM, _PLAIN, _NO_HANDSHAKE = EndedBy.DOWNSTREAM, Evidence.PLAIN, Evidence.NO_HANDSHAKE
_OPEN = int(OfListener.OPEN)
_UP_BYTES, _DOWN_BYTES, _FAILED = int(OfWay.UP_BYTES), int(OfWay.DOWN_BYTES), int(OfWay.FAILED)
_DURATION, _FIRST_BYTE_FAST = int(OfWay.DURATION), int(OfWay.FIRST_BYTE_FAST)
_FIRST_BYTE_PLAIN, _FIRST_BYTE_SPARE = int(OfWay.FIRST_BYTE_PLAIN), int(OfWay.FIRST_BYTE_SPARE)
_TRIPS, _SAVED, _LOST = int(OfWay.ROUND_TRIPS_SAVED), int(OfWay.SECONDS_SAVED), int(OfWay.SECONDS_LOST)

REFUSALS = frozenset(
    {
        Reason.BAD_REQUEST,
        Reason.NOT_AUTHENTICATED,
        Reason.NOT_ALLOWED,
        Reason.LIMITED,
        Reason.DENIED,
        Reason.LOOP,
        Reason.HANDSHAKE_TIMEOUT,
    }
)
"""How a session ends that we did not want to serve. Connections refused sooner bring their own word."""


class _Way:
    """Where the sessions of one listener and cluster are counted."""

    __slots__ = ("cluster", "endings", "listener", "start")

    def __init__(self, listener: str, cluster: str, start: int) -> None:
        self.listener, self.cluster, self.start = listener, cluster, start
        self.endings: dict[tuple[EndedBy, Stage, Reason], int] = {}


class Counters:
    """One worker's."""

    __slots__ = ("_doubles", "_integers", "_listeners", "_process", "_refused", "_ways", "region")

    def __init__(self, region: Region | None = None) -> None:
        """``region`` is a new one, or that of the worker which this one replaces; None: one for this process alone."""
        self.region = region or Region()
        self._integers, self._doubles = self.region.integers, self.region.doubles
        self._listeners: dict[str, int] = {}
        self._ways: dict[tuple[str, str], _Way] = {}
        self._refused: dict[tuple[str, str], int] = {}
        self._process = NOWHERE
        self._take_over()
        if self._process == NOWHERE:
            self._process = self.region.add(Block.PROCESS, ()) or NOWHERE

    def accepted(self, listener: str) -> None:
        """A session begins."""
        start = self._listeners.get(listener) or self._listener(listener)
        self._integers[start] += 1
        self._integers[start + _OPEN] += 1

    def refused(self, listener: str, reason: str) -> None:
        """A connection was refused before there was a session; ``reason`` is one word of a closed list."""
        self._integers[self._listeners.get(listener) or self._listener(listener)] += 1
        self._refuse(listener, reason)

    def of_process(self, *, lines_lost: int, stalls: int, stalled: float, longest: float) -> None:
        """Log lines lost and stalls of the event loop (see `OfProcess`) since the last call."""
        start, doubles = self._process, self._doubles
        if start == NOWHERE:
            return
        self._integers[start + OfProcess.LOG_LINES_LOST] += lines_lost
        self._integers[start + OfProcess.LOOP_STALLS] += stalls
        doubles[start + OfProcess.STALLED_SECONDS] += stalled
        doubles[start + OfProcess.LONGEST_STALL] = max(doubles[start + OfProcess.LONGEST_STALL], longest)

    def ended(self, *records: SessionRecord) -> None:
        """Sessions have ended and been settled. What is in a row of one listener and cluster is added up first."""
        way, listener, cluster = None, "", ""
        number = up = down = 0
        duration = 0.0
        for record in records:
            if way is None or record.cluster != cluster or record.listener != listener:
                if way is not None:
                    self._add(listener, way.start, number, up, down, duration)
                number = up = down = 0
                duration = 0.0
                listener, cluster = record.listener, record.cluster
                way = self._ways.get((listener, cluster)) or self._way(listener, cluster)
            number += 1
            up += record.up_bytes
            down += record.down_bytes
            duration += record.duration
            self._ended(way, record)
        if way is not None:
            self._add(listener, way.start, number, up, down, duration)

    def _add(self, listener: str, start: int, number: int, up: int, down: int, duration: float) -> None:
        """So many sessions together, of the way at ``start``."""
        integers = self._integers
        slot = (self._listeners.get(listener) or self._listener(listener)) + _OPEN
        integers[slot] = max(integers[slot] - number, 0)  # below nothing it would raise
        integers[start] += number
        integers[start + _UP_BYTES] += up
        integers[start + _DOWN_BYTES] += down
        self._doubles[start + _DURATION] += duration

    def _ended(self, way: _Way, record: SessionRecord) -> None:
        """What tells one session from another."""
        integers, doubles, start = self._integers, self._doubles, way.start
        evidence = record.evidence
        if evidence is not None:
            integers[start + _EVIDENCE[evidence]] += 1
        if evidence is None or evidence is _NO_HANDSHAKE:
            integers[start + _FAILED] += 1
        integers[start + _DURATION + 1 + bisect_left(DURATION_BOUNDS, record.duration)] += 1
        first_byte = record.first_byte
        if first_byte is not None:
            slot = start + (_FIRST_BYTE_PLAIN if evidence is _PLAIN and not record.spare else _how(record))
            doubles[slot] += first_byte
            integers[slot + 1 + bisect_left(FIRST_BYTE_BOUNDS, first_byte)] += 1
        if record.saved:
            integers[start + _TRIPS] += 1
            doubles[start + _SAVED] += record.saved
        if record.lost:
            doubles[start + _LOST] += record.lost
        ending = record.ended_by, record.during, record.reason
        integers[way.endings.get(ending) or self._ending(way, record)] += 1
        # What most sessions have none of.
        if record.waited or record.hedged or record.redialled or record.repeated_bytes:
            self._count_trouble(start, record)
        if record.spare or record.duplicate or record.dead_spare:
            self._count_spares(start, record)
        if record.reason in REFUSALS and record.ended_by is not _DOWNSTREAM:
            self._refuse(record.listener, record.reason)

    def _count_trouble(self, start: int, record: SessionRecord) -> None:
        integers = self._integers
        integers[start + OfWay.HEDGES] += record.hedged
        integers[start + OfWay.REDIALS] += record.redialled
        integers[start + OfWay.REPEATED_BYTES] += record.repeated_bytes
        if record.waited:
            integers[start + OfWay.WAITS] += 1
            self._doubles[start + OfWay.WAIT_SECONDS] += record.waited
            integers[start + OfWay.WAIT_TIMEOUTS] += not record.early_bytes

    def _count_spares(self, start: int, record: SessionRecord) -> None:
        integers = self._integers
        integers[start + OfWay.DUPLICATES] += record.duplicate
        if record.spare:
            integers[start + OfWay.ON_SPARES] += 1
            if record.saved:
                integers[start + OfWay.ROUND_TRIPS_SAVED_BY_SPARES] += 1
                self._doubles[start + OfWay.SECONDS_SAVED_BY_SPARES] += record.saved
        elif record.dead_spare:
            integers[start + OfWay.DEAD_SPARES] += 1

    def _take_over(self) -> None:
        """Count on where an earlier worker has left off; the sessions it had open are gone."""
        for block, labels, start in self.region.blocks():
            if block is Block.LISTENER:
                self._listeners[labels[0]] = start
                self._integers[start + _OPEN] = 0
            elif block is Block.WAY:
                self._ways[labels[0], labels[1]] = _Way(labels[0], labels[1], start)
            elif block is Block.REFUSED:
                self._refused[labels[0], labels[1]] = start
            elif block is Block.PROCESS:
                self._process = start
            else:
                ending = EndedBy(labels[2]), Stage(labels[3]), Reason(labels[4])
                self._ways[labels[0], labels[1]].endings[ending] = start
        self._listener(OTHER)  # so that there is room for these, whatever comes
        self._way(OTHER, OTHER)

    def _listener(self, name: str) -> int:
        start = (
            self._listeners.get(name) or self.region.add(Block.LISTENER, (name,)) or self._listeners[OTHER]
        )
        self._listeners[name] = start
        return start

    def _way(self, listener: str, cluster: str) -> _Way:
        key = listener, cluster
        way = self._ways.get(key)
        if way is None:
            start = self.region.add(Block.WAY, key)
            way = self._ways[key] = _Way(listener, cluster, start) if start else self._ways[OTHER, OTHER]
        return way

    def _ending(self, way: _Way, record: SessionRecord) -> int:
        ending = record.ended_by, record.during, record.reason
        slot = self.region.add(Block.ENDING, (way.listener, way.cluster, *ending)) or NOWHERE
        way.endings[ending] = slot
        return slot

    def _refuse(self, listener: str, reason: str) -> None:
        key = listener, reason
        slot = self._refused.get(key)
        if slot is None:
            slot = self._refused[key] = self.region.add(Block.REFUSED, key) or NOWHERE
        self._integers[slot] += 1


def _how(record: SessionRecord) -> int:
    """Which histogram of first-byte times it belongs to."""
    if record.spare:
        return _FIRST_BYTE_SPARE
    return _FIRST_BYTE_FAST if was_fast(record) else _FIRST_BYTE_PLAIN
