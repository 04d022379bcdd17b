"""What we believe of one endpoint's Fast Open, and what that allows the next dial to do.

The law: everything that moves a standing from one state to another is in ``NEXT``, a total table of state and
evidence. The rest of this file only walks it, counts, and keeps time. The picture in ``docs/fastopen.svg`` is drawn
from the table.

Two ideas carry it. A single loss proves nothing, because networks lose packets; two in a row are a middlebox
until shown otherwise (up to five where losses are common, `core.losses`). And a path that ate a SYN once may be
mended later, so every sentence ends in one probe. The kernel keeps no such memory for us: since Linux 4.13 it has none
per destination, and the global switch (``tcp_fastopen_blackhole_timeout_sec``) is off by default since 5.14 (commit
213ad73d).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from proxy.core.evidence import LOSSES, Evidence
from proxy.core.losses import Losses
from proxy.core.pace import Pace
from proxy.core.snapshot import AUTO, Auto, Cluster, FastOpen

FIRST_SENTENCE = 60.0
LONGEST_SENTENCE = 3600.0 * 4
LATELY = 300.0  # an endpoint that was reached so lately will be reached again, but for accidents
PROBE_PATIENCE = 60.0  # a probe that never reported (a cancelled session) is written off after this
FIRST_COMPARISON = (
    5.0  # plain dials for so long where plain connections end without an answer, too; doubled each time
)
LONGEST_COMPARISON = 300.0  # and as long as that until one of them has shown it
UNCOUNTED = 3  # so many requests for a cookie, or ignored SYNs, in a row mean "not here"
LARGER_AFTER = 600.0  # a SYN of more than SMALL_SYN is tried again after this, doubled each time it is lost
LARGER_MOST = 86400.0
SMALL_SYN = 1200  # fits every path that carries IPv6 (minimum MTU 1280, RFC 8200 section 5) with its options


class State(StrEnum):
    """What is believed of an endpoint."""

    UNKNOWN = "unknown"
    LEARNING = "learning"  # the option gets through; whether data is taken is not known yet
    CONFIRMED = "confirmed"  # the last SYN data was taken
    UNSUPPORTED = "unsupported"  # no cookie ever comes, or data is always ignored: harmless and useless
    OPTION_DOUBTED = "option_doubted"  # one SYN with the bare option was lost
    DATA_DOUBTED = "data_doubted"  # one SYN with data was lost, reset, or led to silence
    QUARANTINED = "quarantined"  # dialled plainly until the sentence ends
    PROBING = "probing"  # the sentence has ended and one dial is finding out


def _row(default: State, **exceptions: State) -> dict[Evidence, State]:
    return {evidence: exceptions.get(evidence.name, default) for evidence in Evidence}


_U, _L, _C, _N = State.UNKNOWN, State.LEARNING, State.CONFIRMED, State.UNSUPPORTED
_DOUBTS = frozenset({State.OPTION_DOUBTED, State.DATA_DOUBTED})
_OD, _DD, _Q, _P = State.OPTION_DOUBTED, State.DATA_DOUBTED, State.QUARANTINED, State.PROBING

# fmt: off
NEXT: dict[State, dict[Evidence, State]] = {
    _U: _row(_U, SYN_DATA_ACKED=_C, EMPTY_OPEN=_L, COOKIE_REQUESTED=_L, COOKIE_WITHHELD=_N, SYN_DATA_NOT_ACKED=_L,
             SYN_DATA_IGNORED=_N, PATH_MTU=_L, SYN_ACK_LOST=_L,
             OPTION_LOST=_OD, SYN_DATA_LOST=_DD, REFUSED=_DD, SILENT=_DD),
    _L: _row(_L, SYN_DATA_ACKED=_C, COOKIE_WITHHELD=_N, SYN_DATA_IGNORED=_N,
             OPTION_LOST=_OD, SYN_DATA_LOST=_DD, REFUSED=_DD, SILENT=_DD),
    _C: _row(_C, COOKIE_REQUESTED=_L, COOKIE_WITHHELD=_N, SYN_DATA_NOT_ACKED=_L, SYN_DATA_IGNORED=_N,
             OPTION_LOST=_OD, SYN_DATA_LOST=_DD, REFUSED=_DD, SILENT=_DD),
    _N: _row(_N, SYN_DATA_ACKED=_C, EMPTY_OPEN=_L,
             OPTION_LOST=_OD, SYN_DATA_LOST=_DD, REFUSED=_DD, SILENT=_DD),
    _OD: _row(_OD, SYN_DATA_ACKED=_C, EMPTY_OPEN=_L, COOKIE_REQUESTED=_L, COOKIE_WITHHELD=_N, SYN_DATA_NOT_ACKED=_L,
              SYN_DATA_IGNORED=_N, PATH_MTU=_L, SYN_ACK_LOST=_L,
              OPTION_LOST=_Q, SYN_DATA_LOST=_Q, REFUSED=_Q, SILENT=_Q),
    # A bare option that gets through does not clear a doubt about data: on some paths only data is dropped.
    _DD: _row(_DD, SYN_DATA_ACKED=_C, SYN_DATA_NOT_ACKED=_L, SYN_DATA_IGNORED=_N, COOKIE_WITHHELD=_N,
              OPTION_LOST=_Q, SYN_DATA_LOST=_Q, REFUSED=_Q, SILENT=_Q),
    # Late news from dials that began before the sentence changes nothing, except that data was taken after all.
    _Q: _row(_Q, SYN_DATA_ACKED=_C),
    # No cookie in a probe (it may have been lost since) shows only that the option gets through: learn again.
    _P: _row(_P, SYN_DATA_ACKED=_C, EMPTY_OPEN=_L, COOKIE_REQUESTED=_L, COOKIE_WITHHELD=_N, SYN_DATA_NOT_ACKED=_L,
             SYN_DATA_IGNORED=_N, PATH_MTU=_L, SYN_ACK_LOST=_L,
             OPTION_LOST=_Q, SYN_DATA_LOST=_Q, REFUSED=_Q, SILENT=_Q),
}
# fmt: on


class Open(StrEnum):
    """How a dial is made."""

    DATA = "data"  # the early data in the SYN
    EMPTY = "empty"  # without data: safe to repeat, keeps the cookie, lets the server speak at once
    PLAIN = "plain"


class Plan(NamedTuple):
    """How one dial is to be made, and the standing it was planned under."""

    open: Open
    limit: int  # most bytes for the SYN
    hedge: float | None  # seconds without a handshake after which a plain dial starts beside it; None: never
    probe: bool  # this dial decides whether a quarantine ends
    era: int  # see `Standing.era`
    alone: bool = False  # it takes a risk that no other dial takes until it has reported


PLAIN_PLAN = Plan(Open.PLAIN, 0, None, probe=False, era=-1)

# Bound once: asking an enum for a member costs as much as a call (Python 3.11).
_DATA, _EMPTY = Open.DATA, Open.EMPTY
_OFF, _AUTO, _ALWAYS = FastOpen.OFF, FastOpen.AUTO, FastOpen.ALWAYS
_ACKED, _NOT_ACKED, _EMPTY_OPEN = Evidence.SYN_DATA_ACKED, Evidence.SYN_DATA_NOT_ACKED, Evidence.EMPTY_OPEN
_REQUESTED, _PATH_MTU, _DROPPED = Evidence.COOKIE_REQUESTED, Evidence.PATH_MTU, Evidence.ANSWER_DROPPED
_UNKNOWN, _CONFIRMED, _UNSUPPORTED, _QUARANTINED, _PROBING = _U, _C, _N, _Q, _P
_USUAL_SYN = 1420  # bytes of data that fit a SYN with its options on a path for packets of 1500
_LOCKED_UP, _SENTENCED = frozenset({_Q, _P}), frozenset({_Q, _P, _N})
_REPEATED = frozenset({Evidence.COOKIE_WITHHELD, Evidence.SYN_DATA_IGNORED})
_AGAINST = LOSSES | {Evidence.ANSWER_DROPPED}
# An answer that is dropped costs some ten round trips, each SYN with data saves one: one in ten is too much. Where a
# plain dial brings it at once it costs little more than one, and a second connection.
_MENDED = 0.4
_DROPS_MOST, _DROPS_FEW, _DROPS_MEMORY = 1.5, 0.25, 1 / 16
_UNPROVEN = _DOUBTS | {_L}
_OPTION_UNSURE = frozenset({_U, _OD})


@dataclass(slots=True)
class Unanswered:
    """A fast-opened connection was ended without a byte; plain dials show whether the path or the server did it."""

    until: float  # dial plainly until then, monotonic
    seconds: float  # and for how long that was in all
    blamed: bool  # no plain connection has ended in the same way so far


class Standing(Pace):
    """What is believed of one endpoint. Changed only through its methods."""

    __slots__ = (
        "_taken", "_undecided_until", "cause", "down", "drops", "era", "ignored", "larger_after", "larger_at", "losses",
        "reached",
        "requested", "sentence", "stalls", "state", "syn_data", "unanswered", "until",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.state = State.UNKNOWN
        self.era = 0  # grows with every count against; dials planned in an older era are not counted twice
        self.requested = 0  # cookies asked for in a row
        self.ignored = 0  # SYNs in a row whose data was not acked
        self.sentence = 0.0  # length of the last quarantine, seconds
        self.until = 0.0  # QUARANTINED: its end; PROBING: the probe is written off; UNSUPPORTED: next try
        self.cause: Evidence | None = None  # what the last quarantine was for
        self.syn_data: int | None = None  # most bytes for a SYN on this path; None: what the MSS allows
        self.reached: float | None = None  # when a handshake last ended well; None: the last one did not
        self.larger_after = 0.0  # seconds from the loss of a larger SYN until one is tried again
        self.larger_at = 0.0  # and when that is
        self.losses = Losses()
        self.drops = 0.0  # answers lately that came before the SYN-ACK and were dropped
        self.down = False  # the last dial failed, and it was plain: there is nothing to be found out
        self.unanswered: Unanswered | None = None  # a fast open ended so, and plain dials have to show why
        self.stalls = (
            False  # what followed a SYN was lost here, and no other packet behind one was acked since
        )
        self._taken = 0.0  # until when the risk is another dial's, see `Plan.alone`
        self._undecided_until = (
            0.0  # a silent connection may still be answered until then, see `wait_for_answer`
        )

    def wait_for_answer(self, now: float) -> None:
        """A fast open is silent while a plain dial was answered: dial plainly until `answer_decided` is called."""
        self._undecided_until = now + PROBE_PATIENCE

    def answer_decided(self) -> None:
        """It is known whether the silent connection was answered, or it was given up."""
        self._undecided_until = 0.0

    def learn(  # what a dial showed
        self,
        evidence: Evidence,
        plan: Plan,
        now: float,
        syn_bytes: int = 0,
        *,
        answered: bool = True,
        sure: bool = False,
    ) -> Evidence:
        """Take in what a dial showed, and return it, or what it amounts to with those before it.

        ``syn_bytes`` is what its SYN carried; ``now`` is monotonic seconds. Without ``answered``, SYN data that was
        acknowledged has had no answer yet, which is no proof as long as there was none before; and no plain dial has
        brought an answer that was dropped.
        A loss that is ``sure`` cannot be chance, since networks lose packets but do not make up a RST or a FIN: it
        leads to a quarantine without a second one.
        """
        self.reached, self.down = now, False
        if plan.alone:
            self._taken = 0.0
        if evidence in _AGAINST and plan.era != self.era:
            return evidence  # planned before the last loss was known: the same event, not a second one
        counted = self._count(evidence, plan, answered=answered)
        before, self.state = self.state, NEXT[self.state][counted]
        if sure and evidence in LOSSES and self.state in _DOUBTS:
            self.state = _QUARANTINED
        if evidence in LOSSES:
            self._lost(evidence, syn_bytes, now)
        elif counted is _ACKED or (before in _DOUBTS and self.state not in _DOUBTS):
            self.losses.got_through()
        if evidence is _PATH_MTU:
            self._limit(now)
        elif evidence is _DROPPED:
            self._answer_dropped(now, _MENDED if answered else 1.0)
        elif counted is _ACKED:
            self._taken_well(syn_bytes)
        if self.state is _UNSUPPORTED and before is not _UNSUPPORTED:
            self.sentence = self._longer()
            self.until = now + self.sentence
        return counted if counted in _REPEATED else evidence

    def learn_end(self, evidence: Evidence, plan: Plan, now: float, *, answered: bool) -> None:
        """Take in how a session ended that was fast-opened so: ``answered``, or after a suspicious silence."""
        if answered and not self.stalls:
            self.unanswered = None
        if evidence is _ACKED:
            self.answered = answered
            if answered and self.state is not _CONFIRMED:
                self.learn(evidence, plan, now)
        elif evidence is _EMPTY_OPEN and (answered or self.greeted):
            self.greeted = answered
        elif evidence is _EMPTY_OPEN:
            self.learn(Evidence.SILENT, plan, now)

    def failed(self) -> None:
        """A plain dial failed: until one gets through, no other is worth more than one SYN at a time."""
        self.down = True

    def ended_unanswered(self, plan: Plan, now: float) -> None:
        """A fast-opened connection was ended (RST, FIN, time-out) without a byte, and could not be compared.

        Counts as a loss, and dials are plain until one of them tells whose doing it was (`plain_ended`).
        """
        self.learn(Evidence.SILENT, plan, now)
        if self.state is not _QUARANTINED:
            self._dial_plainly(now, blamed=True)

    def stalled(self, plan: Plan, now: float) -> None:
        """What followed a SYN of a fast-opened connection does not seem to reach the server."""
        self.stalls = True
        self.ended_unanswered(plan, now)

    def compared(self, plan: Plan, now: float, *, plain_answered: bool) -> None:
        """A fast-opened connection was ended without a byte; a plain one that was told the same was answered, or not.

        Without an answer it is the server's way to end, and it is not asked twice again for a while.
        """
        if plain_answered:
            self.learn(Evidence.SILENT, plan, now, sure=True)
        else:
            self._dial_plainly(now, blamed=False)

    def plain_ended(self, now: float, *, answered: bool) -> None:
        """A plain connection has ended, ``answered`` or without a byte, while `unanswered` is not settled."""
        open_question = self.unanswered
        if open_question is None:
            return
        if not answered:
            self._dial_plainly(now, blamed=False)
            return
        self.unanswered = None
        if open_question.blamed and self.state in _DOUBTS:
            self.learn(Evidence.SILENT, PLAIN_PLAN._replace(era=self.era), now, sure=True)

    def _dial_plainly(self, now: float, *, blamed: bool) -> None:
        before, seconds = self.unanswered, LONGEST_COMPARISON
        if not blamed:
            known = before.seconds if before is not None and not before.blamed else 0.0
            if before is None or now >= before.until or not known:
                known = min(known * 2, LONGEST_COMPARISON) or FIRST_COMPARISON
            seconds = known
        self.answered = self.greeted = False
        self.unanswered = Unanswered(now + seconds, seconds, blamed)

    def _compares(self, now: float) -> bool:
        return self.unanswered is not None and now < self.unanswered.until

    def abandon(self, plan: Plan) -> None:
        """A dial ended without having shown anything (it failed, or nobody wanted it any more)."""
        self._taken = 0.0 if plan.alone else self._taken
        if plan.probe and self.state is _PROBING:
            self.until = 0.0

    def plan(self, cluster: Cluster, safe: int, now: float, unsafe: int = 0) -> Plan:
        """How to dial now, with ``safe`` early bytes that may be sent twice and ``unsafe`` ones behind them.

        Marks the probe it hands out, and who takes a risk alone.
        """
        if cluster.fast_open is _OFF:
            return PLAIN_PLAN
        if cluster.fast_open is _AUTO and (self.down or now < self._undecided_until):
            return PLAIN_PLAN
        probe = False
        if cluster.fast_open is _AUTO and (self._compares(now) or self._wins_nothing(safe, unsafe)):
            return PLAIN_PLAN
        if cluster.fast_open is _AUTO and self.state in _LOCKED_UP:
            if now < self.until or (self._about_data() and not safe):
                return PLAIN_PLAN
            self.state, self.until, probe = _PROBING, now + PROBE_PATIENCE, True
        limit = (
            0 if self._useless(cluster, now) else min(safe, self._largest_now(cluster.syn_data, safe, now))
        )
        if unsafe and not self.answered and cluster.fast_open is _AUTO:
            limit = 0  # if this path turned out to be silent, nobody could start over
        alone = False
        if cluster.fast_open is _AUTO and not probe and self._risky(limit):
            if now < self._taken:
                return PLAIN_PLAN  # with first bytes an empty open could win nothing either
            alone = self.take_risk(now)
        kind = _DATA if limit else _EMPTY
        return Plan(kind, limit, self.hedge_after(cluster.hedge), probe, self.era, alone)

    def _wins_nothing(self, safe: int, unsafe: int) -> bool:
        """Whether there are first bytes, none of which may ride in the SYN: all that a fast open could do is fail.

        An endpoint that nothing is known of is asked for its cookie nevertheless. Without first bytes a fast open may
        bring a banner sooner, but not where clients speak first: what they say then must not be lost with it.
        """
        if not (safe or unsafe):
            return self.client_first and self.state in _UNPROVEN and not (self.answered or self.greeted)
        return unsafe > 0 and self.state is not _UNKNOWN and not (safe and self.answered)

    def take_risk(self, now: float) -> bool:
        """Let nobody else take the risk until this dial has reported; True if it may."""
        if now < self._taken:
            return False
        self._taken = now + PROBE_PATIENCE
        return True

    @property
    def doubted(self) -> bool:
        """Whether a dial was lost lately that nothing has made up for."""
        return self.state in _DOUBTS or self.state is _QUARANTINED

    def largest_syn(self, configured: int | Auto) -> int:
        """Most bytes for a SYN: what the path has shown to take, and no more than is configured."""
        learned = self.syn_data if self.syn_data is not None else 65535
        return learned if configured is AUTO else min(learned, configured)

    def _largest_now(self, configured: int | Auto, safe: int, now: float) -> int:
        """The same, or once in a while what is configured: one lost SYN may have been chance, and paths change."""
        if (
            self.syn_data is None
            or safe <= self.syn_data
            or now < self.larger_at
            or self.state is not _CONFIRMED
        ):
            return self.largest_syn(configured)
        self.larger_at = now + self.larger_after
        return 65535 if configured is AUTO else configured

    def worth_waiting(self, cluster: Cluster, now: float) -> bool:
        """Whether first bytes, if they came, could ride in a SYN to this endpoint."""
        if cluster.fast_open is _OFF:
            return False
        if cluster.fast_open is _ALWAYS:
            return True
        if self.state in _SENTENCED:
            return now >= self.until
        return not (self.down or self._compares(now))

    def keeps_word(self, cluster: Cluster, now: float) -> bool:
        """Whether a client may be told that it is connected before it is, and has something to win by it."""
        if self.reached is None or now - self.reached > LATELY or self.state is _UNKNOWN:
            return False
        return self.worth_waiting(cluster, now)

    def brings_nothing(self, cluster: Cluster, safe: int, now: float) -> bool:
        """Whether a dial with ``safe`` early bytes could win nothing and find out nothing: time for a spare."""
        if cluster.fast_open is not _AUTO:
            return cluster.fast_open is _OFF
        if self._compares(now):
            return True
        if self.state in _LOCKED_UP:
            return now < self.until or (self._about_data() and not safe)
        return self.state is _UNSUPPORTED and now < self.until

    def carries(self, cluster: Cluster, early: int) -> int:
        """How many of so many early bytes a SYN may carry, as far as the path has shown."""
        return min(early, self.largest_syn(cluster.syn_data), _USUAL_SYN)

    def _useless(self, cluster: Cluster, now: float) -> bool:
        """UNSUPPORTED endpoints get empty opens, which cost nothing and show a change; data again once in a while."""
        if self.state is not _UNSUPPORTED or cluster.fast_open is _ALWAYS:
            return False
        if now < self.until:
            return True
        self.sentence = self._longer()
        self.until = now + self.sentence
        return False

    def _risky(self, limit: int) -> bool:
        """Whether such a dial could be lost for all we know: one at a time finds out, the others go without."""
        if limit:
            return self.state is not _CONFIRMED or not self.answered
        return not self._option_passes()

    def _option_passes(self) -> bool:
        return self.state not in _OPTION_UNSURE

    def _about_data(self) -> bool:
        return self.cause is not Evidence.OPTION_LOST

    def _longer(self) -> float:
        return min(self.sentence * 2, LONGEST_SENTENCE) or FIRST_SENTENCE

    def _count(self, evidence: Evidence, plan: Plan, *, answered: bool) -> Evidence:
        """The evidence; its stronger form where it is the last straw, its weaker where it may be chance."""
        if evidence in LOSSES:
            enough = self.losses.lost()
            return evidence if enough or self.state not in _DOUBTS else Evidence.PLAIN
        if evidence is _REQUESTED:
            if plan.era == self.era:
                self.requested += 1
                self.era += 1
            return Evidence.COOKIE_WITHHELD if self.requested >= UNCOUNTED else evidence
        if evidence is _NOT_ACKED:
            if plan.era == self.era:
                self.ignored += 1
                self.era += 1
            self.requested = 0
            return Evidence.SYN_DATA_IGNORED if self.ignored >= UNCOUNTED else evidence
        if evidence is _ACKED:
            self.requested = self.ignored = 0
            if not (answered or self.answered):
                return Evidence.PLAIN if self.state is _PROBING else _EMPTY_OPEN
        elif evidence is _EMPTY_OPEN:
            self.requested = 0
            if self.ignored >= UNCOUNTED:
                return Evidence.PLAIN  # a cookie was never what was missing: nothing new
        return evidence

    def _lost(self, evidence: Evidence, syn_bytes: int, now: float) -> None:
        self.era += 1
        if evidence is Evidence.SILENT:
            self.answered = self.greeted = False
        if evidence is Evidence.SYN_DATA_LOST and syn_bytes > SMALL_SYN:
            self._limit(now)  # a path MTU without ICMP looks the same: try smaller before giving up
        if self.state is _QUARANTINED:
            self.cause = evidence
            self.losses.in_a_row = 0
            self.sentence = self._longer()
            self.until = now + self.sentence
        elif self.cause is None:
            self.cause = evidence

    def _limit(self, now: float) -> None:
        """Smaller SYNs for a while, twice as long as the last time."""
        self.syn_data = SMALL_SYN
        self.larger_after = min(max(self.larger_after * 2, LARGER_AFTER), LARGER_MOST)
        self.larger_at = now + self.larger_after

    def _taken_well(self, syn_bytes: int) -> None:
        """SYN data was taken and answered."""
        if syn_bytes > SMALL_SYN:
            self.syn_data, self.larger_after = None, 0.0
        self.drops -= self.drops * _DROPS_MEMORY
        if self.stalls:
            return
        if self.drops < _DROPS_FEW:
            self.sentence = 0.0
        self.cause = None

    def _answer_dropped(self, now: float, weight: float) -> None:
        """An answer overtook the SYN-ACK: plain dials where that happens too often to be worth it."""
        self.drops += weight
        if self.drops >= _DROPS_MOST:
            self.drops = 1.0
            self.era += 1
            self.state, self.cause = _QUARANTINED, _DROPPED
            self.sentence = self._longer()
            self.until = now + self.sentence
