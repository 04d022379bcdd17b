"""One whole configuration, compiled and immutable: what `config.compile` makes and a worker serves.

Seconds are floats, sizes are bytes, ``None`` means "none" or "no limit" unless a field says otherwise. Sessions
keep the snapshot they began with; a reload is a new `Snapshot` and one assignment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from proxy.core.address import Endpoint
from proxy.core.clusters import (
    AUTO,
    Auto,
    Cluster,
    Connect,
    FastOpen,
    Keepalive,
    Replay,
    SendHeader,
    ServerFirst,
    Tls,
)
from proxy.core.destinations import Destinations
from proxy.core.limits import NO_CAPS, Caps
from proxy.core.lockout import Login
from proxy.core.loops import MOST_SILENT
from proxy.core.networks import Network
from proxy.core.routes import Routes
from proxy.core.users import Users

__all__ = [
    "AUTO", "CLIENT_NAMES_DESTINATION", "DIRECT", "Admin", "Auto", "Bind", "Caps", "Cluster", "Connect", "Dns",
    "Family", "FastOpen", "Keepalive", "Listener", "Log", "Login", "Mode", "ProxyHeader", "Replay", "Reply",
    "SendHeader", "ServerFirst", "Snapshot", "Timeouts",
]  # fmt: skip


class Mode(StrEnum):
    """How a listener learns where its clients want to go."""

    FORWARD = "forward"
    SOCKS = "socks"
    HTTP = "http"
    MIXED = "mixed"  # SOCKS or HTTP, by the first byte
    SNI = "sni"
    TRANSPARENT = "transparent"  # redirected here by netfilter (REDIRECT)
    TPROXY = "tproxy"  # the same without address translation (TPROXY)
    TUNNEL = "tunnel"  # another tfo-proxy says so (core.tunnel)


CLIENT_NAMES_DESTINATION = frozenset(Mode) - {Mode.FORWARD}


class Reply(StrEnum):
    """When a client that waits for it is told that it is connected."""

    AUTO = "auto"  # before the dial where that is safe to say and wins something, else after it
    DIALED = "dialed"  # after the dial: errors are always told as what they are
    OPTIMISTIC = "optimistic"  # before the dial: a failed one ends in a reset


class ProxyHeader(StrEnum):
    """Whether connections begin with a PROXY protocol header."""

    OFF = "off"
    ACCEPT = "accept"  # some do
    REQUIRE = "require"  # all must


@dataclass(frozen=True, slots=True)
class Timeouts:
    """A listener's timeouts, in seconds."""

    first_bytes: float | Auto = AUTO  # the longest wait for early data; AUTO: learned
    handshake: float = 5.0
    idle: float | None = 600.0  # no byte in either direction
    half_closed: float | None = 60.0  # one direction ended, and no byte since
    lifetime: float | None = None


@dataclass(frozen=True, slots=True)
class Bind:
    """Where a listener listens: ``host`` a numeric IP, ``"*"`` (v4 and v6 both), or a unix path with port 0."""

    host: str
    port: int

    @property
    def is_unix(self) -> bool:
        """Whether this is the path of a unix socket."""
        return self.host[:1] in {"/", "@"}

    def __str__(self) -> str:
        return f"*:{self.port}" if self.host == "*" else str(Endpoint(self.host, self.port))


@dataclass(frozen=True, slots=True)
class FarSide:
    """How the far side of tunnels believes what it hears."""

    keys: tuple[bytes, ...] = field(default=(), repr=False)  # any of them will do
    window: float = 30.0  # seconds that an opening may be old, or ahead of our clock
    tls: Tls | None = None


@dataclass(frozen=True, slots=True)
class Listener:
    """A named place where downstreams connect."""

    name: str
    binds: tuple[Bind, ...]
    mode: Mode
    cluster: Cluster  # where sessions go whose client names nothing; `direct` where the file says nothing
    fast_open: bool = True  # take SYN data from clients
    backlog: int = 1024
    reply: Reply = Reply.AUTO
    proxy_header: ProxyHeader = ProxyHeader.OFF
    trust: tuple[Network, ...] = ()  # who may say in such a header whom it speaks for
    users: Users | None = None  # None: nobody is asked who he is
    allow: tuple[Network, ...] = ()  # who may connect; empty: everybody
    far_side: FarSide | None = None  # in mode tunnel
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Caps = NO_CAPS
    per_destination: int | None = MOST_SILENT  # sessions in which nothing has been said
    asks: bool = field(init=False, default=False, compare=False)
    """Whether there is something to be found out before it is known where a session goes."""

    def __post_init__(self) -> None:
        asks = self.mode is not Mode.FORWARD or self.proxy_header is not ProxyHeader.OFF or bool(self.allow)
        object.__setattr__(self, "asks", asks)


class Family(StrEnum):
    """Which addresses of a name are used."""

    AUTO = "auto"  # both, those of the better way first
    IPV4 = "ipv4"
    IPV6 = "ipv6"


@dataclass(frozen=True, slots=True)
class Dns:
    """How names are looked up; seconds."""

    ttl: float = 30.0  # where the answer does not say
    negative_ttl: float = 5.0
    stale: float = 600.0  # an expired answer is used so long, where there is no new one
    servers: tuple[Endpoint, ...] = ()  # none: the system's
    family: Family = Family.AUTO


@dataclass(frozen=True, slots=True)
class Log:
    """What is logged and how: ``level`` debug..error, ``format`` auto | console | json."""

    level: str = "info"
    format: str = "auto"
    sessions: bool = True


@dataclass(frozen=True, slots=True)
class Admin:
    """Where the program can be watched and told, and who may do that."""

    binds: tuple[Bind, ...]
    token: str | None = field(default=None, repr=False)  # None: nobody gives orders but over a unix socket
    hosts: tuple[str, ...] = ()  # names by which it may be called, besides numbers and localhost

    @property
    def bind(self) -> Bind:
        """Where those find it who look for one address."""
        return self.binds[0]


DIRECT = Cluster("direct", ())
"""The cluster without endpoints of its own: the request's authority is resolved and dialled."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a worker needs to know; ``clusters`` by name, bare targets under their own text."""

    listeners: tuple[Listener, ...]
    clusters: Mapping[str, Cluster]
    routes: Routes = field(default_factory=lambda: Routes((), DIRECT))
    destinations: Destinations = field(default_factory=Destinations)  # what `direct` may dial
    dns: Dns = field(default_factory=Dns)
    log: Log = field(default_factory=Log)
    limits: Caps = NO_CAPS  # for all listeners together
    login: Login = field(default_factory=Login)
    admin: Admin | None = None
    user: str | None = None  # who the process becomes once its listeners are open
    group: str | None = None  # the same; None: the user's own
    workers: int = 1  # processes that serve
    drain_delay: float = 0.0  # from a request to stop until no more connections are taken
    drain: float = 30.0
    state: str | None = None  # path of the state file; None: what is learned is kept in memory
    tfo_keys: tuple[bytes, ...] = ()  # 16-byte keys for our own listeners, newest first, at most two

    @property
    def direct(self) -> Cluster:
        """What the client asked for, dialled as ``defaults`` says."""
        return self.routes.direct
