from __future__ import annotations

import pytest

from proxy.core.lockout import FIRST_WAIT, Lockout, Login

FORGIVEN, LONGEST_WAIT, FORGOTTEN_AFTER = Login().attempts, Login().longest_wait, Login().window
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


def test_the_same_wrong_password_again_is_no_new_guess() -> None:
    lockout = Lockout(key=b"k")
    marks = [lockout.mark(1, "alice", password) for password in ("old", "older", "x" * 255, "\udcff")]
    for mark in marks:
        assert not lockout.was_wrong(ME, "alice", mark, 0.0)
        lockout.failed(ME, "alice", 0.0, mark)
        assert lockout.was_wrong(ME, "alice", mark, 1.0)
        assert not lockout.was_wrong(YOU, "alice", mark, 1.0)
        assert not lockout.was_wrong(ME, "bob", mark, 1.0)
    assert len({*marks, lockout.mark(2, "alice", "old"), lockout.mark(1, "bob", "old")}) == 6, (
        "other users, another name"
    )
    assert not any(lockout.was_wrong(ME, "alice", mark, FORGOTTEN_AFTER + 1) for mark in marks)


def test_a_right_one_clears_and_has_no_turn_to_wait_for_until_there_are_too_many_guesses() -> None:
    lockout = Lockout(key=b"k")
    right = lockout.mark(1, "alice", "sesame")
    fail(lockout, 20)
    assert lockout.turn(ME, "alice", 0.0, 3.0) is None
    lockout.succeeded(ME, "alice", right)
    assert lockout.turn(ME, "alice", 0.0, 3.0) == 0.0
    fail(lockout, 50)
    assert lockout.was_right(ME, "alice", right)
    assert not lockout.was_right(YOU, "alice", right)
    assert not lockout.was_right(ME, "alice", lockout.mark(1, "alice", "guess"))
    fail(lockout, 51)
    assert not lockout.was_right(ME, "alice", right)


def test_what_was_right_is_remembered_of_so_many_clients() -> None:
    lockout = Lockout(key=b"k", most=10)
    marks = [(b"%d" % number, lockout.mark(1, "alice", "sesame")) for number in range(1000)]
    for client, mark in marks:
        lockout.succeeded(client, "alice", mark)
    assert len([client for client, mark in marks if lockout.was_right(client, "alice", mark)]) == 10


def test_the_rules_can_be_changed() -> None:
    lockout = Lockout(Login(attempts=1, longest_wait=1.0, window=10.0))
    fail(lockout, 8)
    assert lockout.turn(ME, "alice", 0.0, 3.0) == 1.0
    assert lockout.turn(ME, "alice", 11.0, 3.0) == 0.0
    lockout.rules = Login(attempts=100)
    fail(lockout, 50, "bob")
    assert lockout.turn(ME, "bob", 0.0, 3.0) == 0.0
