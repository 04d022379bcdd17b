"""The memory of openings: nothing twice, nothing forgotten early, no more than it holds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.nonces import AREAS, LONGEST_WINDOW, SLICE, Claim, Nonces
from proxy.core.outcomes import Reason
from proxy.core.tunnel import Rejected

NOW = 1_800_000_000.0
SLOTS = 64


def table(slots: int = SLOTS, now: float = NOW - 1000) -> Nonces:
    memory = memoryview(bytearray(Nonces.size(slots)))
    Nonces.prepare(memory, now, slots)
    assert Nonces.fits(memory, slots)
    return Nonces(memory)


def number(value: int) -> bytes:
    return random.Random(value).randbytes(16)


def refused(nonces: Nonces, nonce: bytes, sealed: float, attempt: int = 1) -> Reason:
    with pytest.raises(Rejected) as error:
        nonces.claim(nonce, sealed, attempt, b"me")
    return error.value.reason


def test_once_and_never_again() -> None:
    nonces = table()
    assert nonces.claim(number(1), NOW, 1, b"me") == Claim(True)
    assert refused(nonces, number(1), NOW) is Reason.REPLAYED
    assert nonces.claim(number(2), NOW, 1, b"you").fresh


def test_a_later_attempt_is_told_who_has_the_session() -> None:
    nonces = table()
    nonces.claim(number(1), NOW, 1, b"me")
    assert nonces.claim(number(1), NOW, 3, b"you") == Claim(False, b"me")
    assert refused(nonces, number(1), NOW, 3) is Reason.REPLAYED
    assert refused(nonces, number(1), NOW, 2) is Reason.REPLAYED
    assert nonces.claim(number(1), NOW, 4, b"you") == Claim(False, b"me")


def test_nothing_is_forgotten_while_it_could_be_believed() -> None:
    nonces = table(now=0)
    for step in range(100):
        sealed = NOW + step * 7
        assert nonces.claim(number(step), sealed, 1, b"").fresh
        for before in range(step):
            if (
                NOW + before * 7 >= sealed - 2 * LONGEST_WINDOW
            ):  # sealed ahead of our clock, and come back late
                assert refused(nonces, number(before), NOW + before * 7) is Reason.REPLAYED


def test_what_is_forgotten_is_refused_as_too_old() -> None:
    nonces = table(now=0)
    nonces.claim(number(1), NOW, 1, b"")
    nonces.claim(number(2), NOW + AREAS * SLICE, 1, b"")
    assert refused(nonces, number(1), NOW) is Reason.OLD_CLOCK


def test_before_it_began_to_remember_nothing_is_believed() -> None:
    nonces = table(now=NOW)
    assert refused(nonces, number(1), NOW - 0.001) is Reason.OLD_CLOCK
    assert nonces.claim(number(1), NOW, 1, b"").fresh


def test_when_it_is_full_it_refuses_and_remembers() -> None:
    nonces = table()
    for value in range(SLOTS * 3 // 4):
        assert nonces.claim(number(value), NOW, 1, b"").fresh
    assert refused(nonces, number(1000), NOW) is Reason.NONCES_FULL
    assert refused(nonces, number(5), NOW) is Reason.REPLAYED
    assert nonces.claim(number(5), NOW, 2, b"") == Claim(False)
    assert nonces.claim(number(1000), NOW + SLICE, 1, b"").fresh, "the next slice has room"


def test_two_views_of_one_memory_are_one_table() -> None:
    memory = memoryview(bytearray(Nonces.size(SLOTS)))
    Nonces.prepare(memory, NOW, SLOTS)
    Nonces(memory).claim(number(1), NOW, 1, b"12345")
    assert refused(Nonces(memory), number(1), NOW) is Reason.REPLAYED
    assert not Nonces.fits(memoryview(bytearray(Nonces.size(SLOTS))), SLOTS)
    assert not Nonces.fits(memory[:100], SLOTS)


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(1, 4), st.floats(0, 400, allow_nan=False)), max_size=60
    )
)
def test_never_twice(heard: list[tuple[int, int, float]]) -> None:
    """Whatever comes in whatever order: a session begins once, and every attempt counts once."""
    nonces, begun, best = table(now=0), set[tuple[int, int]](), dict[tuple[int, int], int]()
    for which, attempt, time in sorted(heard, key=lambda one: one[2]):
        sealed = NOW + int(time) // 10 * 10
        name = which, int(sealed)
        try:
            claim = nonces.claim(number(hash(name)), sealed, attempt, b"")
        except Rejected:
            assert best.get(name, 0) >= attempt
            continue
        assert claim.fresh is (name not in begun)
        assert attempt > best.get(name, 0)
        begun.add(name)
        best[name] = attempt
