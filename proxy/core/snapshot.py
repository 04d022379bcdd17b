"""One whole configuration, compiled and immutable: what `config.compile` makes and a worker serves.

Seconds are floats, sizes are bytes, ``None`` means "none" or "no limit" unless a field says otherwise. Sessions
keep the snapshot they began with; a reload is a new `Snapshot` and one assignment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from proxy.core.address import Endpoint
from proxy.core.clusters import AUTO, Auto, Cluster, Connect, FastOpen, Keepalive, Replay, ServerFirst
from proxy.core.routes import Routes

__all__ = [
    "AUTO", "DIRECT", "Auto", "Bind", "Cluster", "Connect", "FastOpen", "Keepalive", "Listener", "Log", "Mode",
    "Replay", "ServerFirst", "Snapshot", "Timeouts",
]  # fmt: skip


class Mode(StrEnum):
    """How a listener learns where its clients want to go."""

    FORWARD = "forward"


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


DIRECT = Cluster("direct", ())
"""The cluster without endpoints of its own: the request's authority is resolved and dialled."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a worker needs to know; ``clusters`` by name, bare targets under their own text."""

    listeners: tuple[Listener, ...]
    clusters: Mapping[str, Cluster]
    routes: Routes = field(default_factory=lambda: Routes((), DIRECT))
    log: Log = field(default_factory=Log)
    drain: float = 30.0
    state: str | None = None  # path of the state file; None: what is learned is kept in memory
    tfo_keys: tuple[bytes, ...] = ()  # 16-byte keys for our own listeners, newest first, at most two

    @property
    def direct(self) -> Cluster:
        """What the client asked for, dialled as ``defaults`` says."""
        return self.routes.direct
