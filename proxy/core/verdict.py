"""Is there Fast Open on this path? What to dial next to find out, and when enough is known to say so.

A probe is a row of trials, made one after another. `decide` looks at those made so far and answers with the next one
or with a verdict. A single loss proves nothing, so every suspicion is repeated, and between repetitions an ordinary
dial is made: what that suffers too is not Fast Open's fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from proxy.core.evidence import Evidence
from proxy.core.fastopen import Open
from proxy.core.outcomes import Reason

REPETITIONS = 3  # as many faults in a row make a verdict, more where ordinary dials suffer as well
LOSSES = 4  # as many where they are losses: on a path that loses a tenth of its packets three happen
REQUESTS = (
    4  # Linux asks by option 34 and 254 in turn, so a path that strips one of them needs a second request
)
MOST_TRIALS = 24
MOST_IN_TROUBLE = 12  # where half of the ordinary dials suffer


class Verdict(StrEnum):
    """What a path does with Fast Open."""

    WORKS = "works"
    COOKIE_ONLY = "cookie-only"  # as far as can be seen without sending a byte
    NOT_SHOWN = "not-shown"  # the cookie was there before, of whatever port of that address
    PATH_MTU = "path-mtu"  # works, but not with a full-sized SYN
    NO_COOKIE = "no-cookie"
    IGNORED = "ignored"
    DROPS_SYN_DATA = "drops-syn-data"
    DROPS_OPTION = "drops-option"
    RESETS = "resets"
    REJECTS = "rejects"
    SILENT = "silent"
    UNCLEAR = "unclear"  # too much gets lost to tell
    UNAVAILABLE = "unavailable-here"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"


class Load(StrEnum):
    """What a dial sends."""

    NONE = "none"
    SMALL = "small"  # fits every SYN
    LARGE = "large"  # fills a SYN and goes on behind it


class Reaction(StrEnum):
    """What came back after the handshake."""

    UNASKED = "unasked"  # not waited for
    ANSWER = "answer"
    CLOSED = "closed"
    RESET = "reset"
    SILENCE = "silence"


class Step(NamedTuple):
    """One dial to be made."""

    open: Open
    load: Load


class Trial(NamedTuple):
    """One dial made. Times are seconds since it began."""

    step: Step
    failure: Reason | None = None  # no handshake came about
    evidence: Evidence | None = None
    syn_bytes: int = 0
    handshake: float | None = None
    rtt: float | None = None  # the kernel's, of this handshake
    retransmits: int = 0
    reaction: Reaction = Reaction.UNASKED
    first_byte: float | None = None
    cookie: bool | None = None  # whether the kernel has one now; None: it would not say


class Abilities(NamedTuple):
    """What the prober has to send."""

    small: bool
    large: bool


Decision: TypeAlias = Step | Verdict
_FAILURES = {
    Reason.REFUSED: Verdict.REFUSED,
    Reason.UNREACHABLE: Verdict.UNREACHABLE,
    Reason.CONNECT_TIMEOUT: Verdict.TIMEOUT,
}


class Fault(StrEnum):
    """What may be Fast Open's fault."""

    LOST = "lost"
    RESET = "reset"
    REJECTED = "rejected"
    SILENT = "silent"


_OF_OPTION = {
    Fault.LOST: Verdict.DROPS_OPTION,
    Fault.RESET: Verdict.RESETS,
    Fault.REJECTED: Verdict.REJECTS,
    Fault.SILENT: Verdict.SILENT,
}
_OF_DATA = {**_OF_OPTION, Fault.LOST: Verdict.DROPS_SYN_DATA}
_OF_SIZE = {**_OF_OPTION, Fault.LOST: Verdict.PATH_MTU}


def decide(trials: Sequence[Trial], abilities: Abilities) -> Decision:
    """The next trial, or the verdict."""
    plain = Step(Open.PLAIN, Load.SMALL if abilities.small else Load.NONE)
    controls = [trial for trial in trials if trial.step == plain]
    reached = [trial for trial in controls if trial.failure is None]
    if not reached and controls:
        failure = controls[-1].failure or Reason.CONNECT_TIMEOUT
        if len(controls) > 1 or failure is Reason.CONNECT_TIMEOUT:
            return _FAILURES.get(failure, Verdict.UNREACHABLE)
    if any(trial.evidence is Evidence.UNAVAILABLE for trial in trials):
        return Verdict.UNAVAILABLE
    troubled, controls_made = _troubled(trials)
    if len(trials) >= (MOST_TRIALS if 2 * troubled < controls_made else MOST_IN_TROUBLE):
        return Verdict.WORKS if _acked(trials, Load.SMALL) else Verdict.UNCLEAR
    if len(reached) < 2:
        return plain
    if not has_cookie(trials):
        return _seek_cookie(trials, plain)
    if not abilities.small:
        return _without_data(trials, plain)
    return _with_data(trials, plain, abilities)


def has_cookie(trials: Sequence[Trial]) -> bool:
    """Whether the kernel has a cookie for this endpoint, as the last fast open showed."""
    for trial in reversed(trials):
        if trial.step.open is Open.PLAIN:
            continue
        if trial.cookie is not None:
            return trial.cookie
        if trial.syn_bytes or trial.evidence is Evidence.EMPTY_OPEN:
            return True
    return False


def saved(trials: Sequence[Trial]) -> float | None:
    """Seconds by which the first byte came earlier with Fast Open; None where that was not seen."""
    fast = [t.first_byte for t in trials if t.evidence in _OPENED and t.first_byte is not None]
    slow = [t.first_byte for t in trials if t.step.open is Open.PLAIN and t.first_byte is not None]
    return max(0.0, min(slow) - min(fast)) if fast and slow else None


_OPENED = frozenset({Evidence.SYN_DATA_ACKED, Evidence.EMPTY_OPEN})


def _seek_cookie(trials: Sequence[Trial], plain: Step) -> Decision:
    step = Step(Open.EMPTY, Load.NONE)
    made = [trial for trial in trials if trial.step.open is not Open.PLAIN]
    if made and made[-1].evidence is Evidence.EMPTY_OPEN:
        return Verdict.UNAVAILABLE  # no cookie, and none was asked for: the kernel's blackhole pause is on
    if sum(trial.evidence is Evidence.COOKIE_REQUESTED for trial in made) >= REQUESTS:
        return Verdict.NO_COOKIE
    return _suspected(trials, step, plain, _OF_OPTION) or step


def _without_data(trials: Sequence[Trial], plain: Step) -> Decision:
    """No bytes may be sent, so only a server that speaks first can show the round trip saved."""
    step = Step(Open.EMPTY, Load.NONE)
    made = [trial for trial in trials if trial.evidence is Evidence.EMPTY_OPEN and trial.step == step]
    banners = [t.first_byte for t in trials if t.step == plain and t.first_byte is not None]
    suspected = _suspected(trials, step, plain, _OF_OPTION)
    if suspected is not None:
        return suspected
    if not banners:
        if not made:
            return step
        # The kernel keeps cookies by address: without having seen this server give it, it may be a neighbour's.
        given = any(trial.evidence is Evidence.COOKIE_REQUESTED and trial.cookie for trial in trials)
        return Verdict.COOKIE_ONLY if given else Verdict.NOT_SHOWN
    in_time = [trial for trial in made if trial.reaction is not Reaction.UNASKED]
    early = [
        t for t in in_time if t.first_byte is not None and t.rtt and t.first_byte < min(banners) - t.rtt / 2
    ]
    if len(early) >= 2:
        return Verdict.WORKS
    return Verdict.IGNORED if not early and len(in_time) >= REPETITIONS else step


def _with_data(trials: Sequence[Trial], plain: Step, abilities: Abilities) -> Decision:
    step = Step(Open.DATA, Load.SMALL)
    made = [trial for trial in trials if trial.step == step]
    acked = _acked(trials, Load.SMALL)
    if not acked:
        evidence = Counter(trial.evidence for trial in made)
        if evidence[Evidence.EMPTY_OPEN] >= 2:
            return Verdict.UNAVAILABLE  # a cookie, and the kernel makes no use of it
        if evidence[Evidence.SYN_DATA_NOT_ACKED] >= REPETITIONS:
            return Verdict.IGNORED
        if evidence[Evidence.COOKIE_REQUESTED] >= REPETITIONS:
            return Verdict.NO_COOKIE
        return _suspected(trials, step, plain, _OF_DATA) or step
    if abilities.large:
        decision = _with_large(trials, plain)
        if decision is not None:
            return decision
    return step if len(made) - made.index(acked[0]) < 3 else Verdict.WORKS


def _with_large(trials: Sequence[Trial], plain: Step) -> Decision | None:
    """None once a full-sized SYN is known to make no difference."""
    step, control = Step(Open.DATA, Load.LARGE), Step(Open.PLAIN, Load.LARGE)
    made = [trial for trial in trials if trial.step == step]
    if any(trial.evidence is Evidence.PATH_MTU for trial in made):
        return Verdict.PATH_MTU
    if not made:
        return step
    if made[-1].reaction is Reaction.SILENCE and not any(trial.step == control for trial in trials):
        return control
    if _fault(made[-1], trials) is None or len(made) > 2 * REPETITIONS:
        return None
    silent = made[-1].reaction is Reaction.SILENCE
    return _suspected(trials, step, control if silent else plain, _OF_SIZE) or step


def _acked(trials: Sequence[Trial], load: Load) -> list[Trial]:
    return [
        trial
        for trial in trials
        if trial.evidence is Evidence.SYN_DATA_ACKED
        and trial.step == Step(Open.DATA, load)
        and _fault(trial, trials) is None
    ]


def _suspected(
    trials: Sequence[Trial], step: Step, control: Step, verdicts: dict[Fault, Verdict]
) -> Decision | None:
    """The verdict once there are faults enough in a row, a control before the next try, or None: no suspicion."""
    made = [_fault(trial, trials) for trial in trials if trial.step == step]
    row: list[Fault] = []
    for fault in reversed(made):
        if fault is None:
            break
        row.append(fault)
    if not row:
        return None
    if trials[-1].step != control:
        return control
    troubled, all_of_them = _troubled(trials)
    fault = Counter(row).most_common(1)[0][0]
    needed = LOSSES if fault is Fault.LOST else REPETITIONS
    if len(row) >= needed + troubled and 2 * troubled < all_of_them:
        return verdicts[fault]
    return None


def _fault(trial: Trial, trials: Sequence[Trial]) -> Fault | None:
    if trial.step.open is Open.PLAIN:
        return None
    if trial.failure is not None:
        return {
            Reason.REFUSED: Fault.RESET,
            Reason.UNREACHABLE: Fault.REJECTED,
            Reason.NET_UNREACHABLE: Fault.REJECTED,
        }.get(trial.failure, Fault.LOST)
    if trial.evidence in {Evidence.OPTION_LOST, Evidence.SYN_DATA_LOST}:
        return Fault.LOST
    reactions = {t.reaction for t in trials if t.step.open is Open.PLAIN and t.step.load is trial.step.load}
    if trial.reaction is Reaction.RESET and reactions and Reaction.RESET not in reactions:
        return Fault.RESET
    if trial.reaction is Reaction.SILENCE and reactions - {Reaction.SILENCE, Reaction.UNASKED}:
        return Fault.SILENT
    return None


def _troubled(trials: Sequence[Trial]) -> tuple[int, int]:
    """How many ordinary dials had a loss or a failure, and how many there were."""
    plain = [trial for trial in trials if trial.step.open is Open.PLAIN]
    return sum(bool(trial.retransmits) or trial.failure is not None for trial in plain), len(plain)
