"""What looking a name up yields."""

from __future__ import annotations

from typing import NamedTuple

LOOKUP_TIMEOUT = 5.0


class LookupFailed(Exception):
    """No answer; says what was asked and why. ``lasting``: the name is known not to exist."""

    def __init__(self, problem: str, *, lasting: bool = False) -> None:
        super().__init__(problem)
        self.lasting = lasting


class Addresses(NamedTuple):
    """Numeric addresses, the best first (RFC 6724), and how long they are good for; None: nobody said."""

    hosts: tuple[str, ...]
    ttl: float | None


class Server(NamedTuple):
    """One server of a service (RFC 2782)."""

    priority: int
    weight: int
    host: str
    port: int


class Servers(NamedTuple):
    """All servers of a service, and how long they are good for."""

    servers: tuple[Server, ...]
    ttl: float | None
