"""The part of the file that says how endpoints are dialled, as msgspec structs; `config.schema` has the rest."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct, field

from proxy.config.addresses import EndpointAddress, FilePath
from proxy.config.conditions import Text
from proxy.config.scalars import Duration, HedgeTime, Spares, SynData, WholeSeconds
from proxy.config.sources import Gateway, InterfaceName, Mark, SourceAddress
from proxy.config.tunnel_keys import TunnelAddress, TunnelKeys
from proxy.core import clusters

_KEEPALIVE = clusters.Keepalive()
_CONNECT = clusters.Connect()
_CLUSTER = clusters.Cluster("", ())
_EJECT = clusters.Ejection()
_HEALTH = clusters.Health()


class Section(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A mapping of the file with a fixed set of keys."""


class Connect(Section, frozen=True):
    """How endpoints are tried."""

    timeout: Annotated[Duration, Meta(description="The longest one endpoint may take to answer.")] = Duration(
        _CONNECT.timeout
    )
    retries: Annotated[
        int,
        Meta(
            ge=0,
            le=100,
            description="How many other endpoints are tried after one that fails. The addresses of one name count as "
            "one endpoint.",
        ),
    ] = _CONNECT.retries


class Keepalive(Section, frozen=True):
    """TCP keepalive towards both sides."""

    idle: Annotated[WholeSeconds, Meta(description="Silence after which probes begin.")] = WholeSeconds(
        _KEEPALIVE.idle
    )
    interval: Annotated[WholeSeconds, Meta(description="Time between two probes.")] = WholeSeconds(
        _KEEPALIVE.interval
    )
    count: Annotated[
        int, Meta(ge=1, le=127, description="Unanswered probes after which the session is ended.")
    ] = _KEEPALIVE.count


class Ejection(Section, frozen=True):
    """When an endpoint whose dials fail is left alone."""

    after: Annotated[int, Meta(ge=1, le=1000, description="Dials that fail in a row.")] = _EJECT.after
    time: Annotated[Duration, Meta(description="For how long at first; twice as long each time.")] = Duration(
        _EJECT.time
    )
    longest: Annotated[Duration, Meta(description="The longest it may get.")] = Duration(_EJECT.longest)
    most: Annotated[
        int,
        Meta(ge=0, le=100, description="Percent of a cluster's endpoints that may be out at once; 0: never."),
    ] = _EJECT.most


class Health(Section, frozen=True):
    """Active checks of each endpoint: a handshake, which is an empty Fast Open where there is Fast Open."""

    every: Annotated[Duration, Meta(description="From one check to the next.")] = Duration(_HEALTH.every)
    timeout: Annotated[Duration, Meta(description="The longest an endpoint may take to answer.")] = Duration(
        _HEALTH.timeout
    )
    rise: Annotated[
        int,
        Meta(ge=1, le=100, description="Checks in a row that must work before an endpoint is used again."),
    ] = _HEALTH.rise
    fall: Annotated[
        int,
        Meta(ge=1, le=100, description="Checks in a row that must fail before an endpoint is left alone."),
    ] = _HEALTH.fall


class Source(Section, frozen=True):
    """Where connections to the endpoints come from."""

    shorthand: ClassVar[str] = "address"
    address: Annotated[
        tuple[SourceAddress, ...], Meta(description="An address of this machine, at most one of each family.")
    ] = ()
    interface: Annotated[
        InterfaceName | None, Meta(description="A network interface (SO_BINDTODEVICE, may need CAP_NET_RAW).")
    ] = None
    mark: Annotated[
        Mark | None,
        Meta(description="The mark of all packets, for firewall and routing rules (CAP_NET_ADMIN)."),
    ] = None


class Tls(Section, frozen=True):
    """TLS 1.3 around a tunnel; it costs a round trip."""

    ca: Annotated[
        FilePath | None, Meta(description="PEM certificates of those who may have signed the other side's.")
    ] = None
    cert: Annotated[FilePath | None, Meta(description="Our own PEM certificate and what signed it.")] = None
    key: Annotated[FilePath | None, Meta(description="Its private key, where that is in another file.")] = (
        None
    )
    name: Annotated[Text | None, Meta(description="The name that the other side's must have.")] = None


class Via(Section, frozen=True):
    """Another proxy, through which the endpoints are reached."""

    socks: Annotated[
        Gateway | None, Meta(description="A SOCKS5 proxy: host:port or user:password@host:port.")
    ] = None
    http: Annotated[
        Gateway | None,
        Meta(description="An HTTP proxy that knows CONNECT: host:port or user:password@host:port."),
    ] = None
    tunnel: Annotated[
        TunnelAddress | None, Meta(description="Another tfo-proxy, listening in mode tunnel: host:port.")
    ] = None
    key: Annotated[
        tuple[TunnelKeys, ...],
        Meta(description="What we share with it: hexadecimal or base64; the first seals."),
    ] = ()
    tls: Annotated[Tls | None, Meta(description="TLS 1.3 around the tunnel.")] = None


class ClusterDefaults(Section, frozen=True):
    """How endpoints are dialled."""

    balance: Annotated[
        Literal["round_robin", "least_connections", "random", "source_hash", "first"],
        Meta(
            description="Who is next: round_robin, least_connections, random (the better of two), source_hash, first."
        ),
    ] = _CLUSTER.balance.value
    fast_open: Annotated[
        Literal["auto", "always", "off"],
        Meta(description="Fast Open towards the endpoints: auto (learn per endpoint), always, or off."),
    ] = _CLUSTER.fast_open.value
    replay: Annotated[
        Literal["safe", "any", "none"],
        Meta(
            description="Which first bytes may ride in a SYN, where the network may repeat them: safe, any or none."
        ),
    ] = _CLUSTER.replay.value
    server_first: Annotated[
        Literal["auto", "yes", "no"],
        Meta(description="Whether the servers speak before their clients: auto (learn)."),
    ] = _CLUSTER.server_first.value
    syn_data: Annotated[
        SynData, Meta(description="Most bytes in a SYN: auto (what the path has shown to take) or a size.")
    ] = SynData(_CLUSTER.syn_data)
    warm_up: Annotated[
        bool, Meta(description="Fetch cookies at start, on reload, and when an endpoint appears.")
    ] = _CLUSTER.warm_up
    hedge: Annotated[
        HedgeTime,
        Meta(
            description="When a plain dial starts beside a Fast Open dial that stays silent; off for never."
        ),
    ] = HedgeTime(_CLUSTER.hedge)
    preconnect: Annotated[
        Spares,
        Meta(
            description="Spare connections kept ready where Fast Open does not work or first bytes fit no SYN: off, "
            "auto (as many as will be used) or a number (always so many). Not through a tunnel."
        ),
    ] = Spares(_CLUSTER.preconnect)
    connect: Annotated[Connect, Meta(description="How endpoints are tried.")] = field(default_factory=Connect)
    keepalive: Annotated[
        Keepalive | Literal["off"], Meta(description="TCP keepalive towards both sides, or off.")
    ] = field(default_factory=Keepalive)
    proxy_protocol: Annotated[
        Literal["off", "v1", "v2"],
        Meta(description="Whether the endpoints are told whom a session is for, by a PROXY header."),
    ] = _CLUSTER.proxy_header.value
    eject: Annotated[
        Ejection, Meta(description="When an endpoint whose dials fail is left alone, and for how long.")
    ] = field(default_factory=Ejection)
    health: Annotated[
        Health | Literal["off"], Meta(description="Active checks of each endpoint, or off.")
    ] = "off"
    via: Annotated[
        Via | None,
        Meta(description="Another proxy, through which the endpoints are reached; it looks names up."),
    ] = None
    source: Annotated[
        Source | None,
        Meta(description="Where connections come from: an address, or {address, interface, mark}."),
    ] = None


class WeightedEndpoint(Section, frozen=True):
    """An endpoint and its share of the sessions."""

    shorthand: ClassVar[str] = "address"
    address: Annotated[EndpointAddress, Meta(description="The server, as in a list of endpoints.")]
    weight: Annotated[
        int, Meta(ge=0, le=1000, description="How many sessions it gets for one of weight 1; 0: none.")
    ] = 1


class EndpointList(Section, frozen=True):
    """What a file of endpoints holds."""

    endpoints: Annotated[tuple[WeightedEndpoint, ...], Meta(description="The servers.")] = ()


class Cluster(ClusterDefaults, kw_only=True, frozen=True):
    """A group of equivalent servers, and how they are dialled."""

    endpoints: Annotated[
        tuple[WeightedEndpoint, ...],
        Meta(
            description="The servers: host:port, unix:/path, srv:_service._tcp.name, file:path; {address, weight}."
        ),
    ]
