"""Differences that the documentation names: each with the page that says so, and its words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.differ.judge import Complaint
from tests.differ.scenarios import Scenario


@dataclass(frozen=True, slots=True)
class Accepted:
    """A difference that is meant to be: where it may show, and where a user can read of it."""

    page: str
    quote: str
    holds: Callable[[Scenario, Complaint], bool]


ACCEPTED: tuple[Accepted, ...] = ()


def is_accepted(scenario: Scenario, complaint: Complaint) -> bool:
    """Whether the documentation says so."""
    return any(one.holds(scenario, complaint) for one in ACCEPTED)
