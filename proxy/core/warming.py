"""How far a warm-up has come: who was to be warmed, and what became of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum


class Warmth(StrEnum):
    """What became of one endpoint."""

    FETCHED = "fetched"  # a cookie has come
    HELD = "held"  # it was there already
    NO_FAST_OPEN = "no_fast_open"  # none comes, neither to us nor to those before us
    DROPPED = "dropped"  # the way there swallows the option; left alone until its quarantine ends
    UNREACHABLE = "unreachable"  # no handshake, neither so nor plainly


@dataclass(frozen=True, slots=True)
class Warming:
    """One warm-up, from all endpoints being asked for to the last of them; those that appear later join it."""

    began: float  # monotonic seconds: the round that runs, or else the last one
    lasted: float  # seconds, so far
    over: bool
    endpoints: int = 0  # that are known by now, all rounds together
    found: dict[Warmth, int] = field(default_factory=dict[Warmth, int])

    @property
    def done(self) -> int:
        """Endpoints that need not be waited for any more."""
        return sum(self.found.values())

    @property
    def waiting(self) -> int:
        """Endpoints that are being asked, or will be."""
        return self.endpoints - self.done

    def number(self, warmth: Warmth) -> int:
        """How many of them this became of."""
        return self.found.get(warmth, 0)


def together(parts: Iterable[Warming]) -> Warming | None:
    """What several workers have done, each with a share of the endpoints; None where nobody has begun."""
    known = list(parts)
    if not known:
        return None
    busy = [one for one in known if not one.over]
    shown = min(busy, key=_began) if busy else max(known, key=_ended)
    return Warming(
        began=shown.began,
        lasted=shown.lasted,
        over=not busy,
        endpoints=sum(one.endpoints for one in known),
        found={warmth: sum(one.number(warmth) for one in known) for warmth in Warmth},
    )


def _began(one: Warming) -> float:
    return one.began


def _ended(one: Warming) -> float:
    return one.began + one.lasted
