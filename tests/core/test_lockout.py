from __future__ import annotations

import pytest

from proxy.core.lockout import FIRST_WAIT, FORGIVEN, FORGOTTEN_AFTER, LONGEST_WAIT, Lockout

ME, YOU = b"192.0.2.1", b"192.0.2.2"


def fail(lockout: Lockout, times: int, user: str = "alice", now: float = 0.0) -> None:
    for _ in range(times):
        lockout.failed(ME, user, now)


def test_who_never_failed_never_waits() -> None:
    lockout = Lockout()
    assert [lockout.turn(ME, "alice", 0.0, 3.0) for _ in range(100)] == [0.0] * 100
    assert len(lockout) == 0


def test_some_typing_errors_are_forgiven() -> None:
    lockout = Lockout()
    for _ in range(FORGIVEN - 1):
        lockout.failed(ME, "alice", 0.0)
        assert lockout.turn(ME, "alice", 0.0, 3.0) == 0.0


def test_then_each_takes_twice_as_long() -> None:
    lockout, now, waits = Lockout(), 0.0, []
    for _ in range(14):
        pause = lockout.turn(ME, "alice", now, 60.0)
        assert pause is not None
        waits.append(pause)
        now += pause
        lockout.failed(ME, "alice", now)
    assert waits[:FORGIVEN] == [0.0] * FORGIVEN
    assert waits[FORGIVEN : FORGIVEN + 3] == pytest.approx([FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT])
    assert waits[-1] == pytest.approx(LONGEST_WAIT)


def test_many_at_once_wait_one_behind_the_other_and_the_rest_are_not_looked_at() -> None:
    lockout = Lockout()
    fail(lockout, FORGIVEN + 1)  # half a second each
    turns = [lockout.turn(ME, "alice", 0.0, 3.0) for _ in range(100)]
    assert turns[:6] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
    assert turns[6:] == [None] * 94


def test_others_do_not_wait() -> None:
    lockout = Lockout()
    fail(lockout, 20)
    assert lockout.turn(ME, "alice", 0.0, 3.0) is None
    assert lockout.turn(YOU, "alice", 0.0, 3.0) == 0.0
    assert lockout.turn(ME, "bob", 0.0, 3.0) == 0.0


def test_who_tries_name_after_name_is_slowed_all_the_same() -> None:
    lockout = Lockout()
    for number in range(100):
        lockout.failed(ME, f"user{number}", 0.0)
    assert len(lockout) == 9
    assert lockout.turn(ME, "yet another", 0.0, 3.0) is None
    assert lockout.turn(ME, "user0", 0.0, 3.0) == 0.0, "who failed once"


def test_it_is_forgotten_after_a_while() -> None:
    lockout = Lockout()
    fail(lockout, 50)
    later = FORGOTTEN_AFTER + LONGEST_WAIT
    assert lockout.turn(ME, "alice", later, 3.0) == 0.0
    assert lockout.turn(ME, "alice", later, 3.0) == 0.0
    lockout.failed(ME, "alice", later)
    assert lockout.turn(ME, "alice", later, 3.0) == 0.0


def test_memory_is_bounded_and_the_oldest_go_first() -> None:
    lockout = Lockout(most=10)
    fail(lockout, 20)
    for number in range(9):
        lockout.failed(b"%d" % number, "x", 1.0)
    lockout.failed(ME, "alice", 1.0)
    for number in range(9):
        lockout.failed(b"again%d" % number, "x", 2.0)
    assert len(lockout) == 10
    assert lockout.turn(ME, "alice", 2.0, 3.0) is None, "it failed after those that went"
    for number in range(1000):
        lockout.failed(b"more%d" % number, "x", 3.0)
    assert len(lockout) == 10
