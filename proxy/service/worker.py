"""One process at work: serve the listeners of a snapshot, account for every session, drain.

Everything a session may wait for too long is watched by one sweep a second, which costs a live session nothing: it
compares byte counts, so no timer is set or moved when bytes flow.
"""

from __future__ import annotations

import itertools
import socket
from collections import deque
from contextlib import suppress
from functools import partial

import trio

from proxy.core.address import Endpoint
from proxy.core.limits import Tally, Ticket
from proxy.core.outcomes import EndedBy, Reason
from proxy.core.patience import Patience
from proxy.core.record import Peer, SessionRecord
from proxy.core.snapshot import Cluster, Listener, Snapshot
from proxy.net import accept, sniff, sockopt
from proxy.net.flow import BUFFER
from proxy.net.listening import Listening
from proxy.net.relay import close_with_reset, unsent
from proxy.net.resolve import Resolver
from proxy.net.watch import Watch
from proxy.service.admission import FREE, Admission, Door
from proxy.service.checks import Checks
from proxy.service.clocks import Clocks
from proxy.service.listeners import Sockets
from proxy.service.memory import Memory
from proxy.service.post import Post
from proxy.service.process import count_troubles
from proxy.service.supervised import keep_running
from proxy.service.tending import Tending
from proxy.service.warmup import Share, WarmUp
from proxy.sessions.arrivals import Arrivals
from proxy.sessions.asking import AskingSession
from proxy.sessions.pools import Pools
from proxy.sessions.routing import Routing
from proxy.sessions.session import Session
from proxy.sessions.shared import Shared
from proxy.sessions.spares import Spares
from proxy.telemetry.counters import Counters
from proxy.telemetry.events import Events

SWEEP = 1.0  # seconds between two looks at all sessions, and so the grain of their long timeouts
RECENT = 200  # sessions that have ended and are still shown
_TROUBLE_PAUSE = 1.0  # a listener's troubles are logged this often, not each time


class Worker:
    """Sessions of all listeners, and what they have in common."""

    def __init__(  # noqa: PLR0913  # the last ones belong together, and most have none of them
        self,
        snapshot: Snapshot,
        memory: Memory,
        events: Events,
        *,
        takes_syn_data: bool,
        tally: Tally | None = None,
        counters: Counters | None = None,
        nonces: int | None = None,
        share: Share | None = None,
    ) -> None:
        """``tally``, ``counters``, ``nonces`` and ``share`` are what several workers have; None: this is the only one.

        ``nonces`` is a descriptor that `nonce_memory.open_memory` gave, and is this worker's from now on.
        """
        self.snapshot = snapshot
        self.sessions: set[Session] = set()
        self.listening = Listening()
        self.recent: deque[SessionRecord] = deque(maxlen=RECENT)
        self._memory = memory
        self._events = events
        self._counters = counters or Counters()
        self._watch = Watch(trio.lowlevel.current_clock().current_time)  # no detour: it is asked often
        self._watch.fault = partial(events.background_fault, "a relay")
        self._over: list[SessionRecord] = []  # ended, and not yet accounted for
        self._watch.after = self._account
        self.spares = Spares(memory.standings, self._watch)
        self.spares.keep(snapshot.clusters.values())
        self.pools = pools = Pools(Resolver(snapshot.dns), events.endpoint_ejected, self.listening.is_admin)
        self._shared: Shared[Session] = Shared(
            memory.standings, pools, self._watch, self.spares, memoryview(bytearray(BUFFER)), takes_syn_data,
            self._no_fast_open, self._ended, self._events.fault, self._reset, self._farewell, self._patience_with,
            Routing(snapshot.routes, snapshot.destinations, pools, self.listening), set(), self.listening,
            self._introduced, self._keep, self._resumed, arrivals=Arrivals(nonces),
        )  # fmt: skip
        self._shared.lockout.rules = snapshot.login
        self.tending = Tending(
            WarmUp(memory.standings, pools, self._watch, share),
            Checks(memory.standings, pools, self._watch, events.endpoint_health),
            events,
        )
        self._numbers = itertools.count(1)
        self._clocks = Clocks()
        self._no_sessions = trio.Event()
        self._said_unavailable = False
        self._trouble_after: dict[str, float] = {}
        self._draining = False
        self._posts: dict[socket.socket, Post] = {}
        self._admission = Admission(
            snapshot.limits, tally, events, self.sessions.__len__, self._counters.refused
        )
        self._tickets: dict[Session, tuple[Door, Ticket]] = {}

    async def run(
        self, sockets: Sockets, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve ``sockets`` (listening, by listener name) until cancelled or cut off."""
        try:
            async with trio.open_nursery() as sessions, trio.open_nursery() as listeners:
                self._nursery, self._listeners = sessions, listeners
                await listeners.start(self._watch.run)
                for name, work in (
                    ("time-outs", self._sweep),
                    ("spares", self.spares.run),
                    ("handover", self._shared.arrivals.serve),
                    ("handshake time-outs", self._shared.unheard.run),
                    ("session lines", self._events.keep_writing),
                    ("counters", partial(count_troubles, self._counters, self._events)),
                ):
                    listeners.start_soon(keep_running, name, work, self._events)
                self.tending.follow(listeners, list(self.snapshot.clusters.values()))
                self.man(sockets)
                task_status.started()
        finally:
            self._cut_taskless()  # of sessions that came so far in their last step

    def swap(self, snapshot: Snapshot, sockets: Sockets, *, takes_syn_data: bool) -> None:
        """Serve another snapshot from now on; sessions that run keep the one they began with.

        Sockets that are no longer there are closed here, when what waits in their queues has been taken.
        """
        shared, before, self.snapshot = self._shared, self.snapshot, snapshot
        resolver = Resolver(snapshot.dns) if snapshot.dns != before.dns else None
        shared.pools.follow([*snapshot.clusters.values(), snapshot.direct], resolver)
        shared.routing = Routing(snapshot.routes, snapshot.destinations, shared.pools, self.listening)
        self._admission.change(snapshot.limits)
        shared.lockout.rules = snapshot.login
        shared.takes_syn_data = takes_syn_data
        self.spares.follow(snapshot.clusters)
        self.man(sockets)
        self.tending.follow(self._listeners, list(snapshot.clusters.values()))

    def leave(self) -> None:
        """Accept nothing any more, apart from what waits in the queues already, and close the sockets."""
        self.man({})

    def man(self, sockets: Sockets) -> None:
        """Accept from these sockets, and from these only."""
        if any(listener.far_side is not None for listener in self.snapshot.listeners):
            self._shared.arrivals.open(self.snapshot.state, self._events.nonces_not_kept)
        wanted = {
            sock: listener for listener in self.snapshot.listeners for sock in sockets.get(listener.name, ())
        }
        for sock, post in list(self._posts.items()):
            if sock not in wanted:
                del self._posts[sock]
                accept.take_all(sock, partial(self._serve, post), partial(self._trouble, post))
                accept.close_listener(sock, unlink=False)
        for sock, listener in wanted.items():
            known = self._posts.get(sock)
            if known is not None:
                known.follow(listener, self._patience_for(listener), self._admission.door(listener))
                continue
            door = self._admission.door(listener)
            post = self._posts[sock] = Post(listener, self._patience_for(listener), door)
            serve = partial(
                accept.accept_forever, sock, partial(self._serve, post), partial(self._trouble, post), post
            )
            self._listeners.start_soon(keep_running, f"accepting on {listener.name}", serve, self._events)
        self.listening.follow(self._posts)
        admin = self.snapshot.admin
        self.listening.follow_admin((bind.host, bind.port) for bind in (admin.binds if admin else ()))

    async def drain(self, limit: float) -> int:
        """Accept no more, let sessions end by themselves for ``limit`` seconds, then end them; how many had to be."""
        self._draining = self._shared.draining = True
        self.leave()
        for session in list(self.sessions):
            if session.is_idle:
                session.interrupt(EndedBy.OPERATOR, Reason.DRAIN)
        self.tending.stop()
        self.spares.close()
        if not self.sessions:
            self._no_sessions.set()
        with trio.move_on_after(limit):
            await self._no_sessions.wait()
        return self.cut_off()

    def hurry(self) -> None:
        """End the wait of `drain` now."""
        self._no_sessions.set()

    def cut_off(self) -> int:
        """End all sessions now; how many there were."""
        cut_off = len(self.sessions)
        self._cut_taskless()
        self._nursery.cancel_scope.cancel()
        return cut_off

    def _cut_taskless(self) -> None:
        for session in list(self.sessions):
            if session.relay is not None:
                session.interrupt(EndedBy.OPERATOR, Reason.DRAIN)
        for session in self._shared.unheard:
            session.interrupt(EndedBy.OPERATOR, Reason.DRAIN)

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

    def _serve(self, post: Post, sock: socket.socket, peer: Peer) -> None:
        ticket = post.door.enter(sock, peer)
        if ticket is None:
            return
        listener = post.listener
        session = post.kind(sock, peer, listener, post.patience, self._shared, next(self._numbers))
        self.sessions.add(session)
        self._counters.accepted(listener.name)
        if ticket is not FREE:
            self._tickets[session] = post.door, ticket
        session.begin(self._nursery)

    def _keep(self, session: Session, sock: socket.socket, behind: bytes) -> bool:
        """Make a session of what the client of ``session`` asks for next; False: its listener has gone."""
        name, record = session.listener.name, session.record
        post = next((post for post in self._posts.values() if post.listener.name == name), None)
        if post is None or not issubclass(post.kind, AskingSession):
            return False
        listener, number = post.listener, next(self._numbers)
        following = post.kind(sock, record.peer, listener, post.patience, self._shared, number)
        self.sessions.add(following)
        if session in self._tickets:
            self._tickets[following] = self._tickets.pop(session)
        following.wait_for_more(self._nursery, behind, record.destination)
        return True

    def _resumed(self, session: Session) -> None:
        self._counters.accepted(session.listener.name)

    def _introduced(self, session: Session) -> str | None:
        """A PROXY header has told whom ``session`` is of; why that client has too much already."""
        door, ticket = self._tickets.get(session, (None, FREE))
        source = session.record.source
        return None if door is None or source is None else door.introduce(ticket, source.host)

    def _reset(self, sock: socket.socket) -> None:
        """Close with a RST: at once, or as soon as what it holds has gone."""
        with suppress(OSError):  # no descriptor for it: at once
            if unsent(sock):
                self._watch.let_go(sock.fileno())
                self._nursery.start_soon(close_with_reset, sock.dup())
                return
        sockopt.reset_on_close(sock)

    def _farewell(self, sock: socket.socket, reply: bytes) -> None:
        self._nursery.start_soon(sniff.farewell, sock, reply)

    def _ended(self, session: Session) -> None:
        self.sessions.discard(session)
        self._clocks.forget(session)
        if self._tickets and session in self._tickets:
            door, ticket = self._tickets.pop(session)
            door.leave(ticket)
        if not session.is_idle:
            self._over.append(session.record)
            if not self._watch.busy:
                self._account()
        if self._draining and not self.sessions:
            self._no_sessions.set()

    def _account(self) -> None:
        """Add up what has ended: together, where many end in one round, while all that it takes is at hand."""
        if not self._over:
            return
        over, self._over = self._over, []
        self.recent.extend(over)
        self._counters.ended(*over)
        if self.snapshot.log.sessions:
            for record in over:
                self._events.session(record)
        self._memory.ledger.add(*over)

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(SWEEP)
            now = trio.current_time()
            if self._clocks.stood_still(now):
                continue
            for session in list(self.sessions):
                try:
                    reason = self._clocks.overdue(session, now)
                    if reason is not None:
                        session.interrupt(EndedBy.TIMEOUT, reason)
                except Exception as fault:  # noqa: BLE001  # the other sessions' time-outs must not wait for it
                    self._events.fault(session.record, fault)

    def _trouble(self, post: Post, error: OSError) -> None:
        now, name = trio.current_time(), post.listener.name
        if now >= self._trouble_after.get(name, 0.0):
            self._trouble_after[name] = now + _TROUBLE_PAUSE
            self._events.accept_trouble(name, error)

    def _no_fast_open(self, code: int) -> None:
        self.spares.unavailable()
        if not self._said_unavailable:
            self._said_unavailable = True
            self._events.fast_open_unavailable(code)
