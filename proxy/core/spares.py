"""How many spare connections an endpoint deserves: as many as will be used before they are old.

A spare is a plain connection, dialled before its client comes, where Fast Open cannot save the round trip. It costs
the server a connection that may never be used, so the number follows from how often sessions come that could use
one, and from how long the server lets an idle connection live.
"""

from __future__ import annotations

from math import ceil
from typing import TypedDict

from proxy.core.clusters import AUTO, Auto

OLDEST = 10.0  # seconds a spare is kept at most
AUTO_MOST = 16
FLYING_MOST = 2  # dials on their way for one endpoint
PAUSE_FIRST, PAUSE_LONGEST = 1.0, 60.0  # after a dial that failed, doubling
_FASTER, _SLOWER = 1 / 2, 1 / 4  # weight of a new gap: a burst is believed sooner than a lull
_LONGEST_GAP = 1.5 * OLDEST  # a lull counts no more than this, or a burst after it would never be believed
_LONGER = 1.1  # an age that was reached alive may be a little higher next time
_SHORTEST_LIFE = 0.1  # servers that close idle connections sooner get none for a while
_NO_TIME = 1e-6
_AT_ONCE = 1.0  # a server that restarts closes all of them: one event
DISTRUST_FIRST, DISTRUST_LONGEST = 30.0, 600.0  # without a death, until a full life is tried again; doubling


class SparesData(TypedDict):
    """What became of them, for the status."""

    ready: int
    taken: int
    wasted: int  # given up for their age, or closed by the server


class Demand:
    """What is known of the sessions that come for one endpoint's spares, and of how these fare. Times in seconds."""

    __slots__ = ("_died", "_distrust", "_failures", "_gap", "_last", "_not_before", "greets", "keeps")

    def __init__(self) -> None:
        self.greets: bool | None = (
            None  # the server speaks first; None: no spare has lived long enough to tell
        )
        self.keeps = OLDEST  # age at which a spare is given up
        self._gap: float | None = None  # between two sessions, smoothed
        self._last: float | None = None
        self._died = 0.0
        self._distrust = 0.0
        self._failures = 0
        self._not_before = 0.0

    def arrived(self, now: float) -> None:
        """A session came that a spare would have served."""
        if self._last is not None:
            sample = min(now - self._last, _LONGEST_GAP)
            if self._gap is None:
                self._gap = sample
            else:
                self._gap += (sample - self._gap) * (_FASTER if sample < self._gap else _SLOWER)
        self._last = now
        if self.keeps < OLDEST and now - self._died >= self._distrust:
            self.keeps = OLDEST

    def wanted(self, most: int | Auto, rtt: float, now: float) -> int:
        """How many spares there should be, those on their way included."""
        if self._last is None or now < self._not_before or now - self._last >= OLDEST:
            return 0
        if self._gap is None:  # one session, ever: whether more will come is found out with one spare
            return 1 if most is AUTO else min(1, most)
        gap = max(self._gap, now - self._last, _NO_TIME)
        if most is AUTO:  # one, and what comes while two are dialled one after the other
            most = min(1 + ceil(2 * rtt / gap), AUTO_MOST)
        return min(int(self.keeps / gap), most)

    def kept(self, number: int, now: float) -> int:
        """How many there should be where the file gives a number: as many, unless the server just now takes none."""
        return number if now >= self._not_before else 0

    def dialled(self) -> None:
        """A spare is ready."""
        if self.keeps > _SHORTEST_LIFE:
            self._failures = 0

    def dial_failed(self, now: float) -> None:
        """A spare could not be had."""
        self._pause(now)

    def died(self, age: float, now: float) -> None:
        """A spare was closed by its server at this age: the next are given up well before that."""
        if not self._distrust or now - self._died > _AT_ONCE:
            self._distrust = min(self._distrust * 2 or DISTRUST_FIRST, DISTRUST_LONGEST)
        self.keeps, self._died = min(self.keeps, age / 2), now
        if self.keeps < _SHORTEST_LIFE:
            self.keeps = _SHORTEST_LIFE
            self._pause(now)

    def outlived(self) -> None:
        """A spare reached its age unused, and alive."""
        if self.keeps >= OLDEST:
            self._distrust = 0.0
        self.keeps = min(self.keeps * _LONGER, OLDEST)

    def idle(self, now: float) -> bool:
        """Whether nothing here is worth remembering any more."""
        last = self._last
        return (last is None or now - last >= PAUSE_LONGEST) and now >= self._not_before

    def _pause(self, now: float) -> None:
        self._not_before = now + min(PAUSE_FIRST * 2**self._failures, PAUSE_LONGEST)
        self._failures = min(self._failures + 1, 10)
