from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.clusters import AUTO, Auto
from proxy.core.spares import (
    AUTO_MOST,
    DISTRUST_FIRST,
    DISTRUST_LONGEST,
    OLDEST,
    PAUSE_FIRST,
    PAUSE_LONGEST,
    Demand,
)

RTT = 0.1
MANY = 1000


def regular(
    gap: float, times: int = 40, demand: Demand | None = None, start: float = 0.0
) -> tuple[Demand, float]:
    """Sessions so far apart, and when the last one came."""
    demand = demand or Demand()
    now = start
    for number in range(times):
        now = start + number * gap
        demand.arrived(now)
    return demand, now


def test_none_before_anybody_has_come() -> None:
    assert Demand().wanted(MANY, RTT, 0.0) == 0


def test_one_after_the_first_session_ever_and_none_once_that_was_in_vain() -> None:
    demand = Demand()
    demand.arrived(5.0)
    assert demand.wanted(MANY, RTT, 5.0) == 1
    assert demand.wanted(MANY, RTT, 5.0 + OLDEST - 0.01) == 1
    assert demand.wanted(MANY, RTT, 5.0 + OLDEST) == 0


@pytest.mark.parametrize(
    ("gap", "wanted"), [(0.05, 200), (0.5, 20), (1.0, 10), (4.0, 2), (9.0, 1), (11.0, 0), (3600.0, 0)]
)
def test_as_many_as_will_come_before_they_are_old(gap: float, wanted: int) -> None:
    demand, now = regular(gap)
    assert demand.wanted(MANY, RTT, now) == pytest.approx(wanted, abs=1 if wanted > 2 else 0)
    assert demand.wanted(2, RTT, now) == min(wanted, 2)
    assert demand.wanted(0, RTT, now) == 0


def test_auto_is_what_comes_while_two_are_dialled() -> None:
    for gap, wanted in ((5.0, 2), (0.1, 3), (0.05, 5), (0.001, AUTO_MOST)):
        demand, now = regular(gap)
        assert demand.wanted(AUTO, RTT, now) == pytest.approx(wanted, abs=gap < 0.1)


def test_a_burst_after_a_long_lull_is_believed_at_its_third_session_at_the_latest() -> None:
    demand, now = regular(3600.0)
    demand, now = regular(0.1, 2, demand, now + 3600.0)
    assert demand.wanted(MANY, RTT, now) >= 1
    demand, now = regular(0.1, 8, demand, now + 0.1)
    assert demand.wanted(MANY, RTT, now) >= 10


def test_when_sessions_stop_coming_so_do_spares() -> None:
    demand, now = regular(0.1)
    wanted = [demand.wanted(8, RTT, now + quiet) for quiet in (0.0, 1.0, 2.0, 5.0, 9.9, 10.0, 1000.0)]
    assert wanted == [8, 8, 5, 2, 1, 0, 0]
    assert demand.idle(now + PAUSE_LONGEST)
    assert not demand.idle(now + 1.0)


def test_a_server_that_closes_idle_connections_is_given_up_on_well_before() -> None:
    demand, now = regular(0.1)
    demand.died(1.0, now)
    assert demand.keeps == 0.5
    assert demand.wanted(MANY, RTT, now) == pytest.approx(5, abs=1)
    for _ in range(3):
        demand.outlived()
    assert 0.5 < demand.keeps < 0.75


def test_a_full_life_is_tried_again_later_and_later() -> None:
    demand, now = regular(0.1)
    waits = []
    for _ in range(7):
        demand.died(1.0, now)
        demand.died(0.9, now + 0.1)  # the others, at the same restart
        died = now
        while demand.keeps < OLDEST:
            now += 1.0
            demand.arrived(now)
        waits.append(round(now - died))
    assert waits[0] == pytest.approx(DISTRUST_FIRST, abs=2)
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(DISTRUST_LONGEST, abs=2)
    demand.outlived()
    demand.died(1.0, now)
    demand.arrived(now + DISTRUST_FIRST)
    assert demand.keeps == OLDEST


def test_a_server_that_closes_at_once_is_left_alone_for_longer_and_longer() -> None:
    demand, now = regular(0.01)
    pauses = []
    for _ in range(12):
        demand.dialled()
        demand.died(0.001, now)
        start = now
        while not demand.wanted(MANY, RTT, now):
            now += 0.01
            demand.arrived(now)
        pauses.append(round(now - start, 1))
    assert pauses == sorted(pauses)
    assert pauses[0] == pytest.approx(PAUSE_FIRST, abs=0.02)
    assert pauses[-1] == pytest.approx(PAUSE_LONGEST, abs=0.02)


def test_failed_dials_back_off_and_one_that_succeeds_clears() -> None:
    demand, now = regular(0.1)
    for pause in (1.0, 2.0, 4.0):
        demand.dial_failed(now)
        assert not demand.wanted(MANY, RTT, now + pause - 0.01)
        now += pause
        demand.arrived(now)
        assert demand.wanted(MANY, RTT, now)
    demand.dialled()
    demand.dial_failed(now)
    demand.arrived(now + PAUSE_FIRST)
    assert demand.wanted(MANY, RTT, now + PAUSE_FIRST)


event = st.sampled_from(["arrived", "died", "outlived", "failed", "dialled"])


limit: st.SearchStrategy[int | Auto] = st.one_of(st.integers(0, 8), st.just(AUTO))


@settings(max_examples=50)
@given(st.lists(st.tuples(event, st.floats(0, 100))), limit)
def test_never_more_than_allowed_and_never_too_old(events: list[tuple[str, float]], most: int | Auto) -> None:
    demand, now = Demand(), 0.0
    for what, later in events:
        now += later
        match what:
            case "arrived":
                demand.arrived(now)
            case "died":
                demand.died(later, now)
            case "outlived":
                demand.outlived()
            case "failed":
                demand.dial_failed(now)
            case _:
                demand.dialled()
        assert 0 <= demand.wanted(most, RTT, now) <= (AUTO_MOST if most is AUTO else most)
        assert 0 < demand.keeps <= OLDEST
