"""One process at work: serve the listeners of a snapshot, account for every session, drain.

Everything a session may wait for too long is watched by one sweep a second, which costs a live session nothing: it
compares byte counts, so no timer is set or moved when bytes flow.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

import trio

from proxy.asking import AskingSession
from proxy.checks import Checks
from proxy.core.address import Endpoint
from proxy.core.outcomes import EndedBy, Reason
from proxy.core.patience import Patience
from proxy.core.record import Peer
from proxy.core.snapshot import Cluster, Listener, Snapshot
from proxy.memory import Memory
from proxy.net import accept, sniff, sockopt
from proxy.net.flow import BUFFER
from proxy.net.relay import close_with_reset, unsent
from proxy.net.resolve import Resolver
from proxy.net.watch import Watch
from proxy.pools import Pools
from proxy.routing import Routing
from proxy.session import Session
from proxy.shared import Shared
from proxy.spares import Spares
from proxy.telemetry.events import Events
from proxy.warmup import WarmUp

SWEEP = 1.0  # seconds between two looks at all sessions, and so the grain of their long timeouts
_TROUBLE_PAUSE = 1.0  # a listener's troubles are logged this often, not each time


class Worker:
    """Sessions of all listeners, and what they have in common."""

    def __init__(self, snapshot: Snapshot, memory: Memory, events: Events, *, takes_syn_data: bool) -> None:
        self.snapshot = snapshot
        self.sessions: set[Session] = set()
        self._memory = memory
        self._events = events
        self._watch = Watch(
            trio.lowlevel.current_clock().current_time
        )  # without trio's detour: it is asked often
        self.spares = Spares(memory.standings, self._watch)
        pools = Pools(Resolver(snapshot.dns), events.endpoint_ejected)
        self._shared: Shared[Session] = Shared(
            memory.standings, pools, self._watch, self.spares, bytearray(BUFFER), takes_syn_data,
            self._no_fast_open, self._ended, self._events.fault, self._reset, self._farewell, self._patience_with,
            Routing(snapshot.routes, snapshot.destinations, pools), set(),
        )  # fmt: skip
        self._warm_up = WarmUp(memory.standings, pools, self._watch)
        self._checks = Checks(memory.standings, pools, self._watch, events.endpoint_health)
        self._numbers = itertools.count(1)
        self._clocks: dict[Session, tuple[int, float]] = {}
        self._no_sessions = trio.Event()
        self._said_unavailable = False
        self._trouble_after: dict[str, float] = {}
        self._draining = False

    async def run(
        self,
        sockets: Mapping[str, Iterable[socket.socket]],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve ``sockets`` (listening, by listener name) until `drain` has let the last session go."""
        async with trio.open_nursery() as sessions, trio.open_nursery() as listeners:
            await listeners.start(self._watch.run)
            listeners.start_soon(self._sweep)
            clusters = list(self.snapshot.clusters.values())
            listeners.start_soon(self._beside, "spares", self.spares.run)
            listeners.start_soon(self._beside, "warm-up", partial(self._warm_up.keep, clusters))
            listeners.start_soon(self._beside, "health checks", partial(self._checks.run, clusters))
            for listener in self.snapshot.listeners:
                serve = partial(self._serve, sessions, listener, self._patience_for(listener))
                for sock in sockets[listener.name]:
                    listeners.start_soon(accept.accept_forever, sock, serve, partial(self._trouble, listener))
            self._nursery = sessions
            task_status.started()

    async def _beside(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """What the service can do without must not end it: a mistake there is logged, and it is given up."""
        try:
            await work()
        except Exception as fault:  # noqa: BLE001  # whatever it is
            self._events.background_fault(name, fault)

    def warm_up(self) -> None:
        """Fetch the cookies that are missing, as at the start."""
        self._warm_up.again()

    async def drain(self, limit: float) -> int:
        """Let sessions end by themselves for ``limit`` seconds, then end them; how many had to be ended.

        The listening sockets must have been closed before.
        """
        self._draining = True
        self.spares.close()
        if not self.sessions:
            self._no_sessions.set()
        with trio.move_on_after(limit):
            await self._no_sessions.wait()
        return self.cut_off()

    def cut_off(self) -> int:
        """End all sessions now; how many there were."""
        cut_off = len(self.sessions)
        for session in list(self.sessions):
            if session.relay is not None:
                session.interrupt(EndedBy.OPERATOR, Reason.DRAIN)
        self._nursery.cancel_scope.cancel()
        return cut_off

    def _patience_for(self, listener: Listener) -> Patience:
        cluster = listener.cluster
        return self._memory.patience(
            listener.name, cluster.name, {target.port for target in cluster.endpoints if target.port}
        )

    def _patience_with(self, listener: Listener, cluster: Cluster, likely: Endpoint) -> Patience:
        """The same where sessions of one listener have different ways; `direct` goes anywhere, so it learns by port."""
        if cluster.endpoints:
            return self._memory.patience(listener.name, cluster.name, {likely.port})
        return self._memory.patience(listener.name, f"{cluster.name}:{likely.port}", {likely.port})

    def _serve(
        self, nursery: trio.Nursery, listener: Listener, patience: Patience, sock: socket.socket, peer: Peer
    ) -> None:
        kind = AskingSession if listener.asks else Session
        session = kind(sock, peer, listener, patience, self._shared, next(self._numbers))
        self.sessions.add(session)
        session.begin(nursery)

    def _reset(self, sock: socket.socket) -> None:
        """Close with a RST: at once, or as soon as what it holds has gone."""
        if unsent(sock):
            self._nursery.start_soon(close_with_reset, sock.dup())
        else:
            sockopt.reset_on_close(sock)

    def _farewell(self, sock: socket.socket, reply: bytes) -> None:
        self._nursery.start_soon(sniff.farewell, sock, reply)

    def _ended(self, session: Session) -> None:
        self.sessions.discard(session)
        self._clocks.pop(session, None)
        if self.snapshot.log.sessions:
            self._events.session(session.record)
        self._memory.ledger.add(session.record)
        if self._draining and not self.sessions:
            self._no_sessions.set()

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(SWEEP)
            now = trio.current_time()
            for session in list(self.sessions):
                reason = self._overdue(session, now)
                if reason is not None:
                    session.interrupt(EndedBy.TIMEOUT, reason)

    def _overdue(self, session: Session, now: float) -> Reason | None:
        relay = session.relay
        timeouts = session.listener.timeouts
        if relay is None:
            return None  # sniff and dial have their own, finer clocks
        if timeouts.lifetime is not None and now - session.record.began >= timeouts.lifetime:
            return Reason.LIFETIME
        moved = relay.up.moved + relay.down.moved
        if session not in self._clocks:
            session.keep_alive()
        last, since = self._clocks.get(session, (-1, now))
        if moved != last:
            self._clocks[session] = (moved, now)
            return None
        quiet = now - since
        if (
            (relay.up.eof or relay.down.eof)
            and timeouts.half_closed is not None
            and quiet >= timeouts.half_closed
        ):
            return Reason.HALF_CLOSED
        if timeouts.idle is not None and quiet >= timeouts.idle:
            return Reason.IDLE
        return None

    def _trouble(self, listener: Listener, error: OSError) -> None:
        now = trio.current_time()
        if now >= self._trouble_after.get(listener.name, 0.0):
            self._trouble_after[listener.name] = now + _TROUBLE_PAUSE
            self._events.accept_trouble(listener.name, error)

    def _no_fast_open(self, code: int) -> None:
        self.spares.unavailable()
        if not self._said_unavailable:
            self._said_unavailable = True
            self._events.fast_open_unavailable(code)
