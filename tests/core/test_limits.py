from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core import limits
from proxy.core.limits import NO_CAPS, Caps, Gate, Tally, Ticket, client_of

KEY = b"0123456789abcdef"


def region(workers: int = 1) -> memoryview:
    made = memoryview(bytearray(limits.size(workers)))
    limits.prepare(made, KEY)
    return made


def gate(caps: Caps = NO_CAPS, whole: Caps = NO_CAPS, tally: Tally | None = None, name: str = "web") -> Gate:
    return Gate(name, caps, whole, tally or Tally(region()))


def come(door: Gate, host: str = "192.0.2.1", now: float = 0.0) -> Ticket | str:
    """A client at the door: in with a ticket, or away with a reason."""
    held = door.hold(now)
    if held is not None:
        return held.why
    ticket = door.enter(now)
    why = door.greet(ticket, host, now)
    if why is None:
        return ticket
    door.leave(ticket)
    return why


def test_without_caps_everybody_comes_in_and_nothing_is_counted() -> None:
    door = gate()
    assert not door.limited
    assert not door.by_client
    tickets = [come(door) for _ in range(100)]
    assert all(isinstance(ticket, Ticket) and not ticket.cells for ticket in tickets)


def test_connections_of_a_listener_and_of_all() -> None:
    tally = Tally(region())
    whole = Caps(connections=3)
    web, mail = gate(Caps(connections=2), whole, tally), gate(NO_CAPS, whole, tally, "mail")
    first, second = come(web), come(web)
    assert come(web) == "limits.connections 2 of listener web"
    third = come(mail)
    assert come(mail) == "limits.connections 3"
    assert isinstance(first, Ticket)
    web.leave(first)
    web.leave(first)
    fourth = come(mail)
    assert all(isinstance(one, Ticket) for one in (second, third, fourth))
    assert come(web) == "limits.connections 3"


def test_connections_of_a_client() -> None:
    door = gate(Caps(per_client=2))
    one, _ = come(door), come(door)
    assert come(door) == "limits.per_client 2 of listener web"
    assert isinstance(come(door, "192.0.2.2"), Ticket)
    assert isinstance(one, Ticket)
    door.leave(one)
    assert isinstance(come(door), Ticket)
    assert isinstance(come(door), str)


def test_who_is_turned_away_is_not_counted() -> None:
    door = gate(Caps(connections=3, per_client=1))
    inside = come(door)
    for _ in range(10):
        assert isinstance(come(door), str)
    assert isinstance(inside, Ticket)
    door.leave(inside)
    assert all(isinstance(come(door, f"192.0.2.{n}"), Ticket) for n in range(3))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_who_is_one_client(one: str, other: str, same: bool) -> None:
    assert (client_of(one) == client_of(other)) is same


def test_a_rate_lets_a_burst_in_and_then_one_after_the_other() -> None:
    door = gate(Caps(accept_rate=10.0))
    assert [isinstance(come(door, now=5.0), Ticket) for _ in range(12)] == [True] * 10 + [False] * 2
    held = door.hold(5.0)
    assert held is not None
    assert held.why == "limits.accept_rate 10/s of listener web"
    assert held.pause == pytest.approx(0.1)
    assert isinstance(come(door, now=5.1001), Ticket)
    assert isinstance(come(door, now=5.1001), str)
    assert [isinstance(come(door, now=50.0), Ticket) for _ in range(11)] == [True] * 10 + [False]


def test_a_slow_rate() -> None:
    door = gate(whole=Caps(client_rate=0.1))
    assert isinstance(come(door, now=0.0), Ticket)
    assert come(door, now=9.0) == "limits.client_rate 0.1/s"
    assert isinstance(come(door, "192.0.2.2", now=9.0), Ticket)
    assert isinstance(come(door, now=10.01), Ticket)


def test_a_pause_is_never_long_however_slow_the_rate() -> None:
    door = gate(Caps(accept_rate=1 / 3600))
    come(door)
    held = door.hold(0.0)
    assert held is not None
    assert held.pause == 1.0


def test_a_client_that_is_refused_for_one_cap_does_not_use_up_another() -> None:
    door = gate(Caps(per_client=1), Caps(client_rate=1.0))
    assert isinstance(come(door, now=0.0), Ticket)
    assert come(door, now=2.0) == "limits.per_client 1 of listener web"
    assert Gate("b", NO_CAPS, door.whole, door._tally).greet(Ticket(), "192.0.2.1", 2.0) is None


def test_workers_count_together() -> None:
    shared = region(3)
    workers = [Tally(shared, 3, me) for me in range(3)]
    caps, whole = Caps(connections=5, per_client=2), Caps(accept_rate=100.0)
    doors = [gate(caps, whole, tally) for tally in workers]
    assert isinstance(come(doors[0]), Ticket)
    assert isinstance(come(doors[1]), Ticket)
    assert come(doors[2]) == "limits.per_client 2 of listener web"
    for n in range(3):
        assert isinstance(come(doors[n], f"198.51.100.{n}"), Ticket)
    assert [door.hold(0.0) is not None for door in doors] == [True] * 3


def test_a_worker_that_comes_back_has_nothing() -> None:
    shared = region(2)
    first, second = Tally(shared, 2, 0), Tally(shared, 2, 1)
    for tally in (first, first, second):
        assert isinstance(come(gate(Caps(connections=3), tally=tally)), Ticket)
    assert isinstance(come(gate(Caps(connections=3), tally=second)), str)
    again = Tally(shared, 2, 0)
    assert again.count(again.cells("web")) == 1, "the other's are kept"


def test_giving_back_more_than_was_taken_takes_nothing_from_others() -> None:
    tally = Tally(region())
    cells = tally.cells("web")
    tally.remove(cells)
    assert tally.count(cells) == 0
    tally.add(cells)
    assert tally.count(cells) == 1


def test_cells_cannot_be_foretold() -> None:
    other = memoryview(bytearray(limits.size(1)))
    limits.prepare(other, KEY[::-1])
    assert Tally(region()).cells("web", b"x") != Tally(other).cells("web", b"x")


def test_a_million_clients_take_no_more_memory_than_one() -> None:
    """What is held does not depend on how many came: a few hundred show it."""
    door = gate(Caps(connections=10_000_000, per_client=4, client_rate=1000.0))
    come(door)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for n in range(300):
            for host in (f"10.{n >> 8 & 255}.{n & 255}.7", f"2001:db8:{n:x}::1"):
                ticket = door.enter(n / 100)
                assert door.greet(ticket, host, n / 100) is None
                door.leave(ticket)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 10_000
    assert peak - before < 100_000
    assert limits.size(1) < 2 << 20


def test_many_clients_at_once_are_hardly_taken_for_each_other() -> None:
    door = gate(Caps(per_client=3))
    refused = sum(isinstance(come(door, f"10.1.{n >> 8}.{n & 255}"), str) for n in range(3_000))
    assert refused == 0


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.floats(0, 0.5)), max_size=60),
    st.integers(1, 6),
    st.integers(1, 3),
)
def test_never_more_than_is_allowed_and_all_is_given_back(
    steps: list[tuple[bool, int, float]], connections: int, per_client: int
) -> None:
    tally = Tally(region())
    door = gate(Caps(connections=connections, per_client=per_client), tally=tally)
    inside: list[tuple[int, Ticket]] = []
    now = 0.0
    for comes, client, later in steps:
        now += later
        if not comes:
            if inside:
                door.leave(inside.pop(0)[1])
            continue
        mine = sum(one == client for one, _ in inside)
        outcome = come(door, f"192.0.2.{client}", now)
        assert isinstance(outcome, Ticket) is (len(inside) < connections and mine < per_client)
        if isinstance(outcome, Ticket):
            inside.append((client, outcome))
    for _, ticket in inside:
        door.leave(ticket)
    assert not any(tally._mine)
