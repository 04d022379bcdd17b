from __future__ import annotations

import pytest

from proxy.admin import words
from proxy.core.evidence import LOSSES, Evidence
from proxy.core.fastopen import FIRST_SENTENCE, LONGEST_SENTENCE, Open, Plan, Standing, State

PLAN = Plan(Open.DATA, 100, None, probe=False, era=0)
NOON = 1_795_435_200.0


def standing_of(state: State, **fields: object) -> Standing:
    standing = Standing()
    standing.state = state
    for name, value in fields.items():
        setattr(standing, name, value)
    return standing


@pytest.mark.parametrize("cause", [None, *sorted(LOSSES)])
@pytest.mark.parametrize("state", list(State))
def test_every_standing_has_its_words(state: State, cause: Evidence | None) -> None:
    said = words.why(standing_of(state, cause=cause, sentence=60.0, until=30.0), 0.0, NOON)
    assert said
    assert said[0].islower()
    assert not said.endswith(".")
    assert "None" not in said


def test_the_third_time_in_quarantine() -> None:
    standing, now, until = Standing(), 0.0, 0.0
    for _ in range(3):
        while standing.state is not State.QUARANTINED:
            standing.learn(Evidence.SYN_DATA_LOST, PLAN._replace(era=standing.era), now, 100)
        until, now = standing.until, standing.until + 1
        standing.state = State.PROBING
    standing.state, standing.until = State.QUARANTINED, until
    said = words.why(standing, until - 60, NOON)
    assert said == f"drops SYN data: plain until {words.clock(NOON + 60)}, 3rd time"
    assert words.times(standing) == 3
    assert words.until(standing, until - 60, NOON) == NOON + 60
    assert "until the next connection has tried again, 3rd time" in words.why(standing, until + 1, NOON)


@pytest.mark.parametrize(
    ("sentence", "times"),
    [(0, 0), (FIRST_SENTENCE, 1), (2 * FIRST_SENTENCE, 2), (4 * FIRST_SENTENCE, 3), (LONGEST_SENTENCE, 9)],
)
def test_how_often(sentence: float, times: int) -> None:
    assert words.times(standing_of(State.QUARANTINED, sentence=float(sentence))) == times


def test_what_is_not_put_off() -> None:
    assert words.until(standing_of(State.CONFIRMED, until=99.0), 0.0, NOON) is None


def test_near_small_and_useless() -> None:
    assert "so near" in words.why(standing_of(State.CONFIRMED, rtt=0.00005), 0.0, NOON)
    assert "at most 1200 bytes" in words.why(standing_of(State.CONFIRMED, rtt=0.1, syn_data=1200), 0.0, NOON)
    assert "never takes the data" in words.why(standing_of(State.UNSUPPORTED, ignored=3), 0.0, NOON)
    assert "gives no cookie" in words.why(standing_of(State.UNSUPPORTED, requested=3, until=60.0), 0.0, NOON)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "1st"),
        (2, "2nd"),
        (3, "3rd"),
        (4, "4th"),
        (11, "11th"),
        (12, "12th"),
        (13, "13th"),
        (21, "21st"),
        (112, "112th"),
    ],
)
def test_ordinals(number: int, text: str) -> None:
    assert words.ordinal(number) == text
