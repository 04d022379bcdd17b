"""Which endpoints a session tries, in which order: one strategy for each value of ``balance``.

A strategy yields endpoints forever or until it has none left, the best first, and may repeat itself; `Balancer` takes
the first few distinct ones that are available. What depends on all members is worked out once for each `Members`, so
that a cluster of a thousand costs a session what one of ten does.
"""

from __future__ import annotations

import hashlib
import heapq
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate, islice
from typing import Protocol

from proxy.core.address import Endpoint
from proxy.core.availability import Availability
from proxy.core.clusters import Balance, Cluster
from proxy.core.families import interleaved
from proxy.core.members import Members

POINTS = 40  # on the ring, for each unit of weight: shares differ by some 15 %
MOST_ADDRESSES = 16  # of one name that a session tries
_LOOKED_AT = 64  # members that a session looks at in search of available ones
_MOST_TURNS = 100_000  # of one round, where weights are huge


class Strategy(Protocol):
    """One way to choose."""

    def order(self, key: str) -> Iterator[int]:
        """Numbers of members, the best first; ``key`` is the client's address."""
        ...

    def loaded(self, number: int, sessions: int) -> None:
        """A member has so many sessions now."""
        ...


class Balancer:
    """The choices of one cluster."""

    __slots__ = ("_cluster", "_dice", "_members", "_most", "_strategy", "availability", "sessions")

    def __init__(self, cluster: Cluster, dice: Callable[[], float]) -> None:
        """``dice`` gives numbers from 0 to below 1, all equally likely."""
        self._cluster = cluster
        self._dice = dice
        self._most = MOST_ADDRESSES if cluster.is_one_name else 1 + cluster.connect.retries
        self._members = Members((), ())
        self._strategy: Strategy = _First(self._members)
        self.availability = Availability(cluster.eject)
        self.sessions: Counter[Endpoint] = Counter()

    def pick(self, members: Members, key: str, now: float) -> list[Endpoint]:
        """The endpoints to try, the best first: as many as the cluster lets a session try, of both address families.

        Those that are out come last, and only where the others are too few: trying one costs less than failing.
        """
        if members is not self._members:
            self._adopt(members)
        wanted = min(self._most, len(members))
        if not wanted:
            return []
        out = self.availability.out(members, now)
        chosen: dict[int, None] = {}
        last: dict[int, None] = {}
        for number in islice(self._strategy.order(key), _LOOKED_AT + len(out)):
            (last if members.endpoints[number] in out else chosen)[number] = None
            if len(chosen) == wanted:
                break
        if len(chosen) < wanted:
            self._fill(chosen, last, out, wanted)
        picked = [members.endpoints[number] for number in (*chosen, *last)][:wanted]
        return self._of_both_families(picked, members, out) if members.is_dual else picked

    def _of_both_families(
        self, picked: list[Endpoint], members: Members, out: frozenset[Endpoint]
    ) -> list[Endpoint]:
        """One of the other family is always among them, as far in front as the strategy allows."""
        first = picked[0].is_ipv6
        if all(endpoint.is_ipv6 is first for endpoint in picked):
            others = [endpoint for endpoint in members.endpoints if endpoint.is_ipv6 is not first]
            others = [endpoint for endpoint in others if endpoint not in out] or others
            picked.append(others[int(self._dice() * len(others))])
        if not self._cluster.is_interchangeable:
            return picked
        good = [endpoint for endpoint in picked if endpoint not in out]
        return [*interleaved(good), *interleaved([endpoint for endpoint in picked if endpoint in out])]

    def began(self, endpoint: Endpoint) -> None:
        """A session has been connected to ``endpoint``."""
        self.sessions[endpoint] += 1
        self._changed(endpoint)

    def ended(self, endpoint: Endpoint) -> None:
        """Such a session is over."""
        left = self.sessions[endpoint] - 1
        if left > 0:
            self.sessions[endpoint] = left
        else:
            del self.sessions[endpoint]
        self._changed(endpoint)

    def _changed(self, endpoint: Endpoint) -> None:
        number = self._members.at.get(endpoint)
        if number is not None:
            self._strategy.loaded(number, self.sessions[endpoint])

    def _adopt(self, members: Members) -> None:
        self._members = members
        self._strategy = _strategy(self._cluster.balance, members, self._dice)
        self.availability.keep(members)
        for endpoint in tuple(self.sessions):
            self._changed(endpoint)

    def _fill(
        self, chosen: dict[int, None], last: dict[int, None], out: frozenset[Endpoint], wanted: int
    ) -> None:
        for number, endpoint in enumerate(self._members.endpoints):
            if len(chosen) >= wanted:
                break
            (last if endpoint in out else chosen)[number] = None


def _strategy(balance: Balance, members: Members, dice: Callable[[], float]) -> Strategy:
    match balance:
        case Balance.ROUND_ROBIN:
            return _RoundRobin(members)
        case Balance.LEAST_CONNECTIONS:
            return _LeastConnections(members)
        case Balance.RANDOM:
            return _TwoChoices(members, dice)
        case Balance.SOURCE_HASH:
            return _Ring(members)
        case Balance.FIRST:
            return _First(members)


class _First:
    """The first; the others are its stand-ins."""

    __slots__ = ("_members",)

    def __init__(self, members: Members) -> None:
        self._members = members

    def order(self, key: str) -> Iterator[int]:  # noqa: ARG002  # one of several strategies
        return iter(range(len(self._members)))

    def loaded(self, number: int, sessions: int) -> None:
        pass


class _RoundRobin:
    """One after the other, those of greater weight more often, evenly spread over a round."""

    __slots__ = ("_round", "_turn")

    def __init__(self, members: Members) -> None:
        self._round = _interleaved(members.weights)
        self._turn = 0

    def order(self, key: str) -> Iterator[int]:  # noqa: ARG002  # one of several strategies
        whole, turn = self._round, self._turn
        self._turn = (turn + 1) % len(whole)
        return (whole[at % len(whole)] for at in range(turn, turn + len(whole)))

    def loaded(self, number: int, sessions: int) -> None:
        pass


def _interleaved(weights: tuple[int, ...]) -> tuple[int, ...]:
    """Each number as often as it weighs, as far from itself as can be."""
    total = sum(weights)
    if total > _MOST_TURNS:
        weights = tuple(max(1, weight * _MOST_TURNS // total) for weight in weights)
    elif len(set(weights)) <= 1:
        return tuple(range(len(weights)))
    due = [(1 / (2 * weight), number) for number, weight in enumerate(weights)]
    heapq.heapify(due)
    turns: list[int] = []
    for _ in range(sum(weights)):
        when, number = due[0]
        turns.append(number)
        heapq.heapreplace(due, (when + 1 / weights[number], number))
    return tuple(turns)


class _TwoChoices:
    """Of two drawn by weight, the one with fewer sessions for its weight (Mitzenmacher, 2001)."""

    __slots__ = ("_dice", "_load", "_sums", "_weights")

    def __init__(self, members: Members, dice: Callable[[], float]) -> None:
        self._weights = members.weights
        self._sums = list(accumulate(members.weights))
        self._load = [0.0] * len(members)
        self._dice = dice

    def order(self, key: str) -> Iterator[int]:  # noqa: ARG002  # one of several strategies
        while True:
            one, other = self._draw(), self._draw()
            if self._load[other] < self._load[one]:
                one, other = other, one
            yield one
            yield other

    def loaded(self, number: int, sessions: int) -> None:
        self._load[number] = sessions / self._weights[number]

    def _draw(self) -> int:
        return bisect_right(self._sums, self._dice() * self._sums[-1])


class _LeastConnections:
    """The fewest sessions for its weight; among equals the one that has waited longest for its turn."""

    __slots__ = ("_current", "_heap", "_turn", "_weights")

    def __init__(self, members: Members) -> None:
        self._weights = members.weights
        self._current = [(0.0, number) for number in range(len(members))]
        self._heap = [(*rank, rank[1]) for rank in self._current]  # load, turn, number; some of it outdated
        self._turn = len(members)

    def order(self, key: str) -> Iterator[int]:  # noqa: ARG002  # one of several strategies
        taken: list[tuple[float, int, int]] = []
        try:
            while self._heap:
                load, turn, number = entry = heapq.heappop(self._heap)
                if self._current[number] != (load, turn):
                    continue
                if not taken:  # the next session begins with another of the same load
                    self._turn += 1
                    self._current[number] = (load, self._turn)
                    entry = (load, self._turn, number)
                taken.append(entry)
                yield number
        finally:
            for entry in taken:
                heapq.heappush(self._heap, entry)

    def loaded(self, number: int, sessions: int) -> None:
        self._turn += 1
        load = sessions / self._weights[number]
        self._current[number] = (load, self._turn)
        heapq.heappush(self._heap, (load, self._turn, number))
        if len(self._heap) > 4 * len(self._current) + 64:
            self._heap = [(*rank, at) for at, rank in enumerate(self._current)]
            heapq.heapify(self._heap)


class _Ring:
    """A client always comes to the same endpoint; one that comes or goes moves only its own share (Karger, 1997)."""

    __slots__ = ("_numbers", "_points")

    def __init__(self, members: Members) -> None:
        ring = sorted(
            (_point(f"{endpoint}#{copy}"), number)
            for number, (endpoint, weight) in enumerate(zip(members.endpoints, members.weights, strict=True))
            for copy in range(POINTS * min(weight, 100))
        )
        self._points = [point for point, _ in ring]
        self._numbers = [number for _, number in ring]

    def order(self, key: str) -> Iterator[int]:
        start = bisect_right(self._points, _point(key))
        numbers = self._numbers
        return (numbers[at % len(numbers)] for at in range(start, start + len(numbers)))

    def loaded(self, number: int, sessions: int) -> None:
        pass


def _point(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
