"""Which way a session goes whose client named its destination: an ordered list of rules, the first that matches wins.

``network`` looks at the address that is dialled. Where a name was asked for and a rule's network could decide, the
answer is a route that `needs_address`: the name is to be resolved, and the question asked again with
`RouteQuery.address`. So a name is no way around a network, and no name is resolved for nothing.

Ten thousand rules cost what ten do: each is found under its rarest condition (`_Index`), and only what is found there
is looked at, in the file's order. Only rules for names whose pattern leaves the name's end open (``/ads.*/``) and that
have no other condition are tried one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

from proxy.core.clusters import Cluster
from proxy.core.networks import NetworkIndex
from proxy.core.rules import Facts, Names, Route, RouteQuery, Rule, parents

__all__ = ["Route", "RouteQuery", "Routes", "Rule"]

_FEW_PORTS = 64  # a rule with so many is found under each of them
_MOST_COMPARED = 2000  # earlier rules that one is compared with in search of one that leaves it nothing

_KeyT = TypeVar("_KeyT")


@dataclass(frozen=True, slots=True)
class Routes:
    """All rules, in order; ``direct`` is where sessions go that none of them takes."""

    rules: tuple[Rule, ...]
    direct: Cluster
    _index: _Index = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_index", _Index(self.rules))

    def match(self, query: RouteQuery) -> Route:
        """The route of the first rule that takes this session."""
        rules = self.rules
        if not rules:
            return Route(self.direct)
        facts = Facts(query)
        first, undecided = len(rules), False
        for numbers in self._index.find(facts):
            for number in numbers:
                if number >= first:
                    break
                taken = rules[number].match(facts)
                if taken is not False:
                    first, undecided = number, taken is None
                    break
        if undecided:
            return Route(self.direct, needs_address=True)
        return rules[first].route if first < len(rules) else Route(self.direct)

    def never(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Rules that can never match, each with the earlier ones that take all it would take; numbers from 0.

        Several take it together where each takes some of what a rule lists: names, ports, networks, users, … . That
        two networks add up to a third, or patterns to all names, is not seen.
        """
        earlier = _Index(())
        for number, rule in enumerate(self.rules):
            takers = self._takers(rule, earlier, _Budget())
            if takers:
                yield number, tuple(sorted(takers))
            earlier.add(number, rule)

    def _takers(self, rule: Rule, earlier: _Index, budget: _Budget) -> set[int]:
        """Earlier rules that leave ``rule`` nothing; none where something may be left."""
        found = _sorted(earlier.find(_sample(rule)))[:_MOST_COMPARED]
        budget.left -= len(found) + 1
        other = next((other for other in found if self.rules[other].covers(rule)), None)
        if other is not None:
            return {other}
        if not found or budget.left <= 0:
            return set()
        takers: set[int] = set()
        for part in rule.parts() or self._by_ports(rule, found):
            some = self._takers(part, earlier, budget)
            if not some:
                return set()
            takers |= some
        return takers

    def _by_ports(self, rule: Rule, found: Iterable[int]) -> tuple[Rule, ...]:
        """Its one range of ports, cut where the ranges of those that may take its first port end."""
        first, last = rule.ports[0] if rule.ports else (0, 0)
        ends = [
            high for other in found for low, high in self.rules[other].ports if low <= first <= high < last
        ]
        if not ends:
            return ()
        cut = max(ends)
        return replace(rule, ports=((first, cut),)), replace(rule, ports=((cut + 1, last),))


class _Budget:
    """How many rules may yet be compared for the sake of one."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = 2 * _MOST_COMPARED


def _sorted(lists: Iterable[list[int]]) -> list[int]:
    return sorted({number for numbers in lists for number in numbers})


class _Index:
    """Rules by the condition that leaves the fewest of them; each list is in the file's order."""

    __slots__ = ("_clients", "_exact", "_listeners", "_networks", "_ports", "_rest", "_sni", "_suffix", "_unresolved",
                 "_users")  # fmt: skip

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._exact: dict[str, list[int]] = {}
        self._suffix: dict[str, list[int]] = {}
        self._sni: tuple[dict[str, list[int]], dict[str, list[int]]] = ({}, {})
        self._networks = NetworkIndex()
        self._clients = NetworkIndex()
        self._unresolved: list[int] = []  # those of `_networks`: any of them may be the one
        self._users: dict[str, list[int]] = {}
        self._ports: dict[int, list[int]] = {}
        self._listeners: dict[str, list[int]] = {}
        self._rest: list[int] = []
        for number, rule in enumerate(rules):
            self.add(number, rule)

    def add(self, number: int, rule: Rule) -> None:
        """Put it where sessions that it may take will find it."""
        if rule.host is not None and (below := rule.host.domains()) is not None:
            _add_names((self._exact, self._suffix), rule.host.exact, below, number)
        elif rule.sni is not None and (below := rule.sni.domains()) is not None:
            _add_names(self._sni, rule.sni.exact, below, number)
        elif rule.networks:
            self._unresolved.append(number)
            for network in rule.networks:
                self._networks.add(network, number)
        elif rule.clients:
            for network in rule.clients:
                self._clients.add(network, number)
        elif rule.users:
            _add(self._users, rule.users, number)
        elif rule.ports and sum(last - first + 1 for first, last in rule.ports) <= _FEW_PORTS:
            _add(self._ports, {port for a, b in rule.ports for port in range(a, b + 1)}, number)
        elif rule.listeners:
            _add(self._listeners, rule.listeners, number)
        else:
            self._rest.append(number)

    def find(self, facts: Facts) -> Iterator[list[int]]:
        """Lists of all rules that may take this session; the same rule may be in several."""
        query = facts.query
        if facts.host is not None:
            yield from _find_names((self._exact, self._suffix), facts.host)
        if query.sni is not None:
            yield from _find_names(self._sni, query.sni)
        if facts.unresolved:
            yield self._unresolved
        elif self._networks:
            yield from self._networks.find(facts.addresses)
        if self._clients:
            yield from self._clients.find(facts.client)
        if query.user is not None and self._users:
            yield self._users.get(query.user, [])
        yield self._ports.get(facts.port, [])
        yield self._listeners.get(query.listener, [])
        yield self._rest


def _add_names(
    tables: tuple[dict[str, list[int]], dict[str, list[int]]],
    exact: Iterable[str],
    below: Iterable[str],
    number: int,
) -> None:
    _add(tables[0], exact, number)
    _add(tables[1], below, number)


def _find_names(tables: tuple[dict[str, list[int]], dict[str, list[int]]], name: str) -> Iterator[list[int]]:
    exact, suffixes = tables
    if name in exact:
        yield exact[name]
    if suffixes:
        for parent in parents(name):
            if parent in suffixes:
                yield suffixes[parent]


def _add(table: dict[_KeyT, list[int]], keys: Iterable[_KeyT], number: int) -> None:
    for key in keys:
        table.setdefault(key, []).append(number)


def _sample(rule: Rule) -> Facts:
    """A session that this rule would take, as far as one can be made up: who covers the rule must take it too."""
    facts = Facts(
        RouteQuery(
            None,
            "",
            min(rule.listeners, default=""),
            min(rule.users) if rule.users else None,
            _sample_name(rule.sni),
        )
    )
    facts.host = _sample_name(rule.host)
    facts.port = rule.ports[0][0] if rule.ports else 0
    facts.client = tuple((one.version, one.value) for one in rule.clients[:1])
    facts.addresses = tuple((one.version, one.value) for one in rule.networks[:1])
    facts.unresolved = False
    return facts


def _sample_name(names: Names | None) -> str | None:
    if names is None:
        return None
    if names.exact:
        return min(names.exact)
    return f"a{min(below)}" if (below := names.domains()) else None
