from __future__ import annotations

from proxy.core.address import Endpoint
from proxy.core.availability import Availability, Outages
from proxy.core.clusters import Ejection
from proxy.core.members import Members, members_of

TEN = members_of((Endpoint(f"192.0.2.{n}", 80), 1) for n in range(10))
A, B, C = TEN.endpoints[:3]


def fail(
    availability: Availability, endpoint: Endpoint, times: int, now: float, members: int = 10
) -> list[bool]:
    return [availability.failed(endpoint, members, now) for _ in range(times)]


def test_some_failures_in_a_row_eject_for_longer_each_time() -> None:
    state = Availability(Ejection(after=3, time=10.0, longest=35.0, most=50))
    assert fail(state, A, 3, 100.0) == [False, False, True]
    assert state.out(TEN, 109.9) == {A}
    assert state.out(TEN, 110.0) == frozenset()
    for length, now in ((20.0, 110.0), (35.0, 140.0), (35.0, 200.0)):
        assert fail(state, A, 1, now) == [True]  # back, it has one try
        assert state.until(A) == now + length


def test_one_that_works_is_forgiven() -> None:
    state = Availability(Ejection())
    fail(state, A, 2, 0.0)
    state.worked(A)
    assert fail(state, A, 2, 0.0) == [False, False]
    fail(state, A, 1, 0.0)
    assert state.out(TEN, 1.0) == {A}
    state.worked(A)
    assert state.out(TEN, 1.0) == frozenset()
    assert fail(state, A, 3, 1.0) == [False, False, True]
    assert state.until(A) == 11.0


def test_no_more_than_so_many_are_out() -> None:
    state = Availability(Ejection(after=1, most=30))
    assert [state.failed(endpoint, 10, 0.0) for endpoint in TEN.endpoints[:5]] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert len(state.out(TEN, 1.0)) == 3
    assert Availability(Ejection(after=1, most=30)).failed(A, 3, 0.0) is False
    assert Availability(Ejection(after=1, most=50)).failed(A, 1, 0.0) is False
    assert Availability(Ejection(after=1, most=0)).failed(A, 100, 0.0) is False


def test_health_checks_rise_and_fall() -> None:
    state = Availability(Ejection())

    def check(*results: bool) -> list[bool]:
        return [state.checked(A, 0.0, healthy=healthy, rise=2, fall=3) for healthy in results]

    assert check(True, False, False, True, False, False) == [False] * 6
    assert check(False) == [True]
    assert state.is_down(A)
    assert state.out(TEN, 0.0) == {A}
    assert check(True, False, True) == [False, False, False]
    assert check(True) == [True]
    assert state.out(TEN, 0.0) == frozenset()


def test_where_all_are_out_none_is() -> None:
    two = Members((A, B), (1, 1))
    state = Availability(Ejection(after=1, most=100))
    state.failed(A, 2, 0.0)
    state.checked(B, 0.0, healthy=False, rise=1, fall=1)
    assert state.out(two, 1.0) == frozenset()


def test_those_that_left_are_forgotten() -> None:
    state = Availability(Ejection(after=1))
    state.failed(A, 10, 0.0)
    state.checked(B, 0.0, healthy=False, rise=1, fall=1)
    state.keep(Members((C,), (1,)))
    assert state.out(TEN, 0.0) == frozenset()
    assert not state.is_down(B)


def test_another_policy_goes_on_from_what_is_known() -> None:
    before = Availability(Ejection(after=3))
    fail(before, A, 3, 0.0)
    before.checked(B, 0.0, healthy=False, rise=1, fall=1)
    checked, unchecked = Availability(Ejection(after=5)), Availability(Ejection())
    checked.inherit(before, checked=True)
    assert checked.out(TEN, 1.0) == {A, B}
    unchecked.inherit(before, checked=False)
    assert unchecked.out(TEN, 1.0) == {A}, "nobody would ever find out that it is up again"


def test_what_onlookers_are_told() -> None:
    state = Availability(Ejection(after=1, most=100))
    assert state.outages(TEN, 0.0) == Outages(10)
    state.failed(A, 10, 0.0, "refused")
    state.checked(B, 0.5, "no answer", healthy=False, rise=1, fall=1)
    state.failed(B, 10, 0.7, "unreachable")
    reasons = {A: (0.0, "refused"), B: (0.5, "unreachable")}
    assert state.outages(TEN, 1.0) == Outages(
        10, down=frozenset({B}), ejected=frozenset({A}), troubles=reasons
    ), "an endpoint that is both is down"
    two = Members((A, B), (1, 1))
    assert state.out(two, 1.0) == frozenset(), "they are dialled all the same"
    assert state.outages(two, 1.0) == Outages(2, frozenset({B}), frozenset({A}), troubles=reasons)
    assert state.outages(TEN, 1e6) == Outages(
        10, down=frozenset({B}), failing=frozenset({A}), troubles=reasons
    ), "after its ejection it is tried again, and still failing"
    state.worked(A)
    assert state.outages(TEN, 1e6).failing == frozenset()


def test_outages_of_two_workers() -> None:
    one = Outages(2, frozenset({A}), troubles={A: (3.0, "refused")})
    other = Outages(3, ejected=frozenset({A, B}), troubles={A: (1.0, ""), B: (2.0, "unreachable")})
    expected = Outages(
        3, frozenset({A}), frozenset({B}), troubles={A: (1.0, "refused"), B: (2.0, "unreachable")}
    )
    assert one | other == other | one == expected
