"""Every kind of session that the anomaly law is tried on, by name, and where it happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from tests.faults.openings import OPENINGS
from tests.faults.scenarios import SCENARIOS
from tests.faults.second_thoughts import SECOND_THOUGHTS, loopback_of_its_own

EVERY = SCENARIOS | {one.name: one for one in (*OPENINGS, *SECOND_THOUGHTS)}

every = pytest.mark.parametrize(
    "name", [pytest.param(one.name, marks=[pytest.mark.netns] * one.alone) for one in EVERY.values()]
)


@pytest.fixture
def place(name: str) -> Iterator[None]:
    """The test runs where its scenario does."""
    with loopback_of_its_own() if EVERY[name].alone else nullcontext():
        yield
