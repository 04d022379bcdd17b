from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.clusters import AUTO, Auto, Cluster, Replay, ServerFirst
from proxy.core.patience import DEFAULT_CEILING, SERVER_FIRST_PORTS, Habits, Patience

RTT = 0.1


def speaking(patience: Patience, delay: float, times: int, rtt: float = RTT) -> list[float]:
    """So many sessions of clients that speak ``delay`` after accept, seen as a session sees them: the waits."""
    waits: list[float] = []
    for _ in range(times):
        wait = patience.wait(DEFAULT_CEILING, rtt)
        waits.append(wait)
        if delay <= wait:
            patience.client_spoke(delay)
        else:
            patience.client_spoke(max(delay, wait + rtt), silent_until=wait)
    return waits


def listening(patience: Patience, times: int, rtt: float = RTT) -> list[float]:
    waits: list[float] = []
    for _ in range(times):
        waits.append(patience.wait(DEFAULT_CEILING, rtt))
        patience.server_spoke()
    return waits


@pytest.mark.parametrize("port", sorted(SERVER_FIRST_PORTS))
def test_a_server_first_port_is_never_waited_for(port: int) -> None:
    assert set(listening(Patience([443, port]), 12)) == {0.0}


@pytest.mark.parametrize("rtt", [None, 0.02, 0.1, 0.3])
def test_an_unknown_port_starts_with_a_wait(rtt: float | None) -> None:
    assert 0.004 <= Patience([4711]).wait(DEFAULT_CEILING, rtt) <= DEFAULT_CEILING


def test_one_server_first_session_is_enough() -> None:
    waits = listening(Patience([4711]), 12)
    assert waits[1:] == [0.0] * 11
    assert sum(RTT + wait for wait in waits) / len(waits) <= 1.05 * RTT


@pytest.mark.parametrize("delay", [0.0, 0.0005, 0.003, 0.012, 0.02])
def test_clients_that_speak_first_are_caught(delay: float) -> None:
    waits = speaking(Patience(), delay, 20)
    assert sum(wait >= delay for wait in waits) >= 19


def test_bytes_that_are_there_at_accept_need_no_wait() -> None:
    patience = Patience()
    for _ in range(500):
        patience.client_spoke(0.0)
    assert patience.wait(DEFAULT_CEILING, RTT) < 0.002


def test_a_client_too_slow_for_the_start_is_caught_soon() -> None:
    waits = speaking(Patience(), 0.045, 8)
    assert waits[0] < 0.045 <= min(waits[3:])


@pytest.mark.parametrize("delay", [0.0002, 0.003])
def test_a_server_that_changes_is_noticed(delay: float) -> None:
    patience = Patience()
    speaking(patience, delay, 100)
    waits = listening(patience, 20)
    assert all(later <= earlier for earlier, later in pairwise(waits))
    assert waits[-1] == 0.0
    assert sum(waits) <= 1.5 * RTT


def test_clients_on_a_server_first_port_are_noticed() -> None:
    """OpenSSH's client says its name at once: it may ride in the SYN."""
    patience = Patience([22])
    listening(patience, 50)
    assert speaking(patience, 0.001, 6)[-1] >= 0.001


def test_mixed_clients_get_a_short_wait() -> None:
    patience = Patience()
    for _ in range(50):
        patience.client_spoke(0.001)
        patience.server_spoke()
    assert 0.001 <= patience.wait(DEFAULT_CEILING, RTT) <= 0.013


def test_waiting_is_worth_little_next_door() -> None:
    patience = Patience()
    assert patience.wait(DEFAULT_CEILING, 0.0005) < 0.001
    speaking(patience, 0.0003, 50, rtt=0.0005)
    assert patience.wait(DEFAULT_CEILING, 0.0005) <= 0.001


def test_clients_slower_than_the_round_trip_are_not_waited_for() -> None:
    patience = Patience()
    for _ in range(30):
        patience.client_spoke(0.04)
    assert patience.wait(DEFAULT_CEILING, 0.01) < 0.002
    assert patience.wait(DEFAULT_CEILING, 0.2) >= 0.04


def test_clients_slower_than_the_ceiling_are_not_waited_for() -> None:
    patience = Patience()
    for _ in range(60):
        patience.client_spoke(0.09)
    assert patience.wait(DEFAULT_CEILING, RTT) < 0.01
    for _ in range(200):
        patience.client_spoke(math.inf)
    assert patience.wait(DEFAULT_CEILING, RTT) < 0.01


def test_what_was_not_watched_is_learned_from_its_bounds() -> None:
    """A patience that does not wait sees late clients only when the handshake is over, and still finds them."""
    patience = Patience([22])
    waits = speaking(patience, 0.004, 10)
    assert waits[0] == 0.0
    assert min(waits[2:]) >= 0.004


def test_the_ceiling_holds() -> None:
    patience = Patience()
    for _ in range(30):
        patience.client_spoke(0.04)
    assert patience.wait(0.01, RTT) <= 0.01
    assert patience.wait(0.0, RTT) == 0.0
    assert patience.wait(1.0, 2.0) >= 0.04


def test_silence_changes_nothing() -> None:
    patience = Patience()
    before = patience.habits()
    for _ in range(10):
        patience.silent()
    assert patience.habits() == before


def test_habits_last() -> None:
    patience = Patience([22])
    speaking(patience, 0.004, 40)
    later = Patience([22])
    assert later.recall(patience.habits())
    for rtt in (None, 0.005, 0.1, 0.5):
        assert later.wait(DEFAULT_CEILING, rtt) == pytest.approx(patience.wait(DEFAULT_CEILING, rtt))
    assert later.sessions == patience.sessions


GOOD = Patience().habits()


@pytest.mark.parametrize(
    "habits",
    [
        Habits(0.5, 3, ()),
        Habits(0.5, 3, GOOD.delays[1:]),
        Habits(0.5, 3, (math.nan, *GOOD.delays[1:])),
        Habits(0.5, 3, (-1.0, *GOOD.delays[1:])),
        Habits(0.5, 3, (0.0,) * len(GOOD.delays)),
        Habits(0.5, 3, (1.0,) * len(GOOD.delays)),
        Habits(math.nan, 3, GOOD.delays),
        Habits(1.5, 3, GOOD.delays),
        Habits(0.5, -1, GOOD.delays),
    ],
)
def test_nonsense_is_not_recalled(habits: Habits) -> None:
    patience = Patience()
    assert not patience.recall(habits)
    assert patience.habits() == GOOD


delays = st.one_of(st.floats(0, 2), st.just(math.inf))


@settings(max_examples=25)
@given(
    st.lists(st.one_of(st.none(), delays, st.tuples(delays, delays)), max_size=60), st.floats(0, 2), delays
)
def test_whatever_is_seen_the_answer_is_a_wait(
    seen: list[float | tuple[float, float] | None], ceiling: float, rtt: float
) -> None:
    patience = Patience()
    for spoke in seen:
        if spoke is None:
            patience.server_spoke()
        elif isinstance(spoke, tuple):
            patience.client_spoke(max(spoke), silent_until=min(spoke))
        else:
            patience.client_spoke(spoke)
        wait = patience.wait(ceiling, None if math.isinf(rtt) else rtt)
        assert 0.0 <= wait <= ceiling
    assert Patience().recall(patience.habits())


def test_it_goes_on_for_ever() -> None:
    patience = Patience()
    for _ in range(60_000):  # the weights are scaled back some ninety times
        patience.client_spoke(0.003)
    speaking(patience, 0.04, 50)
    assert patience.wait(DEFAULT_CEILING, RTT) >= 0.04


@pytest.mark.parametrize(
    ("says", "configured", "wait"),
    [
        ({"server_first": ServerFirst.YES}, 0.5, 0.0),
        ({"replay": Replay.NONE}, 0.5, 0.0),
        ({}, 0.5, 0.5),
        ({}, 0.0, 0.0),
        ({"server_first": ServerFirst.NO}, AUTO, DEFAULT_CEILING),
    ],
)
def test_what_is_configured_comes_first(
    says: dict[str, Replay | ServerFirst], configured: float | Auto, wait: float
) -> None:
    cluster = Cluster("c", (), **says)  # type: ignore[arg-type]  # one of two enums by name
    assert Patience().wait_for(cluster, configured, 0.1) == wait


def test_else_it_is_what_was_learned() -> None:
    patience = Patience()
    assert patience.wait_for(Cluster("c", ()), AUTO, 0.1) == patience.wait(DEFAULT_CEILING, 0.1)
