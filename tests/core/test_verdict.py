"""Verdicts from rows of trials: a path is played by a function from step to trial."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.evidence import Evidence
from proxy.core.fastopen import Open
from proxy.core.outcomes import Reason
from proxy.core.verdict import (
    MOST_TRIALS,
    Abilities,
    Load,
    Reaction,
    Step,
    Trial,
    Verdict,
    decide,
    has_cookie,
    saved,
)

ALL, SMALL, NOTHING = (
    Abilities(small=True, large=True),
    Abilities(small=True, large=False),
    Abilities(False, False),
)
Path = Callable[[Step, list[Trial]], Trial]
RTT = 0.1


def run(path: Path, abilities: Abilities = ALL) -> tuple[Verdict, list[Trial]]:
    trials: list[Trial] = []
    while isinstance(step := decide(trials, abilities), Step):
        assert len(trials) < MOST_TRIALS
        assert step.load is Load.NONE or abilities.small
        assert step.load is not Load.LARGE or abilities.large
        trials.append(path(step, trials))
    return step, trials


def good(step: Step, before: list[Trial]) -> Trial:
    """A clean path to a server that does Fast Open and answers at once."""
    cookie = has_cookie(before)
    evidence = {
        Open.PLAIN: Evidence.PLAIN,
        Open.EMPTY: Evidence.EMPTY_OPEN if cookie else Evidence.COOKIE_REQUESTED,
        Open.DATA: Evidence.SYN_DATA_ACKED if cookie else Evidence.COOKIE_REQUESTED,
    }[step.open]
    asked = step.load is not Load.NONE
    return Trial(
        step,
        evidence=evidence,
        syn_bytes=100 if step.open is Open.DATA else 0,
        handshake=RTT,
        rtt=RTT,
        reaction=Reaction.ANSWER if asked else Reaction.UNASKED,
        first_byte=(RTT if evidence is Evidence.SYN_DATA_ACKED else 2 * RTT) if asked else None,
        cookie=cookie if step.open is Open.PLAIN else True,
    )


def bad(when: Callable[[Step], bool], **what: object) -> Path:
    def path(step: Step, before: list[Trial]) -> Trial:
        trial = good(step, before)
        return trial._replace(**what) if when(step) else trial  # type: ignore[arg-type]  # of many kinds

    return path


def opens(step: Step) -> bool:
    return step.open is not Open.PLAIN


def carries(step: Step) -> bool:
    return step.open is Open.DATA


def fills(step: Step) -> bool:
    return step == Step(Open.DATA, Load.LARGE)


NO_ANSWER = {"reaction": Reaction.SILENCE, "first_byte": None}


@pytest.mark.parametrize(
    ("path", "verdict"),
    [
        (good, Verdict.WORKS),
        (bad(opens, evidence=Evidence.COOKIE_REQUESTED, cookie=False), Verdict.NO_COOKIE),
        (bad(opens, evidence=Evidence.COOKIE_REQUESTED, cookie=None, syn_bytes=0), Verdict.NO_COOKIE),
        (bad(opens, evidence=Evidence.OPTION_LOST, cookie=False), Verdict.DROPS_OPTION),
        (bad(opens, failure=Reason.CONNECT_TIMEOUT, evidence=None, cookie=None), Verdict.DROPS_OPTION),
        (bad(opens, evidence=Evidence.UNAVAILABLE, cookie=False), Verdict.UNAVAILABLE),
        (bad(opens, evidence=Evidence.EMPTY_OPEN, cookie=False), Verdict.UNAVAILABLE),
        (bad(carries, evidence=Evidence.EMPTY_OPEN, syn_bytes=0), Verdict.UNAVAILABLE),
        (bad(carries, evidence=Evidence.SYN_DATA_LOST), Verdict.DROPS_SYN_DATA),
        (bad(carries, evidence=Evidence.SYN_DATA_NOT_ACKED), Verdict.IGNORED),
        (bad(carries, failure=Reason.REFUSED, evidence=None), Verdict.RESETS),
        (bad(carries, failure=Reason.UNREACHABLE, evidence=None), Verdict.REJECTS),
        (bad(carries, reaction=Reaction.RESET, first_byte=None), Verdict.RESETS),
        (bad(carries, **NO_ANSWER), Verdict.SILENT),
        (bad(lambda step: step.load is not Load.NONE, **NO_ANSWER), Verdict.WORKS),  # silent to everybody
        (bad(fills, evidence=Evidence.PATH_MTU), Verdict.PATH_MTU),
        (bad(fills, evidence=Evidence.SYN_DATA_LOST), Verdict.PATH_MTU),
        (bad(fills, **NO_ANSWER), Verdict.SILENT),
        (bad(lambda step: step.load is Load.LARGE, **NO_ANSWER), Verdict.WORKS),  # a plain one is silent, too
        (bad(fills, evidence=Evidence.SYN_DATA_NOT_ACKED), Verdict.WORKS),
        (bad(lambda _: True, failure=Reason.REFUSED, evidence=None), Verdict.REFUSED),
        (bad(lambda _: True, failure=Reason.UNREACHABLE, evidence=None), Verdict.UNREACHABLE),
        (bad(lambda _: True, failure=Reason.CONNECT_TIMEOUT, evidence=None), Verdict.TIMEOUT),
    ],
)
def test_each_path_has_its_verdict(path: Path, verdict: Verdict) -> None:
    assert run(path)[0] is verdict


def test_a_clean_path_takes_seven_dials() -> None:
    verdict, trials = run(good)
    assert (verdict, len(trials)) == (Verdict.WORKS, 7)
    assert saved(trials) == pytest.approx(RTT)


def test_suspicions_are_repeated_with_ordinary_dials_between() -> None:
    _, trials = run(bad(carries, evidence=Evidence.SYN_DATA_LOST))
    kinds = "".join("D" if trial.step.open is Open.DATA else "." for trial in trials)
    assert kinds == "...D.D.D.D."


def test_where_ordinary_dials_suffer_as_well_nothing_is_blamed() -> None:
    def path(step: Step, before: list[Trial]) -> Trial:
        trial = good(step, before)._replace(retransmits=1)
        return trial._replace(evidence=Evidence.OPTION_LOST, cookie=False) if opens(step) else trial

    verdict, trials = run(path)
    assert verdict is Verdict.UNCLEAR
    assert len(trials) <= 12


def test_reached_once_and_never_again_nothing_is_known() -> None:
    def path(step: Step, before: list[Trial]) -> Trial:
        trial = good(step, before)
        return trial._replace(failure=Reason.CLOSED, evidence=None) if before else trial

    verdict, trials = run(path)
    assert (verdict, len(trials)) == (Verdict.UNCLEAR, 12)


def lossy(seed: int) -> Path:
    """A tenth of all first SYNs is lost."""
    dice = random.Random(seed)

    def path(step: Step, before: list[Trial]) -> Trial:
        trial = good(step, before)
        if dice.random() < 0.1:
            lost = Evidence.SYN_DATA_LOST if step.open is Open.DATA else Evidence.OPTION_LOST
            evidence = Evidence.PLAIN if step.open is Open.PLAIN else lost
            return trial._replace(evidence=evidence, retransmits=1, cookie=has_cookie(before))
        return trial

    return path


def test_ten_percent_random_loss_is_not_a_middlebox() -> None:
    assert {run(lossy(seed))[0] for seed in range(200)} == {Verdict.WORKS}


def server_first(saves: bool) -> Path:
    def path(step: Step, before: list[Trial]) -> Trial:
        trial = good(step, before)
        early = saves and trial.evidence is Evidence.EMPTY_OPEN
        return trial._replace(reaction=Reaction.ANSWER, first_byte=RTT if early else 2 * RTT)

    return path


def neighbours(step: Step, before: list[Trial]) -> Trial:
    """The kernel has had the cookie all the time."""
    trial = good(step, before)
    asked = trial.evidence is Evidence.COOKIE_REQUESTED
    return trial._replace(evidence=Evidence.EMPTY_OPEN if asked else trial.evidence, cookie=True)


@pytest.mark.parametrize(
    ("path", "verdict"),
    [
        (good, Verdict.COOKIE_ONLY),
        (neighbours, Verdict.NOT_SHOWN),
        (server_first(saves=True), Verdict.WORKS),
        (server_first(saves=False), Verdict.IGNORED),
        (bad(opens, evidence=Evidence.OPTION_LOST, cookie=False), Verdict.DROPS_OPTION),
        (bad(opens, evidence=Evidence.COOKIE_REQUESTED, cookie=False), Verdict.NO_COOKIE),
    ],
)
def test_without_a_byte_to_send(path: Path, verdict: Verdict) -> None:
    assert run(path, NOTHING)[0] is verdict


TRIALS = st.builds(
    Trial,
    st.just(Step(Open.PLAIN, Load.NONE)),
    st.sampled_from([None, None, None, *Reason]),
    st.sampled_from([None, *Evidence]),
    st.sampled_from([0, 100]),
    st.just(RTT),
    st.sampled_from([None, RTT]),
    st.sampled_from([0, 1]),
    st.sampled_from(Reaction),
    st.sampled_from([None, RTT, 2 * RTT]),
    st.sampled_from([None, True, False]),
)


@settings(max_examples=8)
@given(st.lists(TRIALS, min_size=MOST_TRIALS, max_size=MOST_TRIALS), st.sampled_from([ALL, SMALL, NOTHING]))
def test_whatever_happens_it_comes_to_an_end(outcomes: list[Trial], abilities: Abilities) -> None:
    run(lambda step, before: outcomes[len(before)]._replace(step=step), abilities)
