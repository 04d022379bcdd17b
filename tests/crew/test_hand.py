"""One process under a hand: what is said to it waits no longer than it makes sense."""

from __future__ import annotations

from proxy.crew import orders
from proxy.crew.hand import Hand
from tests.serving import Recorder


def hand() -> Hand:
    return Hand(lambda: orders.Begin(0, 2, "info", "json"), (), Recorder(), lambda *_: None, lambda: None)


def test_lessons_are_bounded_and_the_last_one_counts() -> None:
    one = hand()
    for turn in range(3):
        for number in range(5000):
            one.teach(number, orders.Learn() if turn < 2 else orders.Learn(standings=[]))
    assert len(one._lessons) == 2000


def test_nobody_is_nobody_to_kill() -> None:
    one = hand()
    one.kill()
    assert (one.pid, one.state, one.cut_off) == (0, "starting", None)
