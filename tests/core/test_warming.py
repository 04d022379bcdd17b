from __future__ import annotations

from proxy.core.warming import Warming, Warmth, together

FETCHED, DEAD = Warmth.FETCHED, Warmth.UNREACHABLE


def test_what_is_done_and_what_is_waited_for() -> None:
    one = Warming(0.0, 1.0, False, 5, {FETCHED: 2, DEAD: 1})
    assert (one.done, one.waiting) == (3, 2)
    assert (one.number(FETCHED), one.number(Warmth.HELD)) == (2, 0)


def test_several_workers_are_one_warm_up() -> None:
    over = Warming(10.0, 2.0, True, 3, {FETCHED: 3})
    late, early = Warming(11.0, 4.0, False, 5, {FETCHED: 1, DEAD: 1}), Warming(10.5, 4.5, False, 1)
    both = together([over, late, early])
    assert both == Warming(
        10.5, 4.5, False, 9, {warmth: {FETCHED: 4, DEAD: 1}.get(warmth, 0) for warmth in Warmth}
    )


def test_when_all_are_through_the_last_one_counts() -> None:
    first, last = Warming(10.0, 9.0, True, 2, {FETCHED: 2}), Warming(40.0, 0.5, True, 1, {DEAD: 1})
    both = together(iter([first, last]))
    assert both is not None
    assert (both.began, both.lasted, both.over, both.endpoints, both.waiting) == (40.0, 0.5, True, 3, 0)
    assert together([first]) == Warming(
        10.0, 9.0, True, 2, {warmth: 2 if warmth is FETCHED else 0 for warmth in Warmth}
    )


def test_nobody_has_begun() -> None:
    assert together([]) is None
