"""The standings of all endpoints, bounded, and what of them outlives the process.

Shared by everything in one process. The least recently dialled endpoint is forgotten first, but a quarantine is
not: forgetting one would let the next dial pay for it again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from proxy.core.address import Endpoint
from proxy.core.evidence import Evidence
from proxy.core.families import Families
from proxy.core.fastopen import LARGER_AFTER, LARGER_MOST, LONGEST_SENTENCE, Standing, State

MOST_ENDPOINTS = 10_000
_SENTENCED = frozenset({State.QUARANTINED, State.PROBING})
_TIMED = frozenset({State.QUARANTINED, State.UNSUPPORTED})
_LONGEST_RTT = 60.0


@dataclass(frozen=True, slots=True)
class Remembered:
    """One endpoint's standing as plain data.

    ``until`` is seconds since 1970 in the state file, which outlives the machine's other clocks. Between workers, who
    share one that nobody can set, it is of that one: ``wall`` is ``now`` then.
    """

    host: str
    port: int
    state: State
    until: float = 0.0
    sentence: float = 0.0
    cause: Evidence | None = None
    requested: int = 0
    ignored: int = 0
    syn_data: int | None = None
    answered: bool = False
    rtt: float | None = None
    rtt_variation: float = 0.0
    larger_after: float = 0.0
    banner: float | None = None


class Standings:
    """Endpoint → `Standing`, for at most ``most`` endpoints."""

    __slots__ = ("_latest", "_most", "_standings", "families")

    def __init__(self, most: int = MOST_ENDPOINTS) -> None:
        self._most = most
        self._latest: tuple[Endpoint, Standing] | None = (
            None  # who was asked for last: a session asks again and again
        )
        self.families = Families()
        self._standings: OrderedDict[Endpoint, Standing] = OrderedDict()

    def get(self, endpoint: Endpoint) -> Standing:
        """What is believed of ``endpoint``; a new `Standing` where nothing is."""
        latest = self._latest
        if latest is not None and latest[0] is endpoint:
            return latest[1]
        standing = self._standings.get(endpoint)
        if standing is None:
            standing = Standing()
            self._add(endpoint, standing)
        else:
            self._standings.move_to_end(endpoint)
        self._latest = endpoint, standing
        return standing

    def peek(self, endpoint: Endpoint) -> Standing | None:
        """The same for who only looks: nothing is made, and it does not count as use."""
        return self._standings.get(endpoint)

    def __len__(self) -> int:
        return len(self._standings)

    def __iter__(self) -> Iterator[tuple[Endpoint, Standing]]:
        """All of them, the least recently used first."""
        return iter(tuple(self._standings.items()))

    def remember(self, now: float, wall: float) -> list[Remembered]:
        """What is worth keeping. ``now`` is monotonic, ``wall`` is seconds since 1970, both of this moment."""
        return [
            _remembered(endpoint, standing, now, wall)
            for endpoint, standing in self._standings.items()
            if standing.state is not State.UNKNOWN or standing.rtt is not None
        ]

    def recall(self, remembered: Iterable[Remembered], now: float, wall: float) -> int:
        """Take in what an earlier process knew of endpoints not known yet; how many these were.

        What makes no sense (a damaged or meddled-with file) is left out.
        """
        taken = 0
        for entry in remembered:
            endpoint = Endpoint(entry.host, entry.port)
            if endpoint in self._standings or len(self._standings) >= self._most or not _plausible(entry):
                continue
            self._standings[endpoint] = _recalled(entry, now, wall)
            taken += 1
        return taken

    def adopt(self, entry: Remembered, now: float, wall: float) -> bool:
        """Take over what another worker believes now; False where it makes no sense, or we are finding out just now.

        Dials that were planned before are not counted against the endpoint once more.
        """
        endpoint = Endpoint(entry.host, entry.port)
        if not _plausible(entry):
            return False
        known = self._standings.get(endpoint)
        if known is None:
            self._add(endpoint, _recalled(entry, now, wall))
        elif known.state is State.PROBING:
            return False
        else:
            _overwrite(known, _recalled(entry, now, wall))
        return True

    def _add(self, endpoint: Endpoint, standing: Standing) -> None:
        standings = self._standings
        if len(standings) >= self._most:
            for _ in range(len(standings)):
                oldest = next(iter(standings))
                if standings[oldest].state not in _SENTENCED:
                    break
                standings.move_to_end(oldest)
            standings.popitem(last=False)
        standings[endpoint] = standing
        self._latest = None  # the one asked for last is no longer the last one


_SAYS = {
    State.UNKNOWN: 0, State.LEARNING: 1, State.UNSUPPORTED: 2, State.OPTION_DOUBTED: 3, State.DATA_DOUBTED: 3,
    State.CONFIRMED: 4, State.QUARANTINED: 5, State.PROBING: 5,
}  # fmt: skip


def says_more(one: State, other: State) -> bool:
    """Whether ``one`` is to be believed, where two workers have found out different things at about the same time."""
    return _SAYS[one] > _SAYS[other]


class SharedStandings(Standings):
    """The standings of one worker of several: it is known which of them may have changed."""

    __slots__ = ("_touched",)

    def __init__(self, most: int = MOST_ENDPOINTS) -> None:
        super().__init__(most)
        self._touched: set[Endpoint] = set()

    def get(self, endpoint: Endpoint) -> Standing:
        """As `Standings.get`: whoever asks may change it."""
        if len(self._touched) < self._most:
            self._touched.add(endpoint)
        return super().get(endpoint)

    def take_touched(self, most: int) -> list[Endpoint]:
        """At most ``most`` of those that may have changed since they were last taken."""
        return [self._touched.pop() for _ in range(min(most, len(self._touched)))]

    def shared(self, endpoint: Endpoint, now: float, wall: float) -> Remembered | None:
        """What other workers should know of it; None: nothing. While we are probing they are to wait."""
        standing = self.peek(endpoint)
        if standing is None or (standing.state is State.UNKNOWN and standing.rtt is None):
            return None
        entry = _remembered(endpoint, standing, now, wall)
        if standing.state is State.PROBING:
            entry = replace(entry, until=wall + max(standing.until - now, 0.0))
        return entry


def _remembered(endpoint: Endpoint, standing: Standing, now: float, wall: float) -> Remembered:
    state, until = standing.state, wall + standing.until - now
    if state is State.PROBING:  # nobody will be there to hear what the probe found
        state, until = State.QUARANTINED, wall
    return Remembered(
        host=endpoint.host,
        port=endpoint.port,
        state=state,
        until=until if state in _TIMED else 0.0,
        sentence=standing.sentence,
        cause=standing.cause,
        requested=standing.requested,
        ignored=standing.ignored,
        syn_data=standing.syn_data,
        answered=standing.answered,
        rtt=standing.rtt,
        rtt_variation=standing.rtt_variation,
        larger_after=standing.larger_after,
        banner=standing.banner,
    )


def _recalled(entry: Remembered, now: float, wall: float) -> Standing:
    standing = Standing()
    standing.state = State.QUARANTINED if entry.state is State.PROBING else entry.state
    standing.sentence = entry.sentence
    if (
        standing.state in _TIMED
    ):  # a wall clock that was set meanwhile must not make a sentence longer than it was
        standing.until = now + min(max(entry.until - wall, 0.0), entry.sentence)
    standing.cause = entry.cause
    standing.requested, standing.ignored = entry.requested, entry.ignored
    standing.syn_data = entry.syn_data
    if entry.syn_data is not None:  # a state of an earlier version has no time for it
        standing.larger_after = min(max(entry.larger_after, LARGER_AFTER), LARGER_MOST)
        standing.larger_at = now + standing.larger_after
    standing.answered, standing.banner = entry.answered, entry.banner
    standing.losses.in_a_row = int(standing.doubted)
    standing.rtt, standing.rtt_variation = entry.rtt, entry.rtt_variation
    return standing


def _overwrite(standing: Standing, by: Standing) -> None:
    standing.state, standing.sentence, standing.until, standing.cause = (
        by.state,
        by.sentence,
        by.until,
        by.cause,
    )
    standing.requested, standing.ignored, standing.syn_data = by.requested, by.ignored, by.syn_data
    standing.larger_after, standing.larger_at = by.larger_after, by.larger_at
    standing.answered, standing.losses = by.answered, by.losses
    if by.rtt is not None:
        standing.rtt, standing.rtt_variation = by.rtt, by.rtt_variation
    if by.banner is not None:
        standing.banner = by.banner
    standing.era += 1


def _plausible(entry: Remembered) -> bool:
    return (
        bool(entry.host)
        and 0 <= entry.port <= 65535
        and 0.0 <= entry.sentence <= LONGEST_SENTENCE
        and entry.until == entry.until  # nan is not
        and entry.requested >= 0
        and entry.ignored >= 0
        and (entry.syn_data is None or 0 < entry.syn_data <= 65535)
        and (entry.rtt is None or 0.0 < entry.rtt <= _LONGEST_RTT)
        and 0.0 <= entry.rtt_variation <= _LONGEST_RTT
        and 0.0 <= entry.larger_after <= LARGER_MOST
        and (entry.banner is None or entry.banner >= 0.0)
    )
