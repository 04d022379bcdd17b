"""How an endpoint answers: whether, after how long, and so after which silence to worry."""

from __future__ import annotations

from proxy.core.snapshot import AUTO, Auto, Cluster, FastOpen

_AUTO = FastOpen.AUTO  # bound once: asking an enum for a member costs as much as a call (Python 3.11)
NEAR = 100e-6  # seconds; waking the other process takes as long (decision 0012)
STAGGER = 0.25  # seconds between dials to addresses of one destination (RFC 8305 section 5)
STAGGER_LEAST = 0.1
HEDGE_UNKNOWN = 0.25
HEDGE_LEAST = 0.03
HEDGE_MOST = 1.0
ANSWER_LEAST = 1.0  # an endpoint that is known to answer may think at least so long


class Pace:
    """Learned from handshakes and answers. Seconds."""

    __slots__ = (
        "_hedge",
        "answered",
        "banner",
        "client_first",
        "greeted",
        "quiet",
        "rtt",
        "rtt_variation",
        "slowest",
    )

    def __init__(self) -> None:
        self.rtt: float | None = None
        self.rtt_variation = 0.0
        self.slowest = 0.0  # what the slowest answers took of late, from when they could have come
        self.answered = False  # SYN data was once followed by an answer, so silence is not the path's
        self.greeted = False  # an empty open was
        self.quiet = False  # it does not speak first, also not on a plain connection
        self.client_first = False  # its client has spoken first in the last session, as far as is known
        self.banner: float | None = None  # what a banner takes after a plain handshake
        self._hedge: float | None = None  # what the round trips so far suggest; None: to be worked out

    def learn_rtt(self, sample: float) -> None:
        """Take in one clean handshake's round trip (smoothed as in RFC 6298, but trusting the first)."""
        self._hedge = None
        if self.rtt is None:
            self.rtt, self.rtt_variation = sample, sample / 8
            return
        self.rtt_variation += (abs(sample - self.rtt) - self.rtt_variation) / 4
        self.rtt += (sample - self.rtt) / 8

    def learn_banner(self, took: float) -> None:
        """Take in one banner, so many seconds after a handshake that was as good as plain. The least counts."""
        self.banner = took if self.banner is None else min(took, self.banner + (took - self.banner) / 8)

    def learn_answer(self, after: float) -> None:
        """Take in one answer, ``after`` seconds from when it could have come."""
        self.slowest = max(after, self.slowest + (after - self.slowest) / 8)

    def is_near(self, cluster: Cluster) -> bool:
        """Whether the endpoint is so near (on this host) that there is no round trip worth thinking about."""
        return self.rtt is not None and self.rtt < NEAR and cluster.fast_open is _AUTO

    def hedge_after(self, configured: float | Auto | None) -> float | None:
        """How long without a handshake until waiting longer is worse than a second dial; None: for ever."""
        if configured is not AUTO:
            return configured
        if self.rtt is None:
            return HEDGE_UNKNOWN
        if self._hedge is None:
            late = self.rtt + max(self.rtt / 2, 4 * self.rtt_variation)
            self._hedge = min(max(late, HEDGE_LEAST), HEDGE_MOST)
        return self._hedge

    def stagger(self) -> float:
        """How long without a handshake until another address of the destination is dialled (RFC 8305 section 5)."""
        if self.rtt is None:
            return STAGGER
        return max(self.hedge_after(AUTO) or STAGGER, STAGGER_LEAST)

    def overdue_after(self) -> float:
        """How long an endpoint that is known to answer may stay silent before something is wrong."""
        return max(ANSWER_LEAST, 4 * self.slowest)
