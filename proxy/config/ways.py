"""The routes, as written → as run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from proxy.config import schema
from proxy.config.addresses import Destination
from proxy.config.conditions import HostCondition, NetworkCondition
from proxy.config.mistakes import Findings, closest, listed
from proxy.config.nodes import MappingNode, Node, Tree, is_empty, items_of
from proxy.core.clusters import Cluster
from proxy.core.networks import Network
from proxy.core.patterns import compile_pattern
from proxy.core.routes import Route, Routes, Rule
from proxy.core.rules import Names

_NAMED = 4  # rules that one mistake names


class References(Protocol):
    """What knows the rest of the file."""

    @property
    def tree(self) -> Tree: ...
    @property
    def config(self) -> schema.Config: ...
    @property
    def findings(self) -> Findings: ...
    def destination(self, path: str, node: Node | None, to: Destination) -> Cluster | None:
        """The cluster that a ``to`` names."""


def compile_routes(references: References, direct: Cluster) -> Routes:
    """All of them, in order; what is wrong with one is noted."""
    written, findings = references.config.routes, references.findings
    node = references.tree.find("routes")
    nodes = () if node is None or is_empty(node) else items_of(node)
    if len(nodes) != len(written):  # one is no mapping, and that has been told
        return Routes((), direct)
    rules = [
        _rule(references, number, *both, direct)
        for number, both in enumerate(zip(written, nodes, strict=True))
    ]
    routes = Routes(tuple(rules), direct)
    if not findings.mistakes:
        for number, others in routes.never():
            first = [f"routes[{other + 1}], at {nodes[other].place}" for other in others[:_NAMED]]
            who = ", and ".join([*first, f"{len(others) - _NAMED} more"] if len(others) > _NAMED else first)
            takes, them = ("takes", "that one") if len(others) == 1 else ("together take", "those")
            what = f"routes[{number + 1}] can never match: {who}, {takes} it all"
            findings.wrong(nodes[number].place, f"{what}; put it before {them}, or leave it out")
    return routes


def _rule(references: References, number: int, written: schema.Route, node: Node, direct: Cluster) -> Rule:
    match = written.match
    _check_listeners(references, number, match, node)
    return Rule(
        route=_route(references, number, written, node, direct),
        host=_names(match.host),
        ports=tuple(ports.value for ports in match.port),
        networks=_networks(match.network),
        clients=_networks(match.client),
        listeners=frozenset(name.value for name in match.listener),
        users=frozenset(name.value for name in match.user),
        sni=_names(match.sni),
    )


def _route(references: References, number: int, written: schema.Route, node: Node, direct: Cluster) -> Route:
    path, place = f"routes[{number + 1}]", str(node.place)
    to = node.get("to") if isinstance(node, MappingNode) else None
    refuse = node.get("refuse") if isinstance(node, MappingNode) else None
    if to is not None and refuse is not None:
        references.findings.wrong(node.place, f"{path} has both `to` and `refuse`; leave one out")
    elif is_empty(to) and is_empty(refuse):
        meant = "write `to:` and a cluster or direct, or `refuse:` and a reason"
        references.findings.wrong(node.place, f"{path} says neither `to` nor `refuse`; {meant}")
    if written.refuse is not None:
        return Route(None, written.refuse.value, number + 1, place)
    if written.to is None or written.to.value == direct.name:
        return Route(direct, None, number + 1, place)
    cluster = references.destination(f"{path}.to", to, written.to)
    return Route(cluster or direct, None, number + 1, place)


def _check_listeners(references: References, number: int, match: schema.Match, node: Node) -> None:
    """A rule for a listener that is not there is a slip of the pen."""
    known = references.config.listeners
    for name in match.listener:
        if name.value not in known:
            close = closest(name.value, known)
            meant = f"did you mean {close!r}?" if close else f"the listeners are {listed(known)}"
            problem = f"routes[{number + 1}].match.listener: there is no listener {name.value!r}; {meant}"
            references.findings.wrong(node.place, problem)


def _names(written: Iterable[HostCondition]) -> Names | None:
    values = [one.value for one in written]
    if not values:
        return None
    patterns = [value for value in values if value.startswith("/")]
    suffixes = [value for value in values if value.startswith("*.")]
    return Names(
        frozenset(values).difference(patterns, suffixes),
        frozenset(value[1:] for value in suffixes),
        tuple(compile_pattern(value[1:-1]) for value in patterns),
    )


def _networks(written: Iterable[NetworkCondition]) -> tuple[Network, ...]:
    return tuple(network for one in written for network in one.networks)
