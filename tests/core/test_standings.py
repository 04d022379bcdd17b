from __future__ import annotations

import math
from dataclasses import replace

import pytest

from proxy.core.address import Endpoint
from proxy.core.evidence import Evidence
from proxy.core.fastopen import FIRST_SENTENCE, LARGER_AFTER, PROBE_PATIENCE, SMALL_SYN, Open, Standing, State
from proxy.core.snapshot import Cluster
from proxy.core.standings import Remembered, SharedStandings, Standings

AUTO = Cluster("c", ())
ALL = 10_000  # bytes that may be sent twice
WALL = 1_800_000_000.0


def endpoint(number: int) -> Endpoint:
    return Endpoint(f"192.0.2.{number}", 443)


def quarantine(standing: Standing, now: float) -> None:
    for _ in range(2):
        standing.learn(Evidence.SYN_DATA_LOST, standing.plan(AUTO, ALL, now), now, 100)
    assert standing.state is State.QUARANTINED


def restarted(standings: Standings, now: float, wall: float, away: float = 0.0) -> Standings:
    """What the next process, ``away`` seconds later and with a monotonic clock of its own, makes of it."""
    later = Standings()
    later.recall(standings.remember(now, wall), 7.0, wall + away)
    return later


def test_one_endpoint_has_one_standing() -> None:
    standings = Standings()
    assert standings.get(endpoint(1)) is standings.get(endpoint(1))
    assert standings.get(endpoint(1)) is not standings.get(Endpoint("192.0.2.1", 80))
    assert len(standings) == 2


def test_looking_makes_nothing() -> None:
    standings = Standings(2)
    assert standings.peek(endpoint(1)) is None
    first = standings.get(endpoint(1))
    standings.get(endpoint(2))
    assert standings.peek(endpoint(1)) is first
    standings.get(endpoint(3))
    assert standings.peek(endpoint(1)) is None


def test_the_least_recently_dialled_is_forgotten() -> None:
    standings = Standings(3)
    for number in (1, 2, 3, 1, 4):
        standings.get(endpoint(number))
    assert [known.host for known, _ in standings] == ["192.0.2.3", "192.0.2.1", "192.0.2.4"]


def test_a_quarantine_is_not_forgotten_while_anything_else_can_be() -> None:
    standings = Standings(10)
    for number in range(4):
        quarantine(standings.get(endpoint(number)), 0.0)
    for number in range(4, 200):
        standings.get(endpoint(number))
    assert len(standings) == 10
    assert {endpoint(number) for number in range(4)} <= {known for known, _ in standings}


def test_the_bound_holds_when_all_are_quarantined() -> None:
    standings = Standings(5)
    for number in range(20):
        quarantine(standings.get(endpoint(number)), 0.0)
    assert [known for known, _ in standings] == [endpoint(number) for number in range(15, 20)]


def test_reading_while_others_write() -> None:
    standings = Standings()
    standings.get(endpoint(1))
    for number, _ in enumerate(standings):
        standings.get(endpoint(number + 100))
    assert len(standings) == 2


def test_what_is_known_survives_a_restart() -> None:
    standings = Standings()
    standing = standings.get(endpoint(1))
    standing.learn_rtt(0.08)
    standing.learn_rtt(0.1)
    standing.learn(Evidence.PATH_MTU, standing.plan(AUTO, ALL, 0.0), 0.0, 1420)
    standing.learn(Evidence.SYN_DATA_ACKED, standing.plan(AUTO, ALL, 0.0), 0.0, 1200)
    standing.learn_banner(0.2)
    standing.answered = True
    [(known, found)] = restarted(standings, 50.0, WALL)
    assert known == endpoint(1)
    for name in (
        "state", "rtt", "rtt_variation", "syn_data", "answered", "requested", "ignored", "sentence", "larger_after",
        "banner",
    ):  # fmt: skip
        assert getattr(found, name) == getattr(standing, name), name


def test_a_sentence_goes_on_by_the_wall_clock() -> None:
    standings = Standings()
    quarantine(standings.get(endpoint(1)), 1000.0)
    [(_, found)] = restarted(standings, 1010.0, WALL, away=20.0)
    assert found.until == pytest.approx(7.0 + FIRST_SENTENCE - 10.0 - 20.0)
    assert found.plan(AUTO, ALL, found.until - 1).open is Open.PLAIN
    assert found.plan(AUTO, ALL, found.until + 1).probe


def test_the_next_sentence_is_longer_after_a_restart_too() -> None:
    standings = Standings()
    quarantine(standings.get(endpoint(1)), 0.0)
    [(_, found)] = restarted(standings, 0.0, WALL, away=FIRST_SENTENCE)
    plan = found.plan(AUTO, ALL, 7.0)
    assert plan.probe
    found.learn(Evidence.SYN_DATA_LOST, plan, 7.0, 100)
    assert found.state is State.QUARANTINED
    assert found.until == pytest.approx(7.0 + 2 * FIRST_SENTENCE)


def test_a_doubt_is_still_a_doubt_after_a_restart() -> None:
    standings = Standings()
    standing = standings.get(endpoint(1))
    standing.learn(Evidence.SYN_DATA_LOST, standing.plan(AUTO, ALL, 0.0), 0.0, 100)
    [(_, found)] = restarted(standings, 0.0, WALL)
    found.learn(Evidence.SYN_DATA_LOST, found.plan(AUTO, ALL, 7.0), 7.0, 100)
    assert found.state is State.QUARANTINED


def test_a_probe_that_was_under_way_is_made_again() -> None:
    standings = Standings()
    standing = standings.get(endpoint(1))
    quarantine(standing, 0.0)
    assert standing.plan(AUTO, ALL, FIRST_SENTENCE).probe
    assert standing.until == FIRST_SENTENCE + PROBE_PATIENCE
    [(_, found)] = restarted(standings, FIRST_SENTENCE + 1, WALL)
    assert found.state is State.QUARANTINED
    assert found.plan(AUTO, ALL, 7.0).probe


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_a_wall_clock_that_was_set_harms_nobody(jump: float) -> None:
    standings = Standings()
    quarantine(standings.get(endpoint(1)), 0.0)
    [(_, found)] = restarted(standings, 0.0, WALL, away=jump)
    assert 7.0 <= found.until <= 7.0 + FIRST_SENTENCE


def test_what_is_unknown_is_not_kept() -> None:
    standings = Standings()
    standings.get(endpoint(1))
    assert standings.remember(0.0, WALL) == []


def test_what_is_known_already_is_not_overwritten() -> None:
    old, new = Standings(), Standings()
    old.get(endpoint(1)).learn_rtt(0.5)
    new.get(endpoint(1)).learn_rtt(0.1)
    assert new.recall(old.remember(0.0, WALL), 0.0, WALL) == 0
    assert new.get(endpoint(1)).rtt == 0.1


def test_no_more_is_recalled_than_there_is_room_for() -> None:
    old, new = Standings(), Standings(3)
    for number in range(10):
        old.get(endpoint(number)).learn_rtt(0.5)
    assert new.recall(old.remember(0.0, WALL), 0.0, WALL) == 3
    assert len(new) == 3


GOOD = Remembered("192.0.2.1", 443, State.CONFIRMED, rtt=0.1)


@pytest.mark.parametrize(
    "nonsense",
    [
        replace(GOOD, host=""),
        replace(GOOD, port=-1),
        replace(GOOD, port=65536),
        replace(GOOD, sentence=-1.0),
        replace(GOOD, sentence=1e9),
        replace(GOOD, sentence=math.nan),
        replace(GOOD, until=math.nan),
        replace(GOOD, requested=-1),
        replace(GOOD, ignored=-1),
        replace(GOOD, syn_data=0),
        replace(GOOD, syn_data=70_000),
        replace(GOOD, rtt=0.0),
        replace(GOOD, rtt=-0.1),
        replace(GOOD, rtt=1e6),
        replace(GOOD, rtt=math.nan),
        replace(GOOD, rtt_variation=-1.0),
        replace(GOOD, rtt_variation=math.inf),
        replace(GOOD, larger_after=-1.0),
        replace(GOOD, larger_after=1e9),
        replace(GOOD, larger_after=math.nan),
        replace(GOOD, banner=-1.0),
        replace(GOOD, banner=math.nan),
    ],
)
def test_nonsense_is_not_recalled(nonsense: Remembered) -> None:
    standings = Standings()
    assert standings.recall([nonsense, replace(GOOD, host="192.0.2.2")], 0.0, WALL) == 1
    assert [known.host for known, _ in standings] == ["192.0.2.2"]


def remembered(state: State, **fields: object) -> Remembered:
    return Remembered("192.0.2.1", 80, state, **fields)  # type: ignore[arg-type]  # its fields


def test_what_another_worker_believes_is_believed_here() -> None:
    standings, here = Standings(), Endpoint("192.0.2.1", 80)
    assert standings.adopt(remembered(State.CONFIRMED, answered=True, rtt=0.1), 10.0, 1000.0)
    standing = standings.get(here)
    assert (standing.state, standing.answered, standing.rtt) == (State.CONFIRMED, True, 0.1)
    plan = standing.plan(Cluster("c", (here,)), 100, 10.0)
    entry = remembered(State.QUARANTINED, until=1060.0, sentence=60.0, cause=Evidence.SYN_DATA_LOST)
    assert standings.adopt(entry, 11.0, 1001.0)
    assert standings.get(here) is standing, "dials that run hold on to it"
    assert (standing.state, standing.until, standing.rtt) == (State.QUARANTINED, 70.0, 0.1)
    standing.learn(Evidence.SYN_DATA_LOST, plan, 12.0)
    assert standing.sentence == 60.0, "planned before, so it is the same event"
    assert not standings.adopt(remembered(State.CONFIRMED, rtt=-1.0), 11.0, 1001.0)


def test_who_probes_is_not_interrupted_and_the_others_wait() -> None:
    standings, here = SharedStandings(), Endpoint("192.0.2.1", 80)
    standings.adopt(remembered(State.QUARANTINED, until=1060.0, sentence=60.0), 0.0, 1000.0)
    standing = standings.get(here)
    assert standing.plan(Cluster("c", (here,)), 100, 61.0).probe
    assert standing.state is State.PROBING
    entry = standings.shared(here, 61.0, 1061.0)
    assert entry is not None
    assert (entry.state, entry.until) == (State.QUARANTINED, 1061.0 + PROBE_PATIENCE)
    assert not standings.adopt(remembered(State.QUARANTINED, until=1060.0, sentence=60.0), 61.0, 1061.0)
    other = Standings()
    other.adopt(entry, 61.0, 1061.0)
    assert not other.get(here).plan(Cluster("c", (here,)), 100, 62.0).probe


def test_it_is_known_what_may_have_changed() -> None:
    standings = SharedStandings(most=3)
    for number in range(5):
        standings.get(Endpoint("192.0.2.1", number))
    assert len(standings.take_touched(2)) == 2
    assert len(standings.take_touched(9)) == 1
    assert standings.take_touched(9) == []
    assert standings.shared(Endpoint("192.0.2.1", 4), 0.0, 0.0) is None
    assert standings.shared(Endpoint("192.0.2.9", 4), 0.0, 0.0) is None


def test_the_limit_of_an_earlier_version_is_tried_again_too() -> None:
    """Its state has a size and no time: the next larger SYN goes ten minutes after the start."""
    standings = Standings()
    standings.recall([replace(GOOD, state=State.CONFIRMED, syn_data=SMALL_SYN, answered=True)], 100.0, WALL)
    [(_, found)] = standings
    assert found.plan(AUTO, ALL, 100.0 + LARGER_AFTER - 1).limit == SMALL_SYN
    assert found.plan(AUTO, ALL, 100.0 + LARGER_AFTER).limit > SMALL_SYN
