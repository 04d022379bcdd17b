"""Who speaks first, and how long a client's first bytes are worth waiting for.

One `Patience` for each listener and cluster. It keeps two things: how likely the server is to speak first
(short memory, because one deployment changes it), and how late clients speak (long memory, because that is a
habit of their software). A wait is chosen by what it is expected to win or lose against a plain dial at accept
time, for a client that speaks ``d`` seconds after accept, a round trip of ``rtt``, and a wait of ``w``:

- ``d <= w``: the bytes leave at ``d`` in the SYN; a plain dial's leave at ``max(d, rtt)``. Won: ``max(rtt - d, 0)``.
- ``d > w``: we dial at ``w``, so they leave at ``max(w + rtt, d)``. Lost: that less ``max(rtt, d)``.
- the server speaks first: its banner comes ``w`` later than it could. Lost: ``w``.

A session in which nobody speaks keeps nobody waiting, so it counts for nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import frexp, inf, isfinite

from proxy.core.clusters import AUTO, Auto, Cluster, Replay, ServerFirst

DEFAULT_CEILING = 0.05  # what Happy Eyeballs lets a user wait for a better connection (RFC 8305 section 8)
SERVER_FIRST_PORTS = frozenset({21, 22, 25, 110, 143, 220, 587, 3306, 5900, 6667})
UNKNOWN_RTT = 0.05

# Upper edges of the delays told apart, halving from the ceiling; the first is for bytes that were there at accept,
# and behind the last comes "too late to matter".
_EDGES = (0.0, *(DEFAULT_CEILING / 2**halvings for halvings in range(8, -3, -1)))
_DELAYS = (*_EDGES, 2 * _EDGES[-1])
_MIDDLES = (0.0, *(0.75 * edge for edge in _DELAYS[1:]))
_LAST = len(_DELAYS) - 1
_USUAL = (0.1, 0.1, 0.1, 0.15, 0.15, 0.1, 0.08, 0.06, 0.05, 0.04, 0.03, 0.02, 0.02)  # until more is known
_BLUR = (0.75, 0.15, 0.07, 0.03)  # the next client may be a little later than this one
_RECENT = 0.6  # weight of what was believed of the server before the newest session
_HABIT = 0.97  # the same of the clients' delays
_TOO_HEAVY = 1e9
_SELDOM = 0.02  # no server is trusted never to speak first: that would be punished by the whole ceiling
_UNKNOWN_SERVER = 0.1
_CAUGHT = 20e-6  # one segment and one wake-up of the server less, even where no time is won
_SETTLED = 8  # sessions after which it is thought over only
_SURPRISED = 2  # so many sessions later, where the last one was a surprise
_ROUTINE = 32  # or so many, where none was

# Bound once: asking an enum for a member costs as much as a call (Python 3.11).
_YES, _NO, _NONE = ServerFirst.YES, ServerFirst.NO, Replay.NONE


@dataclass(frozen=True, slots=True)
class Habits:
    """A `Patience` as plain data, for the state file."""

    server_first: float
    sessions: int
    delays: tuple[float, ...]  # weights of the buckets, adding up to 1


class Patience:
    """Learns from every session who speaks first; cheap enough to be asked at each."""

    __slots__ = ("_answers", "_decay", "_delays", "_longest", "_news", "server_first", "sessions")

    def __init__(self, ports: Collection[int] = ()) -> None:
        """``ports``: where the cluster's endpoints listen."""
        self.server_first = 1.0 if any(port in SERVER_FIRST_PORTS for port in ports) else _UNKNOWN_SERVER
        self.sessions = 0  # in which somebody spoke
        self._delays = list(_USUAL)
        self._decay = 1.0  # weight of the next delay: it grows, which is cheaper than shrinking all others
        self._answers: dict[tuple[float, float, bool], float] = {}
        self._longest = 0.0  # of `_answers`
        self._news = 0

    def wait(self, ceiling: float, rtt: float | None) -> float:
        """Seconds worth waiting for early data now, at most ``ceiling``; 0 where the server speaks first."""
        mantissa, exponent = frexp(rtt or UNKNOWN_RTT)
        key = (ceiling, exponent, mantissa >= 0.75)  # half an octave of round trips shares one answer
        answer = self._answers.get(key)
        if answer is None:
            if len(self._answers) > 64:
                self._answers.clear()
            answer = self._answers[key] = self._best(ceiling, rtt or UNKNOWN_RTT)
            self._longest = max(self._longest, answer)
        return answer

    def wait_for(self, cluster: Cluster, configured: float | Auto, rtt: float | None) -> float:
        """The same under a cluster's settings and a listener's ``timeouts.first_bytes``."""
        if cluster.server_first is _YES or cluster.replay is _NONE:
            return 0.0
        if configured is not AUTO:
            return configured
        if cluster.server_first is _NO:
            return DEFAULT_CEILING
        return self.wait(DEFAULT_CEILING, rtt)

    def client_spoke(self, after: float, silent_until: float | None = None) -> None:
        """The client spoke first, ``after`` seconds after accept (``inf``: unknown).

        Where it was not watched all the time, ``silent_until`` is the last moment at which it was known not to have
        spoken; its delay is then taken to be anything in between, as likely as it has been.
        """
        surprise = after > self._longest or (silent_until is not None and self._longest == 0.0)
        self._who(0.0, surprise=surprise)
        self._decay /= _HABIT
        last = bisect_left(_EDGES, after)
        if silent_until is None:
            self._add(last)
        else:
            self._spread(min(bisect_right(_EDGES, silent_until), last), last)
        if self._decay > _TOO_HEAVY:
            self._delays = [weight / self._decay for weight in self._delays]
            self._decay = 1.0

    def server_spoke(self) -> None:
        """The upstream's first byte came before any from the client."""
        self._who(1.0, surprise=self._longest > 0.0)

    def silent(self) -> None:
        """Nobody said anything before the session ended: nobody was kept waiting either."""

    def habits(self) -> Habits:
        """What is known, as plain data."""
        total = sum(self._delays)
        return Habits(self.server_first, self.sessions, tuple(weight / total for weight in self._delays))

    def recall(self, habits: Habits) -> bool:
        """Go on from what an earlier process knew; False, and nothing changed, where that makes no sense."""
        weights = habits.delays
        if len(weights) != len(_DELAYS) or not all(0.0 <= weight <= 1.0 for weight in weights):
            return False
        if not 0.5 <= sum(weights) <= 1.5 or not 0.0 <= habits.server_first <= 1.0 or habits.sessions < 0:
            return False
        remembered = min(habits.sessions, 1 / (1 - _HABIT))
        self.server_first, self.sessions = habits.server_first, habits.sessions
        self._delays, self._decay = [weight * (1 + remembered) for weight in weights], 1.0
        self._forget_answers()
        return True

    def _who(self, server: float, *, surprise: bool) -> None:
        """One session more: ``server`` is 1 when it spoke first. The first ever outweighs what was guessed."""
        self.server_first = server if not self.sessions else server + _RECENT * (self.server_first - server)
        self.sessions += 1
        self._news += 1
        if self.sessions <= _SETTLED or self._news >= (_SURPRISED if surprise else _ROUTINE):
            self._forget_answers()

    def _forget_answers(self) -> None:
        self._answers.clear()
        self._longest, self._news = 0.0, 0

    def _add(self, bucket: int) -> None:
        """One delay more, of which the bucket is known."""
        delays = self._delays
        for part in _BLUR:
            delays[bucket] += part * self._decay
            if bucket < _LAST:
                bucket += 1

    def _spread(self, first: int, last: int) -> None:
        """One delay more, in one of these buckets, as likely as each has been so far (and usually is)."""
        likely = [self._delays[bucket] + _USUAL[bucket] * self._decay for bucket in range(first, last + 1)]
        total = sum(likely)
        for bucket, weight in enumerate(likely, first):
            self._delays[bucket] += weight / total * self._decay

    def _best(self, ceiling: float, rtt: float) -> float:
        server = max(self.server_first, _SELDOM)
        total = sum(self._delays)
        clients = [weight * (1 - server) / total for weight in self._delays]
        edges = [edge for edge in _EDGES if edge <= ceiling]
        if ceiling > edges[-1] and isfinite(ceiling):
            edges.append(ceiling)
        best, most = 0.0, -inf
        for wait in edges:
            gain = _gain(wait, rtt, clients) - server * wait
            if gain > most:
                best, most = wait, gain
        return best


def _gain(wait: float, rtt: float, clients: Sequence[float]) -> float:
    """Seconds won, less those lost, over all clients; ``clients`` are the weights of the buckets."""
    ready = wait + rtt
    gain = 0.0
    for latest, delay, weight in zip(_DELAYS, _MIDDLES, clients, strict=True):
        if latest <= wait:
            gain += weight * (max(rtt - delay, 0.0) + _CAUGHT)
        elif delay < ready:
            gain -= weight * (ready - max(rtt, delay))
        else:
            break
    return gain
