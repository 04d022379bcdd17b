"""Where a moment lies on the picture's time axis: to scale, but never two ends of arrows on top of each other."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Iterable

TALL = 300.0  # what the time itself takes
GAP = 21.0  # between neighbours on one lifeline
_NO_TIME = 1e-9  # seconds: shorter than any packet takes


class Scale:
    """Made from the moments that are to be drawn, each with the lifeline it is on. The same for all panels."""

    def __init__(self, marks: Iterable[tuple[float, Hashable]]) -> None:
        lines: dict[float, set[Hashable]] = {}
        for moment, line in marks:
            lines.setdefault(moment, set()).add(line)
        span = max(lines, default=0.0)
        self._factor = TALL / (span if span > _NO_TIME else 1.0)
        self._moments, self._places = [0.0], [0.0]
        last: dict[Hashable, float] = {}
        for moment in sorted(lines):
            place = self._places[-1] + (moment - self._moments[-1]) * self._factor
            place = max(place, *(last[line] + GAP for line in lines[moment] if line in last), 0.0)
            last |= dict.fromkeys(lines[moment], place)
            self._moments.append(moment)
            self._places.append(place)

    @property
    def height(self) -> float:
        """Of everything."""
        return self._places[-1]

    def __call__(self, moment: float) -> float:
        """How far down a moment is."""
        after = bisect_right(self._moments, moment)
        before = max(after - 1, 0)
        start, place = self._moments[before], self._places[before]
        if after >= len(self._moments):
            return place + (moment - start) * self._factor
        share = (moment - start) / (self._moments[after] - start)
        return place + share * (self._places[after] - place)
