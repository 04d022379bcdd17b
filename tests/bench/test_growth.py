from __future__ import annotations

import pytest

from bench.growth import Sweep, fit


def test_a_straight_line_is_found() -> None:
    assert fit([(1, 5), (2, 7), (10, 23)]) == pytest.approx((3, 2, 1))


def test_what_does_not_grow_has_no_slope() -> None:
    fixed, each, explained = fit([(10, 4), (1000, 4)])
    assert (fixed, each, explained) == (4, 0, 1)


def test_noise_is_not_explained() -> None:
    _, _, explained = fit([(1, 5), (2, 1), (3, 5), (4, 1)])
    assert explained < 0.3


def test_each_series_has_its_line() -> None:
    sweep = Sweep("t", "x", "y", {"a": [(1, 1), (2, 2)], "b": []})
    assert sweep.fits() == {"a": (0, 1, 1), "b": (0, 0, 1)}
