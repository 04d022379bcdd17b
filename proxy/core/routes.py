"""Which way a session goes whose client named its destination: an ordered list of rules, the first that matches wins.

``network`` looks at the address that is dialled. Where a name was asked for, its rules are asked once more when the
name has been resolved (`RouteQuery.address`), so a name is no way around them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from proxy.core.address import Target
from proxy.core.clusters import Cluster


class RouteQuery(NamedTuple):
    """What is known of a session when its way is looked for."""

    authority: Target | None  # what the client asked for; None where it asked for nothing
    client: str  # its numeric address; "" for a client on a unix socket
    listener: str
    user: str | None = None  # as whom it has authenticated itself
    sni: str | None = None  # the name in its ClientHello, in lower case
    address: str | None = None  # numeric: what the authority's name was resolved to, if it was


class Route(NamedTuple):
    """Where a session goes (``cluster``), or why it goes nowhere (``refusal``); exactly one of them is set."""

    cluster: Cluster | None
    refusal: str | None = None
    rule: int | None = None  # counts the file's rules from 1; None: no rule matched, so direct
    place: str = ""  # file:line:column of the rule


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold (all that is said), and where such sessions go."""

    route: Route


@dataclass(frozen=True, slots=True)
class Routes:
    """All rules, in order; ``direct`` is where sessions go that none of them takes."""

    rules: tuple[Rule, ...]
    direct: Cluster

    def match(self, query: RouteQuery) -> Route:  # noqa: ARG002  # the rules' conditions come next
        """The route of the first rule that takes this session."""
        return self.rules[0].route if self.rules else Route(self.direct)
