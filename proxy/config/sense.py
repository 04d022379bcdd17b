"""What is written well and still makes no sense: refused where it cannot work, warned of where it changes nothing."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import NamedTuple

from proxy.config import schema
from proxy.config.addresses import BindAddress
from proxy.config.mistakes import Findings, Place
from proxy.config.nodes import Node, ScalarNode, Tree, is_empty, items_of
from proxy.config.scalars import BadScalar
from proxy.core.snapshot import Auto, Bind

_NAME = re.compile(schema.NAME_PATTERN)
_RESERVED = frozenset({"direct"})  # what routes call the destination the client asked for
_KEYS_AT_MOST = 2  # TCP_FASTOPEN_KEY takes the current key and a backup (net/ipv4/tcp_fastopen.c)
_V4_ANY, _V6_ANY = "0.0.0.0", "::"  # compared with, never bound


class Taken(NamedTuple):
    """An address that a listener binds, and where the file says so."""

    bind: Bind
    listener: str
    node: Node


def check(config: schema.Config, tree: Tree, findings: Findings) -> None:
    """Note everything of the kind, except about references, which `config.compile` follows."""
    if is_empty(tree.find("listeners")):
        findings.wrong(tree.root.place, "there are no listeners; write at least one below `listeners:`")
    for section in ("listeners", "clusters"):
        _check_names(section, tree, findings)
    _check_dialling(config.defaults, ("defaults",), tree, findings)
    for name, cluster in config.clusters.items():
        _check_twice(cluster, name, tree, findings)
        _check_dialling(cluster, ("clusters", name), tree, findings)
    _check_binds(config, tree, findings)
    _check_keys(config, tree, findings)


def _check_names(section: str, tree: Tree, findings: Findings) -> None:
    """Names go into logs, metrics and URLs, so they are plain."""
    for name, entry in tree.entries(section).items():
        if not _NAME.match(name):
            shown = name if len(name) <= 80 else f"{name[:77]}..."
            meant = "write up to 63 letters, digits, dots, dashes and underscores"
            findings.wrong(entry.key, f"{section}: {shown!r} is not a name; {meant}")
        elif name in _RESERVED and section == "clusters":
            problem = f"clusters: {name!r} already means what the client asked for; choose another name"
            findings.wrong(entry.key, problem)


def _check_twice(cluster: schema.Cluster, name: str, tree: Tree, findings: Findings) -> None:
    """An endpoint listed twice gets no more sessions for it."""
    seen: set[object] = set()
    for endpoint in cluster.endpoints:
        if endpoint.value in seen:
            place = tree.nearest("clusters", name, "endpoints").place
            findings.pointless(place, f"clusters.{name}.endpoints: one is listed twice; once is enough")
        seen.add(endpoint.value)


def _check_dialling(
    written: schema.ClusterDefaults, path: tuple[str, ...], tree: Tree, findings: Findings
) -> None:
    """What the keys that clusters and ``defaults`` share say together."""
    label = ".".join(path)
    hedge, timeout = written.hedge.value, written.connect.timeout
    place = tree.nearest(*path, "hedge").place
    if isinstance(hedge, float) and hedge >= timeout.value and not findings.knows(place):
        why = f"{written.hedge} is not below connect.timeout, which is {timeout}"
        findings.wrong(place, f"{label}.hedge: {why}; the second dial would never start")
    if isinstance(written.syn_data.value, Auto):
        return
    off = {"fast_open: off": written.fast_open == "off", "replay: none": written.replay == "none"}
    for reason in (reason for reason, holds in off.items() if holds):
        place = tree.nearest(*path, "syn_data").place
        findings.pointless(place, f"{label}.syn_data: with {reason} no SYN carries data; leave it out")


def _check_binds(config: schema.Config, tree: Tree, findings: Findings) -> None:
    """No two listeners may want the same address and port."""
    taken: list[Taken] = []
    for wanted in _binds(config, tree):
        other = next((one for one in taken if _collide(one.bind, wanted.bind)), None)
        if other is None:
            taken.append(wanted)
            continue
        whom = "this listener" if other.listener == wanted.listener else f"listener {other.listener!r}"
        why = "binds it" if other.bind == wanted.bind else f"binds {other.node}, which overlaps,"
        problem = f"listeners.{wanted.listener}.bind: {wanted.node} is taken; {whom} {why} already"
        findings.wrong(wanted.node.place, problem)


def _binds(config: schema.Config, tree: Tree) -> Iterator[Taken]:
    """Every address that is written well."""
    for name in config.listeners:
        node = tree.find("listeners", name, "bind")
        for item in items_of(node) if node else ():
            if isinstance(item, ScalarNode) and not item.broken:
                try:
                    yield Taken(BindAddress.read(item.text).value, name, item)
                except BadScalar:
                    continue


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


def _collide(one: Bind, other: Bind) -> bool:
    """Whether the kernel would refuse to listen on both (EADDRINUSE); ``*`` is every v4 and v6 address."""
    if one.is_unix or other.is_unix:
        return one.is_unix and other.is_unix and _normal_path(one.host) == _normal_path(other.host)
    if one.port != other.port or one.port == 0:
        return False
    return one.host == other.host or _covers(one.host, other.host) or _covers(other.host, one.host)


def _normal_path(path: str) -> str:
    return path if path.startswith("@") else posixpath.normpath(path)


def _covers(wide: str, host: str) -> bool:
    """Whether listening on ``wide`` takes ``host`` too."""
    is_v6 = ":" in host
    return wide == "*" or (wide == _V4_ANY and not is_v6) or (wide == _V6_ANY and is_v6)
