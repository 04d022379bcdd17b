"""What the sessions of one worker share, and what they make of it for one of them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from random import randint
from typing import Generic, TypeVar

from proxy.core.address import Endpoint
from proxy.core.duplicates import Duplicates
from proxy.core.errnos import SHORTAGES
from proxy.core.lockout import Lockout
from proxy.core.loops import Loops
from proxy.core.outcomes import EndedBy, Reason, Stage
from proxy.core.patience import Patience
from proxy.core.record import SessionRecord
from proxy.core.request import Refused
from proxy.core.snapshot import Cluster, Listener
from proxy.core.standings import Standings
from proxy.net import sockopt
from proxy.net.deadlines import Deadlines
from proxy.net.listening import Listening
from proxy.net.resolve import NoSuchHost
from proxy.net.upstream import DialFailed
from proxy.net.watch import Watch
from proxy.sessions.arrivals import Arrivals
from proxy.sessions.chaining import ChainedDialling, Gateways
from proxy.sessions.dialling import Dialling
from proxy.sessions.pools import Pools
from proxy.sessions.routing import Routing
from proxy.sessions.spares import Spares
from proxy.sessions.tunnelling import TunnelDialling

_KINDS: dict[str, type[Dialling]] = {"tunnel": TunnelDialling}
AnySession = TypeVar("AnySession")


@dataclass(slots=True)
class Shared(Generic[AnySession]):
    """What the sessions of one worker share."""

    standings: Standings
    pools: Pools
    watch: Watch
    spares: Spares
    buffer: memoryview  # every relay reads into it, none keeps anything there
    takes_syn_data: bool  # whether this namespace lets servers take SYN data at all
    unavailable: Callable[[int], None]  # told the errno when the kernel would not fast-open at all
    ended: Callable[[AnySession], None]  # told of every session when all is over
    fault: Callable[[SessionRecord, Exception], None]  # told of a mistake of ours
    reset: Callable[[socket.socket], None]  # given a socket to close with a RST once it has sent all
    farewell: Callable[[socket.socket, bytes], None]  # given a socket to close when a refusal has been heard
    patience: Callable[[Listener, Cluster, Endpoint], Patience]
    routing: Routing
    own: set[tuple[Endpoint, Endpoint]]  # from where to where we dial, for those who might meet themselves
    listening: Listening
    introduced: Callable[
        [AnySession], str | None
    ]  # a PROXY header told whom a session is of; why he is refused
    keep: Callable[
        [AnySession, socket.socket, bytes], bool
    ]  # given a client's connection on which more may be asked for, and what has been; False: it is to be closed
    resumed: Callable[[AnySession], None]  # told when that was so
    draining: bool = False  # no connection of a client is to be kept
    lockout: Lockout = field(default_factory=lambda: Lockout(key=os.urandom(16)))
    loops: Loops = field(default_factory=lambda: Loops(randint))
    duplicates: Duplicates = field(default_factory=Duplicates)
    gateways: Gateways = field(default_factory=Gateways)
    arrivals: Arrivals = field(default_factory=Arrivals)
    # Those who have not been heard out, and have no task.
    unheard: Deadlines[AnySession] = field(default_factory=Deadlines[AnySession])

    def dialling(self, record: SessionRecord, cluster: Cluster) -> Dialling:
        """The dials of one session to ``cluster``."""
        direct = cluster.only or not (cluster.endpoints or cluster.via)
        pool = None if direct else self.pools.of(cluster)
        kind = Dialling if cluster.via is None else _KINDS.get(cluster.via.kind, ChainedDialling)
        dialling = kind(record, cluster, self.standings, self.watch, self.unavailable, self.spares, pool)
        if isinstance(dialling, TunnelDialling):
            dialling.go_through(self.pools.destination(cluster) or record.authority)
        elif isinstance(dialling, ChainedDialling):
            dialling.go_through(self.gateways, self.pools.destination(cluster) or record.authority)
        return dialling

    def look_at_syn(self, record: SessionRecord, listener: Listener, downstream: socket.socket) -> None:
        """How the client opened its connection to us, where servers are allowed to take SYN data."""
        if listener.fast_open and downstream.family != socket.AF_UNIX:
            syn = sockopt.client_syn_data(downstream)
            record.client_syn_bytes = syn.size
            record.duplicate = bool(syn.size) and self.duplicates.seen(syn.headers, record.began)

    def explain(self, record: SessionRecord, error: Exception) -> None:
        """Write down why it ends."""
        if isinstance(error, DialFailed):
            record.ended_by, record.reason, record.detail = error.blame, error.reason, str(error)
        elif isinstance(error, NoSuchHost):
            record.ended_by, record.reason, record.detail = EndedBy.PROXY, Reason.NO_SUCH_HOST, str(error)
        elif isinstance(error, Refused):
            record.ended_by, record.reason, record.detail = error.blame, error.reason, str(error)
        elif isinstance(error, OSError) and record.during is Stage.SNIFF:
            record.ended_by, record.reason = EndedBy.DOWNSTREAM, Reason.RESET
            record.detail = sockopt.errno_name(error.errno or 0)
        elif isinstance(error, OSError) and error.errno in SHORTAGES:
            failed = DialFailed.because(error.errno or 0)
            record.ended_by, record.reason, record.detail = failed.blame, failed.reason, str(failed)
        else:  # one session's mistake must never be another's end
            self.fault(record, error)
