"""What is written → what runs: names become references, and nonsense is refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from proxy.config import schema, sense, unused, ways
from proxy.config.addresses import Destination, EndpointAddress
from proxy.config.conditions import NetworkCondition
from proxy.config.fill import Filler, homes_of_keys, read_scalar, shape_of
from proxy.config.mistakes import Findings, closest, listed
from proxy.config.nodes import Entry, MappingNode, Node, ScalarNode, Tree, is_empty, overlay
from proxy.config.scalars import BadScalar
from proxy.core.clusters import Balance, Ejection, Health, Source, Tls, Via
from proxy.core.destinations import Ban, Destinations
from proxy.core.lockout import Login
from proxy.core.networks import Network
from proxy.core.snapshot import (
    DIRECT,
    Admin,
    Cluster,
    Connect,
    Dns,
    Family,
    FarSide,
    FastOpen,
    Keepalive,
    Listener,
    Log,
    Mode,
    ProxyHeader,
    Replay,
    Reply,
    SendHeader,
    ServerFirst,
    Snapshot,
    Timeouts,
)
from proxy.core.users import Users


@dataclass(frozen=True, slots=True)
class Compiled:
    """A snapshot, and the filled-in file it came from; worth nothing once a mistake was found."""

    snapshot: Snapshot
    config: schema.Config


def compile_config(root: MappingNode, findings: Findings) -> Compiled:
    """Everything from the file's root node to a snapshot."""
    tree = Tree(_with_defaults(root))
    config = _fill(schema.Config, tree.root, findings)
    sense.check(config, tree, findings)
    unused.check(config, Tree(root), findings)
    return Compiled(_Compiler(tree, config, findings).snapshot(), config)


@dataclass(slots=True)
class _Compiler:
    """Follows the references of one file."""

    tree: Tree
    config: schema.Config
    findings: Findings
    clusters: dict[str, Cluster] = field(default_factory=dict[str, Cluster])
    used: set[str] = field(default_factory=set[str])
    direct: Cluster = field(init=False, default=DIRECT)

    def snapshot(self) -> Snapshot:
        """The whole of it."""
        config = self.config
        self.clusters |= {name: _cluster(name, written) for name, written in config.clusters.items()}
        self.direct = _cluster(DIRECT.name, config.defaults)
        listeners = tuple(listener for name in config.listeners if (listener := self.listener(name)))
        routes = ways.compile_routes(self, self.direct)
        self.check_unused()
        return Snapshot(
            listeners=listeners,
            clusters=self.clusters,
            routes=routes,
            destinations=Destinations(_bans(config.direct.deny), _bans(config.direct.allow)),
            dns=_dns(config.dns),
            log=Log(config.log.level, config.log.format, config.log.sessions),
            limits=config.limits.caps(),
            login=Login(config.login.attempts, config.login.longest_wait.value, config.login.window.value),
            admin=_admin(config.admin),
            user=config.user.value if config.user else None,
            group=config.group.value if config.group else None,
            workers=config.workers.value,
            drain_delay=config.drain_delay.value,
            drain=config.drain.value,
            state=config.state.value if config.state else None,
            tfo_keys=tuple(key for several in config.tfo_keys for key in several.value),
        )

    def listener(self, name: str) -> Listener | None:
        """The listener of this name; None if it is not known where it sends its sessions."""
        written = self.config.listeners[name]
        mode = Mode(written.mode)
        cluster = self.forward_to(name, written.to, needed=mode is Mode.FORWARD)
        if cluster is None:
            return None
        return Listener(
            name=name,
            binds=tuple(bind.value for bind in written.bind),
            mode=mode,
            cluster=cluster,
            fast_open=written.fast_open,
            backlog=written.backlog,
            reply=Reply(written.reply),
            proxy_header=ProxyHeader(written.proxy_protocol),
            trust=_networks(written.trust),
            users=Users({user: secret.value for user, secret in written.users.items()})
            if written.users
            else None,
            allow=_networks(written.allow or ()),
            far_side=_far_side(written),
            timeouts=_timeouts(written.timeouts),
            limits=written.limits.caps(),
            per_destination=written.limits.per_destination.value,
        )

    def forward_to(self, name: str, to: Destination | None, *, needed: bool) -> Cluster | None:
        """The cluster that a listener's ``to`` names; `direct` where nothing ``needed`` is said."""
        if to is None and not needed:
            return self.direct
        if to is None:
            node = self.tree.nearest("listeners", name, "to")
            if is_empty(self.tree.find("listeners", name, "to")):
                self.findings.wrong(node.place, f"listeners.{name} has no `to`; write {Destination.kind}")
            return None
        return self.destination(f"listeners.{name}.to", self.tree.find("listeners", name, "to"), to)

    def destination(self, path: str, node: Node | None, to: Destination) -> Cluster | None:
        """The cluster that a ``to`` names, made up for a bare address."""
        if not isinstance(node, ScalarNode):
            return None
        if to.is_bare:
            return self.bare(path, node)
        self.used.add(to.value)
        names = self.tree.entries("clusters")
        if to.value not in names:
            meant = _meant(node, names) if self.findings.has_room else "name a cluster"
            problem = f"{path}: {node} is neither a cluster nor an address"
            self.findings.wrong(node.place, f"{problem}; {meant}")
        return self.clusters.get(to.value)

    def bare(self, path: str, node: ScalarNode) -> Cluster | None:
        """A cluster of one endpoint, dialled as ``defaults`` says, for an address written in a ``to``."""
        try:
            endpoint = read_scalar(EndpointAddress, node).value
        except BadScalar as error:
            self.findings.wrong(node.place, f"{path}: {error}")
            return None
        text = str(endpoint)
        if text not in self.clusters:
            self.clusters[text] = replace(_cluster(text, self.config.defaults), endpoints=(endpoint,))
        return self.clusters[text]

    def check_unused(self) -> None:
        """Warn of clusters that nothing names."""
        for name, entry in self.tree.entries("clusters").items():
            if name not in self.used:
                problem = f"cluster {name!r} is not used; name it in a `to`, or leave it out"
                self.findings.pointless(entry.key, problem)


def _networks(written: Iterable[NetworkCondition]) -> tuple[Network, ...]:
    return tuple(network for one in written for network in one.networks)


def _bans(written: Iterable[NetworkCondition]) -> tuple[Ban, ...]:
    return tuple(Ban(one.value, one.networks) for one in written)


def _meant(node: Node, clusters: Iterable[str]) -> str:
    """What a ``to`` that names nothing was probably to name."""
    close = closest(node.text, clusters) if isinstance(node, ScalarNode) and not node.foreign else None
    if close:
        return f"did you mean {close!r}?"
    known = listed(clusters)
    rest = "an address has a port, like api.example.com:443"
    return f"the clusters are {known}, and {rest}" if known else f"there are no clusters, and {rest}"


def _fill(cls: type[schema.SectionT], node: MappingNode, findings: Findings) -> schema.SectionT:
    """``node`` as a struct of the schema."""
    filler = Filler(homes_of_keys(shape_of(schema.Config)), findings)
    filled = filler.struct(shape_of(cls), node, "")
    if not isinstance(filled, cls):
        raise TypeError(f"{cls.__name__} cannot be left out")
    return filled


def _with_defaults(root: MappingNode) -> MappingNode:
    """The tree with ``defaults`` laid under each cluster, key by key; not if they hold mistakes themselves."""
    defaults, clusters = root.get("defaults"), root.get("clusters")
    if not isinstance(defaults, MappingNode) or not isinstance(clusters, MappingNode):
        return root
    findings = Findings()
    _fill(schema.ClusterDefaults, defaults, findings)
    if findings.mistakes:
        return root
    laid = {name: Entry(entry.key, overlay(defaults, entry.node)) for name, entry in clusters.entries.items()}
    return root.with_entry("clusters", Entry(root.entries["clusters"].key, replace(clusters, entries=laid)))


def _cluster(name: str, written: schema.ClusterDefaults) -> Cluster:
    endpoints = written.endpoints if isinstance(written, schema.Cluster) else ()
    weights = tuple(endpoint.weight for endpoint in endpoints)
    return Cluster(
        name=name,
        endpoints=tuple(endpoint.address.value for endpoint in endpoints),
        balance=Balance(written.balance),
        weights=weights if set(weights) - {1} else (),
        eject=Ejection(
            written.eject.after, written.eject.time.value, written.eject.longest.value, written.eject.most
        ),
        health=_health(written.health),
        source=_source(written.source),
        via=_via(written.via),
        fast_open=FastOpen(written.fast_open),
        replay=Replay(written.replay),
        server_first=ServerFirst(written.server_first),
        syn_data=written.syn_data.value,
        warm_up=written.warm_up,
        hedge=written.hedge.value,
        preconnect=written.preconnect.value,
        connect=Connect(written.connect.timeout.value, written.connect.retries),
        keepalive=_keepalive(written.keepalive),
        proxy_header=SendHeader(written.proxy_protocol),
    )


def _health(written: schema.Health | str) -> Health | None:
    if isinstance(written, schema.Health):
        return Health(written.every.value, written.timeout.value, written.rise, written.fall)
    return None


def _source(written: schema.Source | None) -> Source | None:
    if written is None:
        return None
    return Source(
        tuple(address.value for address in written.address),
        written.interface.value if written.interface is not None else None,
        written.mark.value if written.mark is not None else None,
    )


def _via(written: schema.Via | None) -> Via | None:
    if written is None:
        return None
    if written.tunnel is not None:
        keys = tuple(key for several in written.key for key in several.value)
        return Via("tunnel", written.tunnel.value, keys=keys, tls=_tls(written.tls))
    gateways = {"socks": written.socks, "http": written.http}
    return next((Via(kind, *one.value) for kind, one in gateways.items() if one is not None), None)


def _tls(written: schema.Tls | None) -> Tls | None:
    if written is None:
        return None
    said = (written.ca, written.cert, written.key, written.name)
    return Tls(*(one.value if one is not None else None for one in said))


def _far_side(written: schema.Listener) -> FarSide | None:
    if written.mode != "tunnel":
        return None
    keys = tuple(key for several in written.key for key in several.value)
    return FarSide(keys, written.window.value, _tls(written.tls))


def _dns(written: schema.Dns) -> Dns:
    servers = tuple(server.value for server in written.servers if server.value is not None)
    ttls = written.ttl.value, written.negative_ttl.value, written.stale.value
    return Dns(*ttls, servers, Family(written.family))


def _keepalive(written: schema.Keepalive | str) -> Keepalive | None:
    if isinstance(written, schema.Keepalive):
        return Keepalive(written.idle.value, written.interval.value, written.count)
    return None


def _admin(written: schema.Admin | None) -> Admin | None:
    if written is None:
        return None
    binds = tuple(bind.value for bind in written.bind)
    hosts = tuple(host.value for host in written.hosts)
    return Admin(binds, written.token.value if written.token is not None else None, hosts)


def _timeouts(written: schema.Timeouts) -> Timeouts:
    return Timeouts(
        first_bytes=written.first_bytes.value,
        handshake=written.handshake.value,
        idle=written.idle.value,
        half_closed=written.half_closed.value,
        lifetime=written.lifetime.value,
    )
