from __future__ import annotations

import pytest

from proxy.core.pace import ANSWER_LEAST, HEDGE_LEAST, HEDGE_MOST, HEDGE_UNKNOWN, NEAR, Pace
from proxy.core.snapshot import AUTO, Cluster, FastOpen


def test_the_hedge_follows_the_round_trip() -> None:
    pace = Pace()
    assert pace.hedge_after(AUTO) == HEDGE_UNKNOWN
    pace.learn_rtt(0.1)
    assert pace.hedge_after(AUTO) == pytest.approx(0.15)
    for sample in (0.02, 0.3) * 20:
        pace.learn_rtt(sample)
    assert pace.rtt is not None
    assert pace.hedge_after(AUTO) == pytest.approx(pace.rtt + 4 * pace.rtt_variation)


@pytest.mark.parametrize(("rtt", "hedge"), [(0.0001, HEDGE_LEAST), (5.0, HEDGE_MOST)])
def test_the_hedge_has_bounds(rtt: float, hedge: float) -> None:
    pace = Pace()
    pace.learn_rtt(rtt)
    assert pace.hedge_after(AUTO) == hedge


@pytest.mark.parametrize("configured", [None, 0.4])
def test_the_hedge_may_be_configured(configured: float | None) -> None:
    pace = Pace()
    pace.learn_rtt(0.1)
    assert pace.hedge_after(configured) == configured


def test_an_endpoint_may_think_for_a_second_and_longer_where_it_is_known_to() -> None:
    pace = Pace()
    assert pace.overdue_after() == ANSWER_LEAST
    pace.learn_answer(0.001)
    assert pace.overdue_after() == ANSWER_LEAST
    pace.learn_answer(2.0)
    assert pace.overdue_after() == 8.0


def test_a_slow_answer_is_forgotten_slowly() -> None:
    pace = Pace()
    pace.learn_answer(2.0)
    pace.learn_answer(0.0)
    assert 4.0 < pace.overdue_after() < 8.0
    for _ in range(100):
        pace.learn_answer(0.0)
    assert pace.overdue_after() == ANSWER_LEAST


@pytest.mark.parametrize("policy", FastOpen)
def test_near_is_what_answers_within_no_time_where_the_choice_is_ours(policy: FastOpen) -> None:
    cluster, pace = Cluster("c", (), fast_open=policy), Pace()
    assert not pace.is_near(cluster), "nothing is known of it"
    pace.learn_rtt(NEAR / 5)
    assert pace.is_near(cluster) is (policy is FastOpen.AUTO)


def test_an_endpoint_that_moves_away_is_near_no_more() -> None:
    cluster, pace = Cluster("c", ()), Pace()
    pace.learn_rtt(NEAR / 5)
    pace.learn_rtt(0.02)
    assert not pace.is_near(cluster)
    for _ in range(60):
        pace.learn_rtt(NEAR / 5)
    assert pace.is_near(cluster)
    pace.learn_rtt(NEAR)
    assert pace.is_near(cluster), "one slow handshake of a busy host changes nothing"
