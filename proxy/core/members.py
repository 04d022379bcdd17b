"""The endpoints of a cluster as they are known at one moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from proxy.core.address import Endpoint


@dataclass(frozen=True, eq=False, slots=True)
class Members:
    """Distinct endpoints and their weights, in the order of the file. Compared by identity: new ones, new plans."""

    endpoints: tuple[Endpoint, ...]
    weights: tuple[int, ...]
    at: dict[Endpoint, int] = field(init=False)
    """Endpoint → its number."""
    is_dual: bool = field(init=False)
    """Whether there are IPv6 addresses and others."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", {endpoint: number for number, endpoint in enumerate(self.endpoints)})
        object.__setattr__(self, "is_dual", len({endpoint.is_ipv6 for endpoint in self.endpoints}) > 1)

    def __len__(self) -> int:
        return len(self.endpoints)


def members_of(found: Iterable[tuple[Endpoint, int]]) -> Members:
    """Each endpoint once, with its first weight; those of weight 0 are left out."""
    once: dict[Endpoint, int] = {}
    for endpoint, weight in found:
        if weight > 0:
            once.setdefault(endpoint, weight)
    return Members(tuple(once), tuple(once.values()))
