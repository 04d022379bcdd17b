from __future__ import annotations

import random

import pytest

from proxy.core.losses import FEWEST, MOST, Losses


def dials_until_enough(losses: Losses) -> int:
    return next(number for number in range(1, MOST + 1) if losses.lost())


def test_two_in_a_row_are_enough_where_nothing_was_lost_before() -> None:
    losses = Losses()
    assert dials_until_enough(losses) == FEWEST


def test_one_is_never_enough() -> None:
    losses = Losses()
    for _ in range(100):
        assert not losses.lost()
        losses.got_through()


def test_a_path_that_loses_by_chance_needs_more_of_them() -> None:
    losses = Losses()
    for _ in range(20):
        losses.lost()
        losses.got_through()
        losses.got_through()
    assert dials_until_enough(losses) > FEWEST


def test_enough_is_enough_however_bad_the_path() -> None:
    losses = Losses()
    for _ in range(200):
        losses.lost()
        losses.got_through()
    assert dials_until_enough(losses) == MOST


def test_chance_is_forgotten_when_losses_stop() -> None:
    losses = Losses()
    for _ in range(20):
        losses.lost()
        losses.got_through()
    for _ in range(200):
        losses.got_through()
    assert dials_until_enough(losses) == FEWEST


@pytest.mark.parametrize(("rate", "allowed"), [(0.01, 0.001), (0.1, 0.01), (0.19, 0.01), (0.3, 0.01)])
def test_chance_losses_seldom_look_like_a_middlebox(rate: float, allowed: float) -> None:
    """The share of dials after which a quarantine begins, on a path that loses so many."""
    dice = random.Random(7413)
    losses, sentenced, dials = Losses(), 0, 20_000
    for _ in range(dials):
        if dice.random() >= rate:
            losses.got_through()
        elif losses.lost():
            sentenced += 1
            losses.in_a_row = 0
    assert sentenced / dials < allowed
