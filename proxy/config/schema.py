"""The file, as msgspec structs: a section a struct, a key a field with its default and what it means.

The descriptions are what `tfo-proxy schema` tells editors. Defaults are those of `proxy.core.snapshot`, so there is one
place for each. A required field is a collection or a choice, which `config.fill` can leave blank after a mistake.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, TypeVar

from msgspec import Meta, field

from proxy.config.addresses import BindAddress, Destination, FilePath, Password, TfoKeys
from proxy.config.admin_schema import Admin
from proxy.config.admission import Limits, ListenerLimits
from proxy.config.cluster_schema import (
    Cluster,
    ClusterDefaults,
    Connect,
    Ejection,
    EndpointList,
    Health,
    Keepalive,
    Section,
    Source,
    Tls,
    Via,
    WeightedEndpoint,
)
from proxy.config.conditions import NameServer, NetworkCondition, Text
from proxy.config.process_scalars import Workers
from proxy.config.route_schema import Direct, Match, Route
from proxy.config.scalars import Delay, Duration, Limit, Wait
from proxy.config.tunnel_keys import TunnelKeys
from proxy.core import snapshot

__all__ = [
    "NAME_PATTERN",
    "Admin",
    "Cluster",
    "ClusterDefaults",
    "Config",
    "Connect",
    "Direct",
    "Dns",
    "Ejection",
    "EndpointList",
    "Health",
    "Keepalive",
    "Limits",
    "Listener",
    "Log",
    "Login",
    "Match",
    "Name",
    "Route",
    "Section",
    "SectionT",
    "Source",
    "Timeouts",
    "Tls",
    "Via",
    "WeightedEndpoint",
]

NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$"

Name: TypeAlias = Annotated[str, Meta(pattern=NAME_PATTERN)]

_TIMEOUTS = snapshot.Timeouts()
_FAR_SIDE = snapshot.FarSide()
_DNS = snapshot.Dns()
_LOG = snapshot.Log()
_LOGIN = snapshot.Login()
_SNAPSHOT = snapshot.Snapshot((), {})


SectionT = TypeVar("SectionT", bound=Section)


class Timeouts(Section, frozen=True):
    """How long a listener's sessions may take over each part of their life."""

    first_bytes: Annotated[
        Wait,
        Meta(
            description="The longest wait for a client's first bytes, so that they can ride in the SYN; auto learns it."
        ),
    ] = Wait(_TIMEOUTS.first_bytes)
    handshake: Annotated[
        Duration, Meta(description="The longest a client may take to say where it wants to go.")
    ] = Duration(_TIMEOUTS.handshake)
    idle: Annotated[
        Limit,
        Meta(
            description="A session with no byte in either direction for this long is ended; none for never."
        ),
    ] = Limit(_TIMEOUTS.idle)
    half_closed: Annotated[
        Limit, Meta(description="The same once one direction has ended; none for never.")
    ] = Limit(_TIMEOUTS.half_closed)
    lifetime: Annotated[
        Limit, Meta(description="A session older than this is ended, busy or not; none for never.")
    ] = Limit(_TIMEOUTS.lifetime)


class Listener(Section, frozen=True):
    """A place where clients connect. Its name shows up in logs, metrics and errors."""

    bind: Annotated[
        tuple[BindAddress, ...],
        Meta(
            description='Where it listens: host:port, "[::1]:8080", "*:8080", unix:/run/x.sock, or a list of these.'
        ),
    ]
    mode: Annotated[
        Literal["forward", "socks", "http", "mixed", "sni", "transparent", "tproxy", "tunnel"],
        Meta(
            description="How it learns where its clients want to go: forward (always to `to`), socks, http, mixed "
            "(socks or http), sni (the name in a TLS hello), transparent (REDIRECT), tproxy (TPROXY) or tunnel "
            "(another tfo-proxy says so)."
        ),
    ]
    to: Annotated[
        Destination | None,
        Meta(
            description='Where sessions go: a cluster\'s name, or a bare "host:port". For sni: those without a name.'
        ),
    ] = None
    reply: Annotated[
        Literal["auto", "dialed", "optimistic"],
        Meta(
            description="When a SOCKS or CONNECT client is told that it is connected: after the dial, before it, or "
            "auto (before it where the endpoint was lately reached and Fast Open is likely to win)."
        ),
    ] = "auto"
    users: Annotated[
        dict[str, Password] | None,
        Meta(description="Who may use socks and http, by name; nobody is asked without it."),
    ] = None
    allow: Annotated[
        tuple[NetworkCondition, ...] | None,
        Meta(description="From where clients may connect; everywhere without it."),
    ] = None
    proxy_protocol: Annotated[
        Literal["off", "accept", "require"],
        Meta(
            description="Whether connections begin with a PROXY header (v1 or v2): some (accept) or all (require)."
        ),
    ] = "off"
    trust: Annotated[
        tuple[NetworkCondition, ...], Meta(description="From where PROXY headers are believed.")
    ] = ()
    key: Annotated[
        tuple[TunnelKeys, ...], Meta(description="Of mode tunnel: what is shared with those who may use it.")
    ] = ()
    window: Annotated[
        Duration, Meta(description="Of mode tunnel: how far their clocks may differ from ours.")
    ] = Duration(_FAR_SIDE.window)
    tls: Annotated[Tls | None, Meta(description="Of mode tunnel: TLS 1.3 around it.")] = None
    fast_open: Annotated[
        bool, Meta(description="Take data in clients' SYNs (needs bit 2 of net.ipv4.tcp_fastopen).")
    ] = True
    backlog: Annotated[
        int,
        Meta(
            ge=1,
            le=65535,
            description="Connections that may wait to be accepted (net.core.somaxconn caps it).",
        ),
    ] = 1024
    timeouts: Annotated[Timeouts, Meta(description="How long sessions may take.")] = field(
        default_factory=Timeouts
    )
    limits: Annotated[ListenerLimits, Meta(description="How many may come in here.")] = field(
        default_factory=ListenerLimits
    )


class Dns(Section, frozen=True):
    """How names are looked up: for each dial, through a cache."""

    ttl: Annotated[Duration, Meta(description="How long an answer is good that does not say so itself.")] = (
        Duration(_DNS.ttl)
    )
    negative_ttl: Annotated[
        Duration, Meta(description="How long it is remembered that a name could not be found.")
    ] = Duration(_DNS.negative_ttl)
    stale: Annotated[Delay, Meta(description="How long an old answer is used while there is no new one.")] = (
        Delay(_DNS.stale)
    )
    servers: Annotated[
        tuple[NameServer, ...],
        Meta(
            description="system (the C library: nsswitch.conf, /etc/hosts, resolv.conf), or the addresses of name "
            "servers."
        ),
    ] = ()
    family: Annotated[
        Literal["auto", "ipv4", "ipv6"], Meta(description="Which addresses of a name are used: auto (both).")
    ] = _DNS.family.value


class Log(Section, frozen=True):
    """What is logged and how."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least important lines to be shown."),
    ] = "info"
    format: Annotated[
        Literal["auto", "console", "json"],
        Meta(description="auto: console on a terminal, else one JSON object a line."),
    ] = "auto"
    sessions: Annotated[bool, Meta(description="One line for each session when it ends.")] = _LOG.sessions


class Login(Section, frozen=True):
    """How guessing of passwords is slowed down, for each client (an IPv6 /64 is one) and user."""

    attempts: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Different wrong passwords that cost no wait; the same one again is none.",
        ),
    ] = _LOGIN.attempts
    longest_wait: Annotated[
        Duration,
        Meta(
            description="The longest time between two looks; the first is 250ms, and each is twice the one before."
        ),
    ] = Duration(_LOGIN.longest_wait)
    window: Annotated[
        Duration, Meta(description="How long after the last wrong password all of them are forgotten.")
    ] = Duration(_LOGIN.window)


class Config(Section, frozen=True):
    """The configuration of tfo-proxy."""

    listeners: Annotated[dict[Name, Listener], Meta(description="Where clients connect, by name.")] = field(
        default_factory=dict[Name, Listener]
    )
    clusters: Annotated[dict[Name, Cluster], Meta(description="Groups of servers, by name.")] = field(
        default_factory=dict[Name, Cluster]
    )
    defaults: Annotated[
        ClusterDefaults,
        Meta(description="Any key of a cluster, for clusters and bare addresses that do not say."),
    ] = field(default_factory=ClusterDefaults)
    routes: Annotated[
        tuple[Route, ...],
        Meta(description="Where sessions go whose client names the destination; the first that matches."),
    ] = ()
    direct: Annotated[Direct, Meta(description="What may be dialled directly.")] = field(
        default_factory=Direct
    )
    dns: Annotated[Dns, Meta(description="How names are looked up.")] = field(default_factory=Dns)
    log: Annotated[Log, Meta(description="What is logged and how.")] = field(default_factory=Log)
    limits: Annotated[Limits, Meta(description="How many may come in, to all listeners together.")] = field(
        default_factory=Limits
    )
    login: Annotated[Login, Meta(description="How guessing of passwords is slowed down.")] = field(
        default_factory=Login
    )
    admin: Annotated[Admin | None, Meta(description="Where it can be watched and told; absent: nowhere.")] = (
        None
    )
    user: Annotated[
        Text | None,
        Meta(description="Who the process becomes once it listens; only root can become another."),
    ] = None
    group: Annotated[Text | None, Meta(description="The same; without it the user's own group.")] = None
    state: Annotated[
        FilePath | None,
        Meta(description="The file that keeps what was learned of endpoints; absent: kept in memory."),
    ] = None
    tfo_keys: Annotated[
        tuple[TfoKeys, ...],
        Meta(
            description="Keys for the SYN cookies of our own listeners, 32 hexadecimal digits each, newest first."
        ),
    ] = ()
    drain: Annotated[
        Delay, Meta(description="How long running sessions may last after a request to stop.")
    ] = Delay(_SNAPSHOT.drain)
    drain_delay: Annotated[
        Delay,
        Meta(
            description="How long connections are still taken after such a request, while readiness says no."
        ),
    ] = Delay(_SNAPSHOT.drain_delay)
    workers: Annotated[Workers, Meta(description="Processes that serve: a number, or cores.")] = Workers(
        _SNAPSHOT.workers
    )
