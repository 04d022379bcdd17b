"""Keys and rules that are written well and can have no effect where they stand: each is told, with its place.

`tests/config/test_unused.py` has a table of all keys of the schema, and where each has an effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from proxy.config import schema
from proxy.config.mistakes import Findings, quoted
from proxy.config.nodes import Tree, is_empty, items_of
from proxy.core.address import is_numeric

_ADDRESS_ONLY = frozenset({"transparent", "tproxy"})  # modes whose clients have looked the name up already


def check(config: schema.Config, tree: Tree, findings: Findings) -> None:
    """Note all of them. ``tree`` is the file as it is written, without defaults laid under clusters."""
    for name, listener in config.listeners.items():
        for key, why in _of_listener(listener):
            node = tree.find("listeners", name, *key.split("."))
            if node is not None:
                findings.pointless(node.place, f"listeners.{name}.{key}: {why}; leave it out")
    for name, cluster in config.clusters.items():
        for key, why in _of_cluster(cluster):
            node = tree.find("clusters", name, key)
            if node is not None:
                findings.pointless(node.place, f"clusters.{name}.{key}: {why}; leave it out")
    for key, why in _of_file(config):
        node = tree.find(key)
        if node is not None and not is_empty(node):
            findings.pointless(node.place, f"{key}: {why}; leave it out")
    _check_routes(config, tree, findings)


def _of_listener(listener: schema.Listener) -> Iterator[tuple[str, str]]:
    if listener.mode != "tunnel":
        yield "window", "only mode tunnel has one"
    unheard = listener.mode in {"forward", *_ADDRESS_ONLY} and listener.proxy_protocol == "off"
    if unheard:
        yield "timeouts.handshake", f"in mode {listener.mode} a client says nothing of where it wants to go"
    if not all(bind.value.is_unix for bind in listener.bind):
        return
    yield "fast_open", "a unix socket has no SYN"
    if listener.proxy_protocol == "off":
        for key in ("allow", "limits.per_client", "limits.client_rate"):
            yield key, "clients of a unix socket have no address"


def _of_cluster(cluster: schema.Cluster) -> Iterator[tuple[str, str]]:
    if cluster.fast_open == "off":
        yield "hedge", "with fast_open: off there is no dial for it to stand beside"
        yield "warm_up", "with fast_open: off there are no cookies to fetch"
    if cluster.via is None and all(str(one.address).startswith("unix:") for one in cluster.endpoints):
        for key in ("preconnect", "source", "syn_data", "keepalive", "warm_up"):
            yield key, "a unix socket has no TCP"
    if cluster.via is not None and any(one.weight != 1 for one in cluster.endpoints):
        yield "endpoints", "through a gateway each endpoint has its turn; weights change nothing"


def _of_file(config: schema.Config) -> Iterator[tuple[str, str]]:
    listeners = config.listeners.values()
    if listeners and all(listener.mode == "forward" for listener in listeners):
        for key in ("routes", "direct"):
            yield (
                key,
                "in mode forward all sessions go where `to` says, and there is no listener of another mode",
            )
    if not any(listener.users for listener in listeners):
        yield "login", "no listener has users"


def _check_routes(config: schema.Config, tree: Tree, findings: Findings) -> None:
    node = tree.find("routes")
    nodes = () if node is None or is_empty(node) else items_of(node)
    if len(nodes) != len(config.routes):
        return
    for number, (route, where) in enumerate(zip(config.routes, nodes, strict=True), 1):
        named = {name.value for name in route.match.listener} or set(config.listeners)
        asked = [one for name, one in config.listeners.items() if name in named and one.mode != "forward"]
        why = (
            _never(route.match, asked) if asked else "its listeners are in mode forward, which asks no rules"
        )
        if why and any(one.mode != "forward" for one in config.listeners.values()):
            findings.pointless(where.place, f"routes[{number}] can never match: {why}")


def _never(match: schema.Match, asked: Sequence[schema.Listener]) -> str:
    """Why no session of these listeners meets all conditions; ``""`` where one may."""
    if match.sni:
        asked = [one for one in asked if one.mode == "sni"]
        if not asked:
            return "none of its listeners is in mode sni, and others read no TLS hello"
    if match.user:
        wanted = {name.value for name in match.user}
        asked = [one for one in asked if wanted & set(one.users or ())]
        if not asked:
            return f"none of its listeners has a user {' or '.join(quoted(name) for name in sorted(wanted))}"
    if match.host and all(one.mode in _ADDRESS_ONLY for one in asked):
        names = [str(host) for host in match.host if not is_numeric(host.value)]
        if len(names) == len(match.host):
            return f"its listeners know addresses only, and no name like {names[0]}; write `network`"
    return ""
