"""One rule of the routes: what must hold of a session, and where such sessions go."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

from proxy.core.address import Authority, Target
from proxy.core.clusters import Cluster
from proxy.core.networks import Network, Numeric, itself, meanings
from proxy.core.patterns import literal_end


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
    needs_address: bool = False  # a network may decide: resolve the name, and ask again with the address


@dataclass(frozen=True, slots=True)
class Names:
    """Conditions on a name: one of these must hold. All in lower case; ``suffixes`` begin with a dot."""

    exact: frozenset[str] = frozenset()
    suffixes: frozenset[str] = frozenset()
    patterns: tuple[re.Pattern[str], ...] = ()

    def domains(self) -> frozenset[str] | None:
        """Domains (``.example.com``) that each name is below which a suffix or a pattern takes.

        None: some pattern leaves the end of the name open.
        """
        ends = [_domain(pattern) for pattern in self.patterns]
        return self.suffixes.union(ends) if all(ends) else None

    def parts(self) -> tuple[Names, ...]:
        """Each condition by itself."""
        return (
            *(Names(frozenset({name})) for name in sorted(self.exact)),
            *(Names(frozenset(), frozenset({suffix})) for suffix in sorted(self.suffixes)),
            *(Names(patterns=(pattern,)) for pattern in self.patterns),
        )

    def match(self, name: str) -> bool:
        """Whether one does. ``*.example.com`` is every name below example.com, and not example.com itself."""
        if name in self.exact:
            return True
        if self.suffixes and any(suffix in self.suffixes for suffix in parents(name)):
            return True
        return any(pattern.fullmatch(name) for pattern in self.patterns)

    def covers(self, other: Names) -> bool:
        """Whether every name that ``other`` takes is certainly taken here."""
        return (
            all(self.match(name) for name in other.exact)
            and all(_below(suffix, self.suffixes) for suffix in other.suffixes)
            and all(
                pattern in self.patterns or _below(_domain(pattern), self.suffixes)
                for pattern in other.patterns
            )
        )


def _domain(pattern: re.Pattern[str]) -> str:
    """The domain that each name is below which it takes; ``""`` where that is open."""
    end = literal_end(pattern.pattern)
    return end[end.find(".") :] if "." in end else ""


def parents(name: str) -> Iterator[str]:
    """``.b.c`` and ``.c`` of ``a.b.c``."""
    at = name.find(".")
    while at >= 0:
        yield name[at:]
        at = name.find(".", at + 1)


def _below(suffix: str, suffixes: frozenset[str]) -> bool:
    return suffix in suffixes or any(parent in suffixes for parent in parents(suffix[1:]))


PortRange: TypeAlias = tuple[int, int]
"""The first and last port."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold (all that is said), and where such sessions go. None or nothing: not said.

    In ``networks`` and ``clients``, an IPv4 address inside an IPv6 one counts for rules that refuse only: a client may
    write any into an address of its own network.
    """

    route: Route
    host: Names | None = None
    ports: tuple[PortRange, ...] = ()
    networks: tuple[Network, ...] = ()
    clients: tuple[Network, ...] = ()
    listeners: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    sni: Names | None = None

    def match(self, facts: Facts) -> bool | None:
        """Whether it takes the session; None: it would if the network matched, which is not known yet."""
        query = facts.query
        if self.host is not None and (facts.host is None or not self.host.match(facts.host)):
            return False
        if self.ports and not any(first <= facts.port <= last for first, last in self.ports):
            return False
        if self.listeners and query.listener not in self.listeners:
            return False
        if self.users and query.user not in self.users:
            return False
        if self.sni is not None and (query.sni is None or not self.sni.match(query.sni)):
            return False
        refuses = self.route.refusal is not None
        if self.clients and not _within(facts.client, self.clients, all_meanings=refuses):
            return False
        if not self.networks:
            return True
        return None if facts.unresolved else _within(facts.addresses, self.networks, all_meanings=refuses)

    def parts(self) -> tuple[Rule, ...]:
        """The same rule in pieces along its first condition that says several things; none if all say one."""
        pieces = (
            [replace(self, host=one) for one in self.host.parts()] if self.host is not None else [],
            [replace(self, sni=one) for one in self.sni.parts()] if self.sni is not None else [],
            [replace(self, users=frozenset({user})) for user in sorted(self.users)],
            [replace(self, listeners=frozenset({name})) for name in sorted(self.listeners)],
            [replace(self, networks=(network,)) for network in self.networks],
            [replace(self, clients=(network,)) for network in self.clients],
            [replace(self, ports=(ports,)) for ports in self.ports],
        )
        return next((tuple(several) for several in pieces if len(several) > 1), ())

    def covers(self, other: Rule) -> bool:
        """Whether every session that ``other`` would take is certainly taken here."""
        return (
            (self.host is None or (other.host is not None and self.host.covers(other.host)))
            and (
                not self.ports or (bool(other.ports) and all(_spans(self.ports, one) for one in other.ports))
            )
            and self._covers_networks(self.networks, other, other.networks)
            and self._covers_networks(self.clients, other, other.clients)
            and (not self.listeners or (bool(other.listeners) and other.listeners <= self.listeners))
            and (not self.users or (bool(other.users) and other.users <= self.users))
            and (self.sni is None or (other.sni is not None and self.sni.covers(other.sni)))
        )

    def _covers_networks(self, ours: tuple[Network, ...], other: Rule, theirs: tuple[Network, ...]) -> bool:
        if not ours:
            return True
        if self.route.refusal is None and other.route.refusal is not None:
            return False  # it takes addresses, with others inside, that this rule does not
        return bool(theirs) and all(any(one.covers(network) for one in ours) for network in theirs)


def _within(addresses: tuple[Numeric, ...], networks: Iterable[Network], *, all_meanings: bool) -> bool:
    """Whether the first of ``addresses``, or any of all the address's meanings, is in one of ``networks``."""
    counted = addresses if all_meanings else addresses[:1]
    return any(network.holds(address) for network in networks for address in counted)


def _spans(ports: Iterable[PortRange], wanted: PortRange) -> bool:
    first = wanted[0]
    for low, high in sorted(ports):
        if low <= first <= high:
            first = high + 1
    return first > wanted[1]


class Facts:
    """A query, made ready to be compared."""

    __slots__ = ("addresses", "client", "host", "port", "query", "unresolved")

    def __init__(self, query: RouteQuery) -> None:
        """Takes the addresses apart once, for all rules."""
        authority, address = query.authority, query.address
        self.query = query
        self.host = authority.host.removesuffix(".") if authority is not None else None
        self.port = authority.port if authority is not None else 0
        self.client = _meanings(query.client)
        if address is None and authority is not None and not isinstance(authority, Authority):
            address = authority.host
        self.addresses = _meanings(address) if address is not None else ()
        self.unresolved = address is None and authority is not None


def _meanings(host: str) -> tuple[Numeric, ...]:
    """What the address is itself, first, and all that it may mean; nothing for what is no IP address."""
    try:
        return tuple(dict.fromkeys((itself(host), *meanings(host))))
    except ValueError:  # a unix socket's path
        return ()
