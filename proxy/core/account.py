"""What sessions add up to: counts, bytes, seconds won and lost, and how long first bytes took."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from operator import add
from typing import TypeAlias, TypedDict, TypeVar

from proxy.core.evidence import Evidence
from proxy.core.outcomes import UPSTREAM_FAILURES, EndedBy, Reason, Stage
from proxy.core.record import SessionRecord

FIRST_BYTE_BOUNDS = (
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0
)  # fmt: skip
"""Upper bounds, in seconds, of the classes that first-byte times are counted in; a last class has none."""

# Bound once: asking an enum for a member costs as much as a call (Python 3.11).
_SYN_DATA_ACKED, _EMPTY_OPEN, _PLAIN = Evidence.SYN_DATA_ACKED, Evidence.EMPTY_OPEN, Evidence.PLAIN
_RELAY = Stage.RELAY

Ending: TypeAlias = tuple[EndedBy, Stage, Reason]
Key = TypeVar("Key")


def was_fast(record: SessionRecord) -> bool:
    """Whether Fast Open is what brought its first byte: data taken from the SYN, or a banner on an empty open."""
    evidence = record.evidence
    return evidence is _SYN_DATA_ACKED or (evidence is _EMPTY_OPEN and record.saved > 0.0)


class AccountData(TypedDict):
    """An `Account` as plain data."""

    sessions: int
    evidence: dict[str, int]
    endings: dict[str, int]  # "ended_by/during/reason"
    up_bytes: int
    down_bytes: int
    round_trips_saved: int
    round_trips_saved_by_spares: int  # of these
    seconds_saved: float
    seconds_saved_by_spares: float  # of these
    seconds_lost: float
    seconds_net: float
    hedges: int
    redials: int
    repeated_bytes: int
    duplicates: int  # sessions begun by a SYN that had come before
    on_spares: int  # sessions carried by a connection that was ready
    dead_spares: int  # sessions whose spare the server had closed, and that were dialled plainly


def _no_times() -> list[int]:
    return [0] * (len(FIRST_BYTE_BOUNDS) + 1)


@dataclass(slots=True)
class Account:
    """What a number of sessions add up to. Accounts add up too. Seconds and bytes."""

    sessions: int = 0
    evidence: dict[Evidence, int] = field(default_factory=dict[Evidence, int])
    endings: dict[Ending, int] = field(default_factory=dict[Ending, int])
    up_bytes: int = 0
    down_bytes: int = 0
    round_trips_saved: int = 0
    saved: float = 0.0
    saved_trips_by_spares: int = 0
    saved_by_spares: float = 0.0
    on_spares: int = 0
    dead_spares: int = 0
    lost: float = 0.0
    hedges: int = 0
    redials: int = 0
    repeated_bytes: int = 0
    duplicates: int = 0
    first_byte_fast: list[int] = field(default_factory=_no_times)  # sessions by time, see FIRST_BYTE_BOUNDS
    first_byte_plain: list[int] = field(default_factory=_no_times)
    first_bytes_fast: float = 0.0  # seconds, all of them together
    first_bytes_plain: float = 0.0
    reached_at: float = -inf  # monotonic seconds: when a session to it last ended that had reached it
    failed_at: float = -inf  # and one that had not, for which it or the way there is to blame
    failing_since: float = -inf  # the first of these after `reached_at`
    error: str = ""  # why the last of these failed: a `Reason`

    @property
    def is_failing(self) -> bool:
        """Whether the last session that tried could not reach it."""
        return self.failed_at > self.reached_at

    @property
    def net(self) -> float:
        """Seconds won in the end; below 0 where trying cost more than it brought."""
        return self.saved - self.lost

    def __add__(self, other: Account) -> Account:
        return Account(
            sessions=self.sessions + other.sessions,
            evidence=_sum(self.evidence, other.evidence),
            endings=_sum(self.endings, other.endings),
            up_bytes=self.up_bytes + other.up_bytes,
            down_bytes=self.down_bytes + other.down_bytes,
            round_trips_saved=self.round_trips_saved + other.round_trips_saved,
            saved=self.saved + other.saved,
            saved_trips_by_spares=self.saved_trips_by_spares + other.saved_trips_by_spares,
            saved_by_spares=self.saved_by_spares + other.saved_by_spares,
            on_spares=self.on_spares + other.on_spares,
            dead_spares=self.dead_spares + other.dead_spares,
            lost=self.lost + other.lost,
            hedges=self.hedges + other.hedges,
            redials=self.redials + other.redials,
            repeated_bytes=self.repeated_bytes + other.repeated_bytes,
            duplicates=self.duplicates + other.duplicates,
            first_byte_fast=_sum_up(self.first_byte_fast, other.first_byte_fast),
            first_byte_plain=_sum_up(self.first_byte_plain, other.first_byte_plain),
            first_bytes_fast=self.first_bytes_fast + other.first_bytes_fast,
            first_bytes_plain=self.first_bytes_plain + other.first_bytes_plain,
            reached_at=(reached := max(self.reached_at, other.reached_at)),
            failed_at=max(self.failed_at, other.failed_at),
            failing_since=_first_after(reached, self.failing_since, other.failing_since),
            error=self.error if self.failed_at >= other.failed_at else other.error,
        )

    def count(self, record: SessionRecord) -> None:
        """One session more."""
        self.sessions += 1
        self.up_bytes += record.up_bytes
        self.down_bytes += record.down_bytes
        evidence = record.evidence
        if evidence is not None:
            self.evidence[evidence] = self.evidence.get(evidence, 0) + 1
        ending = (record.ended_by, record.during, record.reason)
        self.endings[ending] = self.endings.get(ending, 0) + 1
        if record.saved:
            self.round_trips_saved += 1
            self.saved += record.saved
        if record.lost:
            self.lost += record.lost
        if record.hedged or record.redialled or record.repeated_bytes or record.duplicate:
            self.hedges += record.hedged
            self.redials += record.redialled
            self.repeated_bytes += record.repeated_bytes
            self.duplicates += record.duplicate
        first_byte = record.first_byte
        if record.spare:
            self._count_spare(record)
        elif first_byte is not None:
            number = bisect_left(FIRST_BYTE_BOUNDS, first_byte)
            if evidence is _PLAIN or not was_fast(record):
                self.first_byte_plain[number] += 1
                self.first_bytes_plain += first_byte
            else:
                self.first_byte_fast[number] += 1
                self.first_bytes_fast += first_byte
        if record.dead_spare and not record.spare:
            self.dead_spares += 1
        self._count_reached(record)

    def _count_reached(self, record: SessionRecord) -> None:
        now = record.began + record.duration
        if record.during is _RELAY:
            self.reached_at = now
        elif record.reason in UPSTREAM_FAILURES:
            if not self.is_failing:
                self.failing_since = now
            self.failed_at, self.error = now, record.reason

    def _count_spare(self, record: SessionRecord) -> None:
        self.on_spares += 1
        if record.saved:
            self.saved_trips_by_spares += 1
            self.saved_by_spares += record.saved

    def plain(self) -> AccountData:
        """As plain data, for the status."""
        return {
            "sessions": self.sessions,
            "evidence": {str(evidence): number for evidence, number in self.evidence.items()},
            "endings": {"/".join(ending): number for ending, number in self.endings.items()},
            "up_bytes": self.up_bytes,
            "down_bytes": self.down_bytes,
            "round_trips_saved": self.round_trips_saved,
            "round_trips_saved_by_spares": self.saved_trips_by_spares,
            "seconds_saved": self.saved,
            "seconds_saved_by_spares": self.saved_by_spares,
            "seconds_lost": self.lost,
            "seconds_net": self.net,
            "hedges": self.hedges,
            "redials": self.redials,
            "repeated_bytes": self.repeated_bytes,
            "duplicates": self.duplicates,
            "on_spares": self.on_spares,
            "dead_spares": self.dead_spares,
        }


def add_up(accounts: Iterable[Account]) -> Account:
    """The sum, also of none."""
    return sum(accounts, Account())


def _first_after(moment: float, *moments: float) -> float:
    """The first of ``moments`` after ``moment``; -inf where there is none."""
    return min((one for one in moments if one > moment), default=-inf)


def _sum_up(one: Sequence[int], other: Sequence[int]) -> list[int]:
    return list(map(add, one, other))


def _sum(one: Mapping[Key, int], other: Mapping[Key, int]) -> dict[Key, int]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in (*one, *other)}
