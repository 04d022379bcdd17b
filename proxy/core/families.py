"""The order in which the addresses of a name are dialled: what failed lately comes last (RFC 8305 sections 4 and 5).

Where the other family overtook the first dial, the next ones begin with it for a while. Where that happens with
several names and nothing has come of the slow family since, it is slow for every name: a network with a broken IPv6
costs a quarter of a second three times, and not once for each name.
"""

from __future__ import annotations

from collections.abc import Sequence

from proxy.core.address import Endpoint

SLOW_FOR = 600.0  # seconds
FAILED_FOR = 60.0
_SEVERAL = 3  # names
_MOST_NAMES = 1000


class Families:
    """What is known of the ways to names. ``now`` is monotonic seconds."""

    __slots__ = ("_everywhere", "_failed", "_slow")

    def __init__(self) -> None:
        self._slow: dict[tuple[str, bool], float] = {}  # name and whether it is IPv6 → until when
        self._failed: dict[Endpoint, float] = {}  # until when each comes after the others
        self._everywhere: dict[bool, set[str]] = {False: set(), True: set()}  # since a dial of it last worked

    def overtaken(self, name: str, endpoint: Endpoint, now: float) -> None:
        """A dial to ``endpoint`` was overtaken by one of the other family to the same name."""
        key = name, endpoint.is_ipv6
        self._slow.pop(key, None)
        while len(self._slow) >= _MOST_NAMES:
            del self._slow[next(iter(self._slow))]
        self._slow[key] = now + SLOW_FOR
        names = self._everywhere[endpoint.is_ipv6]
        if len(names) < _SEVERAL:
            names.add(name)

    def failed(self, endpoint: Endpoint, now: float) -> None:
        """A dial to ``endpoint`` failed, or another address of its name was there long before."""
        self._failed.pop(endpoint, None)
        while len(self._failed) >= _MOST_NAMES:
            del self._failed[next(iter(self._failed))]
        self._failed[endpoint] = now + FAILED_FOR

    def worked(self, name: str, endpoint: Endpoint) -> None:
        """A dial to ``endpoint`` was not overtaken."""
        if self._failed:
            self._failed.pop(endpoint, None)
        if self._slow:
            self._slow.pop((name, endpoint.is_ipv6), None)
            self._everywhere[endpoint.is_ipv6].clear()

    def ordered(self, name: str, candidates: Sequence[Endpoint], now: float) -> Sequence[Endpoint]:
        """The candidates for ``name``: those of a slow family after the others, those that failed lately last."""
        if not (self._slow or self._failed) or len(candidates) < 2:
            return candidates
        slow = [
            (now < self._failed.get(endpoint, 0.0), self._is_slow(name, endpoint.is_ipv6, now))
            for endpoint in candidates
        ]
        if all(late for _, late in slow):
            slow = [(failed, False) for failed, _ in slow]
        order = sorted(range(len(candidates)), key=slow.__getitem__)
        return [candidates[number] for number in order]

    def _is_slow(self, name: str, is_ipv6: bool, now: float) -> bool:
        until = self._slow.get((name, is_ipv6), 0.0)
        if len(self._everywhere[is_ipv6]) >= _SEVERAL:
            until = max(
                until, *(self._slow.get((other, is_ipv6), 0.0) for other in self._everywhere[is_ipv6])
            )
        return now < until


def interleaved(candidates: Sequence[Endpoint]) -> Sequence[Endpoint]:
    """The candidates with the address families in turn, from that of the first (RFC 8305 section 4)."""
    if len(candidates) < 3:
        return candidates
    first = [endpoint for endpoint in candidates if endpoint.is_ipv6 is candidates[0].is_ipv6]
    other = [endpoint for endpoint in candidates if endpoint.is_ipv6 is not candidates[0].is_ipv6]
    if not other:
        return candidates
    both = min(len(first), len(other))
    pairs = [endpoint for pair in zip(first, other, strict=False) for endpoint in pair]
    return pairs + first[both:] + other[both:]
