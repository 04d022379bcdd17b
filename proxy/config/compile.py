"""What is written → what runs: names become references, and nonsense is refused."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from proxy.config import schema
from proxy.config.fill import Filler, homes_of_keys, is_empty, said, shape_of
from proxy.config.mistakes import Mistake, Place
from proxy.config.scalars import BadScalar, BindAddress, Destination, EndpointAddress
from proxy.config.source import Entry, MappingNode, Node, ScalarNode, SequenceNode
from proxy.core.snapshot import (
    Auto,
    Bind,
    Cluster,
    Connect,
    FastOpen,
    Keepalive,
    Listener,
    Log,
    Mode,
    Replay,
    ServerFirst,
    Snapshot,
    Timeouts,
)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}\Z")
_RESERVED = frozenset({"direct"})  # what routes call the destination the client asked for
_KEYS_AT_MOST = 2  # the kernel holds two keys (TCP_FASTOPEN_KEY, net/ipv4/tcp.c)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A snapshot and the filled-in file it came from; worth nothing if there are ``mistakes``."""

    snapshot: Snapshot
    config: schema.Config
    mistakes: list[Mistake]
    warnings: list[Mistake]


def compile_config(root: MappingNode) -> Compiled:
    """Everything from the file's root node to a snapshot."""
    tree = _with_defaults(root)
    shape = shape_of(schema.Config)
    filler = Filler(homes_of_keys(shape))
    config = filler.struct(shape, tree, "")
    assert isinstance(config, schema.Config)
    compiler = _Compiler(tree, config, filler.mistakes)
    snapshot = compiler.snapshot()
    return Compiled(snapshot, config, compiler.mistakes, compiler.warnings)


@dataclass(slots=True)
class _Compiler:
    tree: MappingNode
    config: schema.Config
    mistakes: list[Mistake]
    warnings: list[Mistake] = field(default_factory=list[Mistake])
    clusters: dict[str, Cluster] = field(default_factory=dict[str, Cluster])
    used: set[str] = field(default_factory=set[str])

    def snapshot(self) -> Snapshot:
        config = self.config
        for section in ("listeners", "clusters"):
            self.check_names(section)
        self.check_dialling(config.defaults, "defaults")
        for name, written in config.clusters.items():
            self.check_cluster(written, name)
            self.clusters[name] = _cluster(name, written)
        listeners = [listener for name in config.listeners if (listener := self.listener(name))]
        if is_empty(self.get("listeners")):
            self.note(self.tree.place, "there are no listeners; write at least one below `listeners:`")
        self.check_binds()
        self.check_unused()
        return Snapshot(
            listeners=tuple(listeners),
            clusters=self.clusters,
            log=Log(config.log.level, config.log.format, config.log.sessions),
            drain=config.drain.value,
            state=config.state.value if config.state else None,
            tfo_keys=self.tfo_keys(),
        )

    def listener(self, name: str) -> Listener | None:
        """The listener of this name; None if where it sends sessions is not known."""
        written = self.config.listeners[name]
        node = self.node("listeners", name)
        if isinstance(self.get("listeners", name, "bind"), SequenceNode) and not written.bind:
            self.empty("listeners", name, "bind", "write where to listen")
        cluster = self.destination(name, written.to, node)
        if cluster is None:
            return None
        return Listener(
            name=name,
            binds=tuple(bind.value for bind in written.bind),
            mode=Mode(written.mode),
            cluster=cluster,
            fast_open=written.fast_open,
            backlog=written.backlog,
            timeouts=_timeouts(written.timeouts),
        )

    def destination(self, name: str, to: Destination | None, node: Node) -> Cluster | None:
        """The cluster that a listener's ``to`` names, made up for a bare address."""
        if to is None:
            if is_empty(self.get("listeners", name, "to")) and isinstance(node, MappingNode):
                self.note(node.place, f"listeners.{name} has no `to`; write {Destination.kind}")
            return None
        place = self.node("listeners", name, "to")
        if to.is_bare:
            return self.bare(name, to, place)
        self.used.add(to.value)
        if to.value in self.clusters:
            return self.clusters[to.value]
        names = self.names("clusters")
        if to.value not in names:
            known = f"the clusters are {', '.join(names)}" if names else "there are no clusters"
            self.note(
                place.place,
                f"listeners.{name}.to: {said(place)} is neither a cluster nor an address; {known}, "
                "and an address has a port, like api.example.com:443",
            )
        return None

    def bare(self, name: str, to: Destination, node: Node) -> Cluster | None:
        """A cluster of one endpoint, dialled as ``defaults`` says, for an address written in a ``to``."""
        try:
            endpoint = EndpointAddress.read(to.value)
        except BadScalar as error:
            foreign = isinstance(node, ScalarNode) and node.foreign
            problem = f"{said(node)} does not fit; write {Destination.kind}" if foreign else str(error)
            self.note(node.place, f"listeners.{name}.to: {problem}")
            return None
        key = str(endpoint.value)
        if key not in self.clusters:
            self.clusters[key] = replace(_cluster(key, self.config.defaults), endpoints=(endpoint.value,))
        return self.clusters[key]

    def check_names(self, section: str) -> None:
        """Names go into logs, metrics and URLs, so they are plain."""
        node = self.get(section)
        for name, entry in node.entries.items() if isinstance(node, MappingNode) else ():
            if not _NAME.match(name):
                self.note(
                    entry.key,
                    f"{section}: {name[:80]!r} is not a name; write up to 63 letters, digits, dots, dashes and underscores",
                )
            elif name in _RESERVED and section == "clusters":
                self.note(entry.key, f"clusters: {name!r} already means what the client asked for; choose another name")

    def check_cluster(self, written: schema.Cluster, name: str) -> None:
        """What a cluster's keys say together."""
        if isinstance(node := self.get("clusters", name, "endpoints"), SequenceNode):
            if not node.items:
                self.empty("clusters", name, "endpoints", f"write {EndpointAddress.kind}")
            seen: set[object] = set()
            for endpoint in written.endpoints:
                if endpoint.value in seen:
                    self.warn(node.place, f"clusters.{name}.endpoints: {endpoint} is listed twice; once is enough")
                seen.add(endpoint.value)
        self.check_dialling(written, f"clusters.{name}")

    def check_dialling(self, written: schema.ClusterDefaults, path: str) -> None:
        """What the keys that clusters and ``defaults`` share say together."""
        keys = path.split(".", 1)
        hedge, timeout = written.hedge.value, written.connect.timeout
        if isinstance(hedge, float) and hedge >= timeout.value:
            self.note(
                self.node(*keys, "hedge").place,
                f"{path}.hedge: {written.hedge} is not below connect.timeout, {timeout}; the second dial would never start",
            )
        is_without = written.fast_open == "off" or written.replay == "none"
        if is_without and not isinstance(written.syn_data.value, Auto):
            why = "fast_open: off" if written.fast_open == "off" else "replay: none"
            self.warn(
                self.node(*keys, "syn_data").place, f"{path}.syn_data: with {why} no SYN carries data; leave it out"
            )

    def check_binds(self) -> None:
        """No two listeners may want the same address and port."""
        taken: list[tuple[Bind, str, Place]] = []
        for name, bind, place in self.binds():
            other = next(((bound, owner) for bound, owner, _ in taken if _collide(bound, bind)), None)
            if other is None:
                taken.append((bind, name, place))
                continue
            bound, owner = other
            whom = "this listener" if owner == name else f"listener {owner!r}"
            told = "binds it" if bound == bind else f"binds {bound}, which holds it,"
            self.note(place, f"listeners.{name}.bind: {bind} is taken; {whom} {told} already")

    def binds(self) -> Iterator[tuple[str, Bind, Place]]:
        """Every good bind of the file: its listener's name, itself, and its place."""
        for name, listener in self.config.listeners.items():
            node = self.node("listeners", name, "bind")
            items = node.items if isinstance(node, SequenceNode) else (node,)
            good = {bind.value for bind in listener.bind}
            for item in items:
                bind = _bind_of(item)
                if bind in good and bind is not None:
                    yield name, bind, item.place

    def check_unused(self) -> None:
        """Warn about what changes nothing."""
        for name in self.names("clusters"):
            if name not in self.used:
                self.warn(self.key("clusters", name), f"cluster {name!r} is not used; name it in a `to`, or leave it out")
        listeners = self.config.listeners.values()
        if self.config.tfo_keys and not any(listener.fast_open for listener in listeners):
            self.warn(self.key("tfo_keys"), "tfo_keys: no listener takes data in SYNs; the keys are not used")

    def tfo_keys(self) -> tuple[bytes, ...]:
        """All keys; more than the kernel holds is a mistake."""
        keys = tuple(key for several in self.config.tfo_keys for key in several.value)
        place = self.node("tfo_keys").place
        if len(keys) > _KEYS_AT_MOST:
            problem = f"tfo_keys: {len(keys)} keys; the kernel holds {_KEYS_AT_MOST}, the newest and the one before"
            self.mistakes.append(Mistake(place, problem, hide=True))
        elif len(set(keys)) < len(keys):
            self.warnings.append(Mistake(place, "tfo_keys: both keys are the same; one is enough", hide=True))
        return keys

    def names(self, section: str) -> list[str]:
        """The names written below a section, good or not."""
        node = self.get(section)
        return list(node.entries) if isinstance(node, MappingNode) else []

    def get(self, *path: str) -> Node | None:
        """The node at ``path``."""
        node: Node | None = self.tree
        for key in path:
            node = node.get(key) if isinstance(node, MappingNode) else None
        return node

    def node(self, *path: str) -> Node:
        """The node at ``path``, or the nearest above it."""
        while path and self.get(*path) is None:
            path = path[:-1]
        return self.get(*path) or self.tree

    def key(self, *path: str) -> Place:
        """Where the last key of ``path`` stands."""
        above = self.node(*path[:-1])
        entry = above.entries.get(path[-1]) if isinstance(above, MappingNode) else None
        return entry.key if entry else above.place

    def empty(self, section: str, name: str, key: str, meant: str) -> None:
        node = self.node(section, name, key)
        if isinstance(node, SequenceNode) and not node.items:
            self.note(node.place, f"{section}.{name}.{key}: the list is empty; {meant}")

    def note(self, place: Place, problem: str) -> None:
        self.mistakes.append(Mistake(place, problem))

    def warn(self, place: Place, problem: str) -> None:
        self.warnings.append(Mistake(place, problem))


def _with_defaults(root: MappingNode) -> MappingNode:
    """The tree with ``defaults`` laid under each cluster, key by key."""
    defaults, clusters = root.get("defaults"), root.get("clusters")
    if not isinstance(defaults, MappingNode) or not isinstance(clusters, MappingNode):
        return root
    known = {key.name for key in shape_of(schema.ClusterDefaults).fields}
    usable = replace(defaults, entries={key: entry for key, entry in defaults.entries.items() if key in known})
    laid = {name: Entry(entry.key, _overlay(usable, entry.node)) for name, entry in clusters.entries.items()}
    return replace(root, entries=root.entries | {"clusters": Entry(root.entries["clusters"].key, replace(clusters, entries=laid))})


def _overlay(below: Node, above: Node) -> Node:
    """``above`` with what it does not say taken from ``below``."""
    if not isinstance(above, MappingNode) or not isinstance(below, MappingNode):
        return above
    entries = dict(below.entries)
    for key, entry in above.entries.items():
        under = below.get(key)
        entries[key] = Entry(entry.key, _overlay(under, entry.node)) if under else entry
    return replace(above, entries=entries)


def _cluster(name: str, written: schema.ClusterDefaults) -> Cluster:
    keepalive = written.keepalive
    return Cluster(
        name=name,
        endpoints=tuple(e.value for e in written.endpoints) if isinstance(written, schema.Cluster) else (),
        fast_open=FastOpen(written.fast_open),
        replay=Replay(written.replay),
        server_first=ServerFirst(written.server_first),
        syn_data=written.syn_data.value,
        warm_up=written.warm_up,
        hedge=written.hedge.value,
        preconnect=written.preconnect.value,
        connect=Connect(written.connect.timeout.value, written.connect.retries),
        keepalive=None
        if keepalive == "off"
        else Keepalive(keepalive.idle.value, keepalive.interval.value, keepalive.count),
    )


def _timeouts(written: schema.Timeouts) -> Timeouts:
    return Timeouts(
        first_bytes=written.first_bytes.value,
        handshake=written.handshake.value,
        idle=written.idle.value,
        half_closed=written.half_closed.value,
        lifetime=written.lifetime.value,
    )


def _bind_of(node: Node) -> Bind | None:
    """The address that an item of ``bind`` writes, if it is one."""
    try:
        return BindAddress.read(node.text).value if isinstance(node, ScalarNode) else None
    except BadScalar:
        return None


def _collide(one: Bind, other: Bind) -> bool:
    """Whether the kernel would refuse to listen on both (EADDRINUSE); ``*`` stands for every v4 and v6 address."""
    if one.is_unix or other.is_unix:
        return one.is_unix and other.is_unix and _normal_path(one.host) == _normal_path(other.host)
    if one.port != other.port or one.port == 0:
        return False
    return one.host == other.host or any(_covers(a.host, b.host) for a, b in ((one, other), (other, one)))


def _normal_path(path: str) -> str:
    return path if path.startswith("@") else posixpath.normpath(path)


def _covers(wide: str, host: str) -> bool:
    """Whether listening on ``wide`` takes ``host`` too."""
    if wide == "*":
        return True
    return (wide == "0.0.0.0" and ":" not in host) or (wide == "::" and (":" in host or host == "*"))
