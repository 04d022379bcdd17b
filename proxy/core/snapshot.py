"""One whole configuration, compiled and immutable: what `config.compile` makes and a worker serves.

Seconds are floats, sizes are bytes, ``None`` means "none" or "no limit" unless a field says otherwise. Sessions
keep the snapshot they began with; a reload is a new `Snapshot` and one assignment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from proxy.core.address import Endpoint, Target


class Mode(StrEnum):
    """How a listener learns where its clients want to go."""

    FORWARD = "forward"


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


class Auto(StrEnum):
    """The value of settings that tune themselves."""

    AUTO = "auto"


AUTO = Auto.AUTO


@dataclass(frozen=True, slots=True)
class Timeouts:
    """A listener's timeouts, in seconds."""

    first_bytes: float | Auto = AUTO  # the longest wait for early data; AUTO: learned
    handshake: float = 5.0
    idle: float | None = 600.0  # no byte in either direction
    half_closed: float | None = 60.0  # one direction ended, and no byte since
    lifetime: float | None = None


@dataclass(frozen=True, slots=True)
class Keepalive:
    """TCP keepalive towards both sides: seconds, seconds, probes (tcp(7) TCP_KEEPIDLE, _KEEPINTVL, _KEEPCNT)."""

    idle: float = 30.0
    interval: float = 10.0
    count: int = 3


@dataclass(frozen=True, slots=True)
class Connect:
    """How long one endpoint may take to answer, and how many others are tried after it."""

    timeout: float = 5.0
    retries: int = 2


@dataclass(frozen=True, slots=True)
class Cluster:
    """A named group of equivalent endpoints, and how they are dialled."""

    name: str
    endpoints: tuple[Target, ...]
    fast_open: FastOpen = FastOpen.AUTO
    replay: Replay = Replay.SAFE
    server_first: ServerFirst = ServerFirst.AUTO
    syn_data: int | Auto = AUTO  # most bytes in a SYN; AUTO: what the path has shown to take
    warm_up: bool = True  # fetch cookies before the first session needs them
    hedge: float | Auto | None = AUTO  # None: off
    preconnect: int | Auto = 0  # spare connections where Fast Open does not work
    connect: Connect = field(default_factory=Connect)
    keepalive: Keepalive | None = field(default_factory=Keepalive)
    only: tuple[Endpoint, ...] = field(init=False, default=(), compare=False)
    """The one endpoint, where there is but one and it is numeric: nothing to resolve, nothing to choose."""

    def __post_init__(self) -> None:
        if len(self.endpoints) == 1 and isinstance(self.endpoints[0], Endpoint):
            object.__setattr__(self, "only", (self.endpoints[0],))


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
class Listener:
    """A named place where downstreams connect."""

    name: str
    binds: tuple[Bind, ...]
    mode: Mode
    cluster: Cluster
    fast_open: bool = True  # take SYN data from clients
    backlog: int = 1024
    timeouts: Timeouts = field(default_factory=Timeouts)


@dataclass(frozen=True, slots=True)
class Log:
    """What is logged and how: ``level`` debug..error, ``format`` auto | console | json."""

    level: str = "info"
    format: str = "auto"
    sessions: bool = True


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a worker needs to know; ``clusters`` by name, bare targets under their own text."""

    listeners: tuple[Listener, ...]
    clusters: Mapping[str, Cluster]
    log: Log = field(default_factory=Log)
    drain: float = 30.0
    state: str | None = None  # path of the state file; None: what is learned is kept in memory
    tfo_keys: tuple[bytes, ...] = ()  # 16-byte keys for our own listeners, newest first, at most two
