"""What is written well and still makes no sense: refused where it cannot work, warned of where it changes nothing."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import NamedTuple

from proxy.config import schema, tunnels
from proxy.config.addresses import BindAddress
from proxy.config.admission import check_limits
from proxy.config.fill import read_scalar
from proxy.config.mistakes import Findings, Place, closest, quoted
from proxy.config.nodes import MappingNode, Node, ScalarNode, SequenceNode, Tree, is_empty, items_of
from proxy.config.scalars import BadScalar
from proxy.core.clusters import Service
from proxy.core.networks import NAMED, is_within
from proxy.core.snapshot import CLIENT_NAMES_DESTINATION, Auto, Bind

_NAME = re.compile(schema.NAME_PATTERN)
_RESERVED = frozenset({"direct"})  # what routes call the destination the client asked for
_NAMED_BY_CLIENTS = frozenset(mode.value for mode in CLIENT_NAMES_DESTINATION)
_KEYS_AT_MOST = 2  # TCP_FASTOPEN_KEY takes the current key and a backup (net/ipv4/tcp_fastopen.c)
_ANY, _V4_ANY, _V6_ANY = "*", "0.0.0.0", "::"  # compared with, never bound


class Taken(NamedTuple):
    """An address that a listener (the admin: one without a name) binds, and where the file says so."""

    bind: Bind
    listener: str
    node: Node


def check(config: schema.Config, tree: Tree, findings: Findings) -> None:
    """Note everything of the kind, except about references, which `config.compile` follows."""
    _check_listeners(tree, findings)
    for section in ("listeners", "clusters"):
        _check_names(section, tree, findings)
    _check_dialling(config.defaults, ("defaults",), tree, findings)
    for name, cluster in config.clusters.items():
        _check_twice(cluster, name, tree, findings)
        _check_via(cluster, name, tree, findings)
        _check_dialling(cluster, ("clusters", name), tree, findings)
    for name, listener in config.listeners.items():
        _check_admission(listener, name, tree, findings)
        check_limits(listener.limits, ("listeners", name, "limits"), tree, findings)
        tunnels.check_far(listener, name, tree, findings)
    check_limits(config.limits, ("limits",), tree, findings)
    _check_binds(config, tree, findings)
    _check_admin(config.admin, tree, findings)
    _check_keys(config, tree, findings)


def _check_listeners(tree: Tree, findings: Findings) -> None:
    """Without listeners nothing would be served; a misspelt ``listeners`` has been told already."""
    node = tree.find("listeners")
    misspelt = closest("listeners", tree.root.entries.keys() - set(schema.Config.__struct_fields__))
    if (is_empty(node) and misspelt is None) or (isinstance(node, MappingNode) and not node.entries):
        findings.wrong(tree.root.place, "there are no listeners; write at least one below `listeners:`")


def _check_names(section: str, tree: Tree, findings: Findings) -> None:
    """Names go into logs, metrics and URLs, so they are plain."""
    for name, entry in tree.entries(section).items():
        if not _NAME.fullmatch(name):
            meant = "write up to 63 letters, digits, dots, dashes and underscores"
            findings.wrong(entry.key, f"{section}: {quoted(name)} is not a name; {meant}")
        elif name in _RESERVED and section == "clusters":
            problem = f"clusters: {name!r} already means what the client asked for; choose another name"
            findings.wrong(entry.key, problem)


def _check_twice(cluster: schema.Cluster, name: str, tree: Tree, findings: Findings) -> None:
    """An endpoint listed twice gets no more sessions for it."""
    seen: set[object] = set()
    for endpoint in cluster.endpoints:
        if endpoint.address in seen:
            place = tree.nearest("clusters", name, "endpoints").place
            findings.pointless(place, f"clusters.{name}.endpoints: one is listed twice; once is enough")
        seen.add(endpoint.address)


def _check_via(cluster: schema.Cluster, name: str, tree: Tree, findings: Findings) -> None:
    """A gateway looks names up, and knows no way to ask it for an SRV record."""
    for endpoint in cluster.endpoints if cluster.via is not None else ():
        if isinstance(endpoint.address.value, Service):
            place = tree.nearest("clusters", name, "endpoints").place
            meant = "write the names it stands for, or leave `via` out"
            findings.wrong(
                place, f"clusters.{name}.endpoints: a gateway cannot be asked for {endpoint.address}; {meant}"
            )


def _check_dialling(
    written: schema.ClusterDefaults, path: tuple[str, ...], tree: Tree, findings: Findings
) -> None:
    """What the keys that clusters and ``defaults`` share say together."""
    label = ".".join(path)
    hedge, timeout = written.hedge.value, written.connect.timeout
    place = tree.nearest(*path, "hedge").place
    if isinstance(hedge, float) and hedge >= timeout.value:
        why = f"{written.hedge} is not below connect.timeout, which is {timeout}"
        findings.wrong_once(place, f"{label}.hedge: {why}; the second dial would never start")
    if written.via is not None:
        tunnels.check_near(written.via, path, tree, findings)
    if written.preconnect.value and written.via is not None and written.via.tunnel is not None:
        place = tree.nearest(*path, "preconnect").place
        why = "a tunnel has no spare connections"
        findings.wrong_once(place, f"{label}.preconnect: {why}; leave it out, or write `preconnect: off`")
    if isinstance(written.syn_data.value, Auto):
        return
    off = {"fast_open: off": written.fast_open == "off", "replay: none": written.replay == "none"}
    for reason in (reason for reason, holds in off.items() if holds):
        place = tree.nearest(*path, "syn_data").place
        findings.pointless(place, f"{label}.syn_data: with {reason} no SYN carries data; leave it out")


def _check_admission(listener: schema.Listener, name: str, tree: Tree, findings: Findings) -> None:
    """Who may come in: a proxy that goes wherever anybody says is a weapon of whoever finds it."""
    label, path = f"listeners.{name}", ("listeners", name)
    for key in ("allow", "users"):
        node = tree.find(*path, key)
        if isinstance(node, SequenceNode | MappingNode) and not _content(node):
            findings.wrong(node.place, f"{label}.{key}: it is empty; say who, or leave it out")
    named = listener.mode in _NAMED_BY_CLIENTS and listener.mode != "tunnel"  # whose clients have a key
    if named and not listener.allow and not (listener.users and _asks(listener)):
        open_to = next((bind for bind in listener.bind if not _is_local(bind.value)), None)
        if open_to is not None:
            why = f"{open_to} is open to others, and they name where the proxy goes"
            meant = "say who may connect (`allow: [10.0.0.0/8]`)" + (" or `users`" if _asks(listener) else "")
            findings.wrong(tree.nearest(*path, "bind").place, f"{label}.bind: {why}; {meant}")
    if listener.users and not _asks(listener):
        problem = (
            f"{label}.users: mode {listener.mode} asks nobody who he is; leave them out, or write `allow`"
        )
        findings.wrong(tree.nearest(*path, "users").place, problem)
    if listener.proxy_protocol != "off" and not listener.trust and not _only_unix(listener):
        problem = f"{label}.proxy_protocol: say whose headers are believed (`trust: [10.0.0.5]`)"
        findings.wrong(tree.nearest(*path, "proxy_protocol").place, problem)
    if listener.to is not None and listener.mode not in {"forward", "sni"}:
        problem = (
            f"{label}.to: in mode {listener.mode} the client says where to; write `routes`, or leave it out"
        )
        findings.wrong(tree.nearest(*path, "to").place, problem)
    if listener.trust and listener.proxy_protocol == "off":
        place = tree.nearest(*path, "trust").place
        findings.pointless(
            place, f"{label}.trust: without proxy_protocol nobody's header is read; leave it out"
        )
    if listener.reply != "auto" and not _asks(listener):
        place = tree.nearest(*path, "reply").place
        findings.pointless(place, f"{label}.reply: mode {listener.mode} has no reply; leave it out")


def _content(node: SequenceNode | MappingNode) -> Collection[object]:
    return node.items if isinstance(node, SequenceNode) else node.entries


def _asks(listener: schema.Listener) -> bool:
    """Whether its clients wait for an answer."""
    return listener.mode in {"socks", "http", "mixed"}


def _is_local(bind: Bind) -> bool:
    """Whether only this machine can come in here; who may open a unix socket is the file system's to say."""
    return bind.is_unix or (bind.host != _ANY and is_within(bind.host, NAMED["loopback"]))


def _only_unix(listener: schema.Listener) -> bool:
    return all(bind.value.is_unix for bind in listener.bind)


def _check_binds(config: schema.Config, tree: Tree, findings: Findings) -> None:
    """No two listeners may want the same address and port."""
    taken: dict[int | str, dict[str, Taken]] = {}  # by port, or the path of a unix socket, then by host
    for wanted in _binds(config, tree):
        bind = wanted.bind
        if bind.port == 0 and not bind.is_unix:
            continue  # the kernel picks a free one
        neighbours = taken.setdefault(normal_path(bind.host) if bind.is_unix else bind.port, {})
        other = _overlapping(bind, neighbours)
        if other is None:
            neighbours[bind.host] = wanted
            continue
        whom = "this listener" if other.listener == wanted.listener else _owner(other)
        why = "binds it" if other.bind == bind else f"binds {other.node}, which overlaps,"
        label = f"listeners.{wanted.listener}" if wanted.listener else "admin"
        problem = f"{label}.bind: {wanted.node} is taken; {whom} {why} already"
        findings.wrong(wanted.node.place, problem)


def _owner(taken: Taken) -> str:
    return f"listener {quoted(taken.listener)}" if taken.listener else "the admin"


def _overlapping(bind: Bind, neighbours: dict[str, Taken]) -> Taken | None:
    """The one with which the kernel would refuse to listen on ``bind`` too (EADDRINUSE)."""
    if bind.is_unix:
        return next(iter(neighbours.values()), None)
    for host in covering(bind.host):
        if host in neighbours:
            return neighbours[host]
    if bind.host not in {_ANY, _V4_ANY, _V6_ANY}:
        return None
    is_v6 = ":" in bind.host
    return next(
        (one for host, one in neighbours.items() if bind.host == _ANY or is_v6 is (":" in host)), None
    )


def _binds(config: schema.Config, tree: Tree) -> Iterator[Taken]:
    """Every address that is written well."""
    for name in [*config.listeners, ""]:
        node = tree.find("listeners", name, "bind") if name else tree.find("admin", "bind")
        for item in items_of(node) if node else ():
            if isinstance(item, ScalarNode) and not item.broken:
                with suppress(BadScalar):
                    yield Taken(read_scalar(BindAddress, item).value, name, item)


def _check_admin(admin: schema.Admin | None, tree: Tree, findings: Findings) -> None:
    """Who can reach it learns whom the clients talk to, and may say what the proxy does."""
    if admin is None or admin.token is not None:
        return
    open_to = next((bind for bind in admin.bind if not _is_local(bind.value)), None)
    if open_to is not None:
        meant = "give a token (`token: ${file:/run/secrets/admin}`), or bind to 127.0.0.1 or a unix socket"
        problem = f"admin.bind: {open_to} is open to others, and there is no token; {meant}"
        findings.wrong(tree.nearest("admin", "bind").place, problem)


def _check_keys(config: schema.Config, tree: Tree, findings: Findings) -> None:
    """The kernel holds two keys for SYN cookies."""
    keys = [key for several in config.tfo_keys for key in several.value]
    place = tree.nearest("tfo_keys").place
    if len(keys) > _KEYS_AT_MOST:
        problem = f"tfo_keys: {len(keys)} keys, but the kernel holds two; give the newest and the one before"
        findings.wrong(place, problem, hide=True)
    elif len(set(keys)) < len(keys):
        findings.pointless(place, "tfo_keys: both keys are the same; one is enough", hide=True)
    if keys and not any(listener.fast_open for listener in config.listeners.values()):
        findings.pointless(
            _key_place(tree, "tfo_keys"), "tfo_keys: no listener takes data in SYNs; leave them out"
        )


def _key_place(tree: Tree, key: str) -> Place:
    entry = tree.root.entries.get(key)
    return entry.key if entry else tree.root.place


def covering(host: str) -> tuple[str, str, str]:
    """What a socket is bound to that listens on the numeric ``host``: itself, or every address (of its family)."""
    return host, _ANY, _V6_ANY if ":" in host else _V4_ANY


def normal_path(path: str) -> str:
    """One spelling of the path of a unix socket; abstract names have but one."""
    return path if path.startswith("@") else posixpath.normpath(path)
