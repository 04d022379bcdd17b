from __future__ import annotations

from proxy.core.address import Endpoint
from proxy.core.families import FAILED_FOR, SLOW_FOR, Families, interleaved

SIX, FOUR = Endpoint("2001:db8::1", 80), Endpoint("192.0.2.1", 80)
OTHER = Endpoint("2001:db8::2", 80)


def test_the_family_that_was_overtaken_comes_last_for_a_while() -> None:
    families = Families()
    assert families.ordered("a", [SIX, FOUR], 0.0) == [SIX, FOUR]
    families.overtaken("a", SIX, 0.0)
    assert families.ordered("a", [SIX, OTHER, FOUR], 1.0) == [FOUR, SIX, OTHER]
    assert families.ordered("b", [SIX, FOUR], 1.0) == [SIX, FOUR]
    assert families.ordered("a", [SIX, FOUR], SLOW_FOR) == [SIX, FOUR]


def test_one_that_works_after_all_is_slow_no_more() -> None:
    families = Families()
    families.overtaken("a", SIX, 0.0)
    families.worked("a", FOUR)
    assert families.ordered("a", [SIX, FOUR], 1.0) == [FOUR, SIX]
    families.worked("a", SIX)
    assert families.ordered("a", [SIX, FOUR], 1.0) == [SIX, FOUR]


def test_where_both_are_slow_nothing_changes() -> None:
    families = Families()
    families.overtaken("a", SIX, 0.0)
    families.overtaken("a", FOUR, 0.0)
    assert families.ordered("a", [SIX, FOUR], 1.0) == [SIX, FOUR]


def test_what_is_slow_for_several_names_is_slow_for_all() -> None:
    families = Families()
    for name in ("a", "b"):
        families.overtaken(name, SIX, 0.0)
    assert families.ordered("z", [SIX, FOUR], 1.0) == [SIX, FOUR]
    families.overtaken("c", SIX, 0.0)
    assert families.ordered("z", [SIX, FOUR], 1.0) == [FOUR, SIX]
    assert families.ordered("z", [SIX, FOUR], SLOW_FOR) == [SIX, FOUR]
    families.worked("z", SIX)
    assert families.ordered("z", [SIX, FOUR], 1.0) == [SIX, FOUR]
    assert families.ordered("a", [SIX, FOUR], 1.0) == [FOUR, SIX]


def test_it_stays_bounded() -> None:
    families = Families()
    for number in range(3000):
        families.overtaken(f"n{number}", SIX, 0.0)
    assert families.ordered("n2999", [SIX, FOUR], 1.0) == [FOUR, SIX]
    assert len(families._slow) == 1000


def test_an_address_that_failed_comes_last_for_a_while() -> None:
    families = Families()
    families.failed(SIX, 0.0)
    assert families.ordered("a", [SIX, FOUR, OTHER], 1.0) == [FOUR, OTHER, SIX]
    families.overtaken("a", FOUR, 0.0)
    assert families.ordered("a", [SIX, FOUR, OTHER], 1.0) == [OTHER, FOUR, SIX]
    families.worked("a", SIX)
    assert families.ordered("a", [SIX, FOUR, OTHER], FAILED_FOR) == [SIX, OTHER, FOUR]
    for number in range(3000):
        families.failed(Endpoint("192.0.2.7", number), 0.0)
    assert len(families._failed) == 1000


def test_the_families_take_turns_from_that_of_the_first_address() -> None:
    third = Endpoint("2001:db8::3", 80)
    for given, expected in (
        ([SIX, FOUR], [SIX, FOUR]),
        ([SIX, OTHER, FOUR], [SIX, FOUR, OTHER]),
        ([FOUR, SIX, OTHER], [FOUR, SIX, OTHER]),
        ([SIX, OTHER, third], [SIX, OTHER, third]),
        ([SIX, OTHER, third, FOUR], [SIX, FOUR, OTHER, third]),
        ([SIX], [SIX]),
        ([], []),
    ):
        assert interleaved(given) == expected
