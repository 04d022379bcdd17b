"""The last hour, minute by minute: sums that only grow, looked at now and then, and what each minute added to them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from proxy.admin import views
from proxy.telemetry.region import OfWay

KEPT = 60  # minutes
LATELY = 300.0  # seconds, over which "per minute" is taken


class Mark(NamedTuple):
    """What the sums were at one moment."""

    sessions: float = 0
    round_trips_saved: float = 0
    seconds_saved: float = 0.0
    seconds_lost: float = 0.0
    bytes: float = 0


def mark(total: Sequence[float]) -> Mark:
    """From the slots of all ways together."""
    return Mark(
        total[OfWay.SESSIONS],
        total[OfWay.ROUND_TRIPS_SAVED],
        total[OfWay.SECONDS_SAVED],
        total[OfWay.SECONDS_LOST],
        total[OfWay.UP_BYTES] + total[OfWay.DOWN_BYTES],
    )


class Minutes:
    """``now`` is monotonic seconds, minutes are counted from when this was made; ``before`` is what they were then."""

    def __init__(self, now: float, before: Mark) -> None:
        self._began = now
        self._marks: deque[tuple[int, Mark]] = deque(
            [(0, before)], maxlen=KEPT
        )  # at the beginning of a minute
        self._last = before
        self._seen: deque[tuple[float, Mark]] = deque([(now, before)])

    def look(self, seen: Mark, now: float) -> None:
        """Take in what the sums are now; to be called every few seconds, whoever watches."""
        minute = int((now - self._began) // 60)
        if minute > self._marks[-1][0]:
            self._marks.append((minute, self._last))
        self._last = seen
        self._seen.append((now, seen))
        while len(self._seen) > 1 and now - self._seen[1][0] >= LATELY:
            self._seen.popleft()

    def per_minute(self, now: float) -> tuple[float, float]:
        """Round trips and seconds saved in a minute, of late."""
        since, before = self._seen[0]
        span = max(now - since, 60.0) / 60
        return (
            (self._last.round_trips_saved - before.round_trips_saved) / span,
            (self._last.seconds_saved - before.seconds_saved) / span,
        )

    def views(self, began: float) -> list[views.Minute]:
        """The oldest first; minutes in which nobody looked are part of the one before.

        ``began`` is when this was made, by the clock on the wall as it goes now.
        """
        ends = [start for _, start in list(self._marks)[1:]] + [self._last]
        return [
            views.Minute(
                began=began + 60 * minute,
                sessions=int(end.sessions - start.sessions),
                round_trips_saved=int(end.round_trips_saved - start.round_trips_saved),
                seconds_saved=end.seconds_saved - start.seconds_saved,
                seconds_lost=end.seconds_lost - start.seconds_lost,
                bytes=int(end.bytes - start.bytes),
            )
            for (minute, start), end in zip(self._marks, ends, strict=True)
        ]
