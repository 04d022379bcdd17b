"""A cluster: a named group of equivalent endpoints, and how they are dialled.

Seconds are floats, sizes are bytes, ``None`` means "none" or "no limit" unless a field says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, TypeAlias

from proxy.core.address import Authority, Endpoint, Target


class FastOpen(StrEnum):
    """A cluster's Fast Open policy."""

    AUTO = "auto"  # learn per endpoint
    ALWAYS = "always"  # never quarantine
    OFF = "off"


class Replay(StrEnum):
    """Which first bytes of a session may be sent twice, and so may ride in a SYN."""

    SAFE = "safe"  # those `core.replay` knows to be safe
    ANY = "any"  # the operator says all are
    NONE = "none"


class ServerFirst(StrEnum):
    """Whether a cluster's servers speak before their clients do."""

    AUTO = "auto"
    YES = "yes"
    NO = "no"


class SendHeader(StrEnum):
    """Whether a cluster's servers are told by a PROXY protocol header whom the proxy speaks for."""

    OFF = "off"
    V1 = "v1"
    V2 = "v2"


class Auto(StrEnum):
    """The value of settings that tune themselves."""

    AUTO = "auto"


AUTO = Auto.AUTO


@dataclass(frozen=True, slots=True)
class Keepalive:
    """TCP keepalive towards both sides: seconds, seconds, probes (tcp(7) TCP_KEEPIDLE, _KEEPINTVL, _KEEPCNT)."""

    idle: float = 30.0
    interval: float = 10.0
    count: int = 3


@dataclass(frozen=True, slots=True)
class Connect:
    """How long one endpoint may take to answer, and how many others are tried after it.

    The addresses of one name are one destination: ``retries`` does not count them.
    """

    timeout: float = 5.0
    retries: int = 2


class Balance(StrEnum):
    """How sessions are shared out among a cluster's endpoints."""

    ROUND_ROBIN = "round_robin"
    LEAST_CONNECTIONS = "least_connections"
    RANDOM = "random"  # the better of two
    SOURCE_HASH = "source_hash"  # a client always to the same one
    FIRST = "first"  # the others are spares


@dataclass(frozen=True, slots=True)
class Ejection:
    """When an endpoint whose dials fail is left alone, and how long (seconds); ``most``: percent that may be out."""

    after: int = 3  # dials in a row
    time: float = 10.0  # the first time; doubled each time
    longest: float = 300.0
    most: int = 50


@dataclass(frozen=True, slots=True)
class Health:
    """Active checks of every endpoint: seconds, seconds, and how many in a row change what is believed."""

    every: float = 10.0
    timeout: float = 2.0
    rise: int = 2
    fall: int = 3


@dataclass(frozen=True, slots=True)
class Source:
    """Where connections come from: ``addresses`` at most one of each family; none, None: the kernel's choice."""

    addresses: tuple[str, ...] = ()
    interface: str | None = None
    mark: int | None = None  # of packets, for rules of the firewall and of routing

    def reaches(self, endpoint: Endpoint) -> bool:
        """Whether there is a source address of the endpoint's family."""
        if not self.addresses or endpoint.is_unix:
            return True
        return any((":" in address) is endpoint.is_ipv6 for address in self.addresses)


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS 1.3 around a tunnel: paths of PEM files, and the name that the other side's certificate must have."""

    ca: str | None = (
        None  # who has signed the other side's; None: the system's authorities, or nobody is asked
    )
    cert: str | None = None
    key: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Via:
    """Another proxy, through which a cluster's endpoints are reached; it looks names up itself."""

    kind: str  # socks | http | tunnel
    gateway: Target
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    keys: tuple[bytes, ...] = field(default=(), repr=False)  # of a tunnel; the first one seals
    tls: Tls | None = None  # around a tunnel; None: none


@dataclass(frozen=True, slots=True)
class Service:
    """Endpoints that an SRV record names, like ``_https._tcp.example.com`` (RFC 2782)."""

    name: str
    port: ClassVar[int] = 0  # the record says

    def __str__(self) -> str:
        return f"srv:{self.name}"


@dataclass(frozen=True, slots=True)
class EndpointFile:
    """Endpoints that stand in a file, which may change."""

    path: str
    port: ClassVar[int] = 0  # the file says

    def __str__(self) -> str:
        return f"file:{self.path}"


Origin: TypeAlias = Target | Service | EndpointFile
"""Where a cluster's endpoints come from."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A named group of equivalent endpoints, and how they are dialled."""

    name: str
    endpoints: tuple[Origin, ...]
    fast_open: FastOpen = FastOpen.AUTO
    replay: Replay = Replay.SAFE
    server_first: ServerFirst = ServerFirst.AUTO
    syn_data: int | Auto = AUTO  # most bytes in a SYN; AUTO: what the path has shown to take
    warm_up: bool = True  # fetch cookies before the first session needs them
    hedge: float | Auto | None = AUTO  # None: off
    preconnect: int | Auto = 0  # spare connections where Fast Open does not work
    connect: Connect = field(default_factory=Connect)
    keepalive: Keepalive | None = field(default_factory=Keepalive)
    proxy_header: SendHeader = SendHeader.OFF
    balance: Balance = Balance.ROUND_ROBIN
    weights: tuple[int, ...] = ()  # of the endpoints, in their order; empty: all weigh 1
    eject: Ejection = field(default_factory=Ejection)
    health: Health | None = None  # None: no checks
    source: Source | None = None  # None: the kernel chooses
    via: Via | None = None  # None: the endpoints are dialled themselves
    only: tuple[Endpoint, ...] = field(init=False, default=(), compare=False)
    """The one endpoint, where there is but one, it is numeric, and wants nothing but the client's bytes: nothing to
    resolve, nothing to choose, nothing to add."""

    @property
    def is_one_name(self) -> bool:
        """Whether its endpoints are the addresses of one name, all as good."""
        return len(self.endpoints) == 1 and isinstance(self.endpoints[0], Authority)

    @property
    def is_interchangeable(self) -> bool:
        """Whether a session may go to whichever of its endpoints answers first."""
        return self.is_one_name or self.balance not in {Balance.FIRST, Balance.SOURCE_HASH}

    def __post_init__(self) -> None:
        alone = len(self.endpoints) == 1 and self.proxy_header is SendHeader.OFF and self.via is None
        if alone and isinstance(self.endpoints[0], Endpoint):
            object.__setattr__(self, "only", (self.endpoints[0],))
