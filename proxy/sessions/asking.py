"""A session whose client has to be heard before it is known where it goes: the other half of `proxy.sessions.session`.

The way is the same, with three stops more: the request is heard and routed before the first bytes are waited for, the
client is told that it is connected (before the dial or after it), and where nothing comes of it, it is told why.

Most clients are heard without a task, too: their bytes are parsed where they are noticed, in the worker's `Watch`, and
the relay takes the descriptor over from there. Only passwords, PROXY headers, tunnels, and names that have to be
looked up take one (decision 0022).
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import trio

from proxy.core.address import Endpoint
from proxy.core.http_response import Response
from proxy.core.loops import Found
from proxy.core.outcomes import EndedBy, Reason, Stage
from proxy.core.patience import Patience
from proxy.core.record import Peer
from proxy.core.request import Forwarded, Refused, Request, too_slow
from proxy.core.routes import RouteQuery
from proxy.core.snapshot import Cluster, Listener, Mode, Reply, SendHeader
from proxy.net import sockopt
from proxy.net.exchange import Exchange
from proxy.net.relay import Relay
from proxy.net.resolve import NoSuchHost
from proxy.net.sniff import NOTHING_YET, EarlyData, early_data_now
from proxy.net.upstream import DialFailed, Near, Upstream
from proxy.net.watch import EDGE, HUNG_UP, READ, URGENT
from proxy.sessions import routing
from proxy.sessions.chaining import ChainedDialling
from proxy.sessions.dialling import Dialling
from proxy.sessions.reception import VIA, Reception
from proxy.sessions.session import Session
from proxy.sessions.shared import Shared

# Where a client need say nothing of its own to be sent on: a dial of ours that comes back would be sent on again.
_MAY_LOOP = frozenset({Mode.TRANSPARENT, Mode.TPROXY, Mode.SNI})
KEPT_FOR = 60.0  # seconds for which a client's connection is kept open without a further request
_NOT_ALL = HUNG_UP | URGENT  # a read that comes back short has not emptied the socket


class AskingSession(Session):
    """As `Session`, for listeners that ask."""

    __slots__ = (
        "_answered",
        "_client_stays",
        "_nursery",
        "_own",
        "_reception",
        "_routing",
        "_watched",
        "is_idle",
    )

    def __init__(
        self,
        downstream: socket.socket,
        peer: Peer,
        listener: Listener,
        patience: Patience,
        shared: Shared[Session],
        number: int,
    ) -> None:
        self._own: list[tuple[Endpoint, Endpoint]] = []
        super().__init__(downstream, peer, listener, patience, shared, number)
        self._routing = shared.routing  # a reload while it asks changes nothing for it
        self._only = ()  # there is nothing to do before the client is heard
        self._reception = Reception(downstream, listener, self.record)
        self._answered = False  # the client gets a reply that must not be reset away
        self._watched = False  # it is being heard without a task
        self._client_stays = False  # the client's connection goes on when this session has ended
        self.is_idle = False  # the client's connection is kept, and nothing has been asked for on it yet
        self._nursery: trio.Nursery | None = None  # for the task that it may need yet

    def wait_for_more(self, nursery: trio.Nursery, behind: bytes, destination: Endpoint | None) -> None:
        """Begin when the client asks for something more on a connection that is kept. It has said ``behind`` already.

        ``destination`` is what the connection's PROXY header told, if there was one.
        """
        shared, self._nursery, self.is_idle = self._shared, nursery, True
        self._reception.go_on(behind, destination)
        if behind:
            shared.watch.again(self._ask_again)
            return
        try:
            shared.watch.add(self._downstream.fileno(), READ | EDGE, self._asks_more)
        except OSError:  # nothing left to watch it with
            self._end_unused()
        else:
            shared.unheard.set(self, shared.watch.clock(), KEPT_FOR, self._end_unused)

    def _asks_more(self, _events: int) -> None:
        try:
            if self._downstream.recv(1, socket.MSG_PEEK):
                self._ask_again()
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._end_unused()

    def _ask_again(self) -> None:
        """The next request begins: it is a session like the first one."""
        if not self.is_idle:
            return
        shared, self.is_idle = self._shared, False
        shared.unheard.call_off(self, KEPT_FOR)
        shared.watch.let_go(self._downstream.fileno())
        self.record.began = self._since = shared.watch.clock()
        shared.resumed(self)
        assert self._nursery is not None
        self.begin(self._nursery)

    def _end_unused(self) -> None:
        """Close a connection on which nothing more was asked for. There is nothing to account for."""
        shared = self._shared
        shared.unheard.call_off(self, KEPT_FOR)
        shared.watch.let_go(self._downstream.fileno())
        self._downstream.close()
        shared.ended(self)

    def interrupt(self, ended_by: EndedBy, reason: Reason) -> None:
        """As `Session.interrupt`."""
        if self.is_idle:
            self._end_unused()
        else:
            super().interrupt(ended_by, reason)

    def begin(self, nursery: trio.Nursery) -> None:
        """Hear as much as has come, and the rest when it comes; a task only where something else is waited for."""
        self._nursery = nursery
        try:
            self.record.during = Stage.SNIFF
            if self._shared.takes_syn_data and not self._reception.goes_on:
                self._shared.look_at_syn(self.record, self.listener, self._downstream)
            if self._reception.waits_for_bytes_only:
                self._listen(0)
            else:
                nursery.start_soon(self.run)
        except Exception as error:  # noqa: BLE001  # told apart in _failed
            self._failed(error)

    def _said(self, events: int) -> None:
        """The client has said more, or has gone."""
        try:
            self._listen(events)
        except Exception as error:  # noqa: BLE001  # told apart in _failed
            self._failed(error)

    def _listen(self, events: int) -> None:
        """An end behind what is said is told together with it and not once more: then there is more than one read."""
        shared = self._shared
        request = self._reception.hear_now(shared.listening, to_the_end=bool(events & _NOT_ALL))
        if request is None and shared.loops.alert:
            self._is_no_test()
        if request is not None:
            self._heard_out(request)
        elif not self._watched:
            shared.watch.add(self._downstream.fileno(), READ | EDGE, self._said)
            self._watched = True
            record, limit = self.record, self.listener.timeouts.handshake
            shared.unheard.set(self, record.began, limit, self._too_slow)

    def _is_no_test(self) -> None:
        """Refuse a part of a TLS hello that a test of our own has sent."""
        try:
            now = self._shared.watch.clock()
            self._shared.loops.check(self.listener.name, None, self._reception.heard, now)
        except Found as found:
            raise Refused(Reason.LOOP, str(found)) from None

    def _too_slow(self) -> None:
        self._failed(too_slow())

    def _heard_out(self, request: Request) -> None:
        """Go on with the request as far as nothing has to be waited for."""
        if self._watched:
            self._shared.unheard.call_off(self, self.listener.timeouts.handshake)
        assert self._nursery is not None
        self._understood(request)
        way = self._way_now(self._query(request))
        if way is None:
            self._nursery.start_soon(self.run)
        else:
            candidates = self._take(*way)
            if self._may_set_out(candidates):
                self._set_out(candidates, self._nursery)
            else:
                self._only = candidates
                self._nursery.start_soon(self.run)
        if self.relay is None:
            self._listen_no_more()

    def _may_set_out(self, candidates: Sequence[Endpoint]) -> bool:
        """Whether there is nothing in front of the client's bytes, and no choice that takes a second look."""
        cluster = self._cluster
        if cluster.via is not None or cluster.proxy_header is not SendHeader.OFF:
            return False
        return len(candidates) == 1 or bool(cluster.endpoints)

    def _listen_no_more(self) -> None:
        if self._watched:
            self._watched = False
            self._shared.unheard.call_off(self, self.listener.timeouts.handshake)
            self._shared.watch.let_go(self._downstream.fileno())

    async def _resolve(self) -> Sequence[Endpoint]:
        """Hear the request, and find its way."""
        request = self._reception.request
        if request is None:
            request = await self._hear()
            self._understood(request)
        return self._take(*await self._find_way(self._query(request)))

    def _understood(self, request: Request) -> None:
        self._avoid_myself(request)
        record = self.record
        self._since = self._shared.watch.clock()
        record.asked = self._since - record.began
        record.during = Stage.ROUTE

    def _take(self, cluster: Cluster, candidates: Sequence[Endpoint]) -> Sequence[Endpoint]:
        """This is the way."""
        if cluster is self._cluster and cluster.endpoints:
            return candidates
        self._patience = self._shared.patience(self.listener, cluster, candidates[0])
        if cluster is not self._cluster or cluster.via is not None:
            self._cluster, self.record.cluster = cluster, cluster.name
            self._dials = None
        return candidates

    async def _hear(self) -> Request:
        shared = self._shared
        return await self._reception.hear(
            listening=shared.listening, introduced=partial(shared.introduced, self), lockout=shared.lockout
        )

    def _avoid_myself(self, request: Request) -> None:
        """Refuse a session that is one of our own dials come back: it would go round for ever."""
        mode = self.listener.mode
        if mode not in _MAY_LOOP or (source := self.record.source) is None:
            return
        there = request.authority if mode is Mode.TRANSPARENT else sockopt.dialled_address(self._downstream)
        if (source, there) in self._shared.own:
            raise Refused(Reason.LOOP, "it is a dial of this proxy that was brought back to it")

    def _dial_to(self, cluster: Cluster) -> Dialling:
        dialling = super()._dial_to(cluster)
        dialling.connected_now = self._grant_dialed
        request = self._reception.request
        if request is not None and request.http is not None:
            dialling.is_whole = request.http.body.done
            dialling.hear_more = None  # what follows is a body, or another request
        if request is not None and request.via and isinstance(dialling, ChainedDialling):
            dialling.came_through = request.via
        if self.listener.mode in _MAY_LOOP:
            dialling.begun = self._remember
        return dialling

    def _remember(self, sock: socket.socket, endpoint: Endpoint) -> None:
        if not endpoint.is_unix:
            self._own.append((sockopt.dialled_address(sock), endpoint))
            self._shared.own.add(self._own[-1])

    def _finish(self) -> None:
        self._listen_no_more()
        self._shared.own.difference_update(self._own)
        super()._finish()

    def _query(self, request: Request) -> RouteQuery:
        source = self.record.source
        client = source.host if source is not None else ""
        return RouteQuery(request.authority, client, self.listener.name, request.user, request.sni)

    def _fixed(self, query: RouteQuery) -> tuple[Cluster | None, bool]:
        """Where it goes if no rule takes it (None: `direct`), and whether the routes are asked at all."""
        fixed = self.listener.cluster
        return (fixed if fixed.endpoints else None), query.authority is not None

    def _way_now(self, query: RouteQuery) -> tuple[Cluster, Sequence[Endpoint]] | None:
        """Its way, where nothing has to be looked up first."""
        otherwise, is_routed = self._fixed(query)
        try:
            if is_routed:
                way = self._routing.way_now(query, otherwise)
                return None if way is None else (way.cluster, way.candidates)
        except routing.Refused as refused:
            raise Refused(refused.reason, str(refused)) from None
        fixed = self.listener.cluster
        candidates = self._shared.pools.candidates_now(fixed, query.client)
        return (fixed, candidates) if candidates else None

    async def _find_way(self, query: RouteQuery) -> tuple[Cluster, Sequence[Endpoint]]:
        otherwise, is_routed = self._fixed(query)
        try:
            if is_routed:
                way = await self._routing.way(query, otherwise)
                return way.cluster, way.candidates
        except routing.Refused as refused:
            raise Refused(refused.reason, str(refused)) from None
        fixed = self.listener.cluster
        return fixed, await self._shared.pools.candidates(fixed, query.client)

    def _words_near(self) -> EarlyData | None:
        """A near endpoint is asked for its handshake at once, unless the client is told before."""
        reception = self._reception
        if self.listener.mode in _MAY_LOOP or self.listener.reply is Reply.OPTIMISTIC:
            return None
        if reception.held is not None:
            return self._sniffed(reception.held)
        return super()._words_near() if reception.granted else NOTHING_YET

    def _sniff_now(self, likely: Endpoint) -> EarlyData | None:
        """The client's first bytes: those behind its request, or those that it says when it is told to."""
        reception, record = self._reception, self.record
        if reception.held is not None:
            return self._sniffed(reception.held)
        record.during = Stage.SNIFF
        early = early_data_now(self._downstream)
        if early is not NOTHING_YET:
            return self._sniffed(early)
        worth = self._worth_waiting(likely) > 0
        if not reception.granted:
            standing, now = self._shared.standings.get(likely), self._shared.watch.clock()
            if not reception.may_promise(standing, self._cluster, now, worth=worth):
                return NOTHING_YET
            reception.grant(Reply.OPTIMISTIC)
            self._since = now
        return None if worth else NOTHING_YET

    def _tell(self) -> None:
        if not self._reception.granted:
            with suppress(OSError):  # the relay will meet it again, and knows what to say
                self._reception.grant(Reply.DIALED)
            self._since = self._shared.watch.clock()

    def _relay(self, upstream: Upstream | Near, early: EarlyData) -> None:
        self._grant_dialed()
        self._watched = False  # the relay takes the descriptor over
        request = self._reception.request
        if request is None or request.http is None:
            super()._relay(upstream, early)
        else:
            self._connected(upstream)
            self._exchange(request.http, upstream, early)

    def _exchange(self, http: Forwarded, upstream: Upstream | Near, early: EarlyData) -> None:
        """Forward one request and its response."""
        shared, sock = self._shared, upstream.sock
        exchange = Exchange(
            self._downstream, sock, shared.watch, shared.buffer, self._exchanged, http, Response(http, VIA),
            lambda: not shared.draining,
        )  # fmt: skip
        self.relay = exchange
        exchange.up.moved = upstream.sent
        exchange.start(early.data[upstream.sent :], self._reception.behind)

    def _exchanged(self) -> None:
        """The exchange has ended, by itself or because it was stopped."""
        exchange, record = self.relay, self.record
        assert isinstance(exchange, Exchange)
        if exchange.fault is not None:
            self._failed(exchange.fault)
            return
        if exchange.switched:
            self._switch(exchange)
            return
        if self._interruption is not None:
            record.ended_by, record.reason = self._interruption
            if record.ended_by is EndedBy.TIMEOUT and not exchange.response.began:
                self._say(
                    self._reception.refusal(Reason.CONNECT_TIMEOUT, "the server did not answer in time")
                )
            self._reset_both()
        else:
            record.ended_by, record.reason = exchange.ended_by or EndedBy.PROXY, exchange.reason
            record.detail = exchange.detail
            self._reception.behind = exchange.behind
            self._client_stays = exchange.stays
            if exchange.refusal is not None:
                self._say(self._reception.refusal(exchange.refusal, exchange.detail))
                self._reset_both()
            elif exchange.complete:
                if not exchange.stays:
                    self._say(b"")
            elif (survivor := exchange.survivor()) is not None:
                self._shared.reset(survivor)
        self._finish()

    def _switch(self, exchange: Exchange) -> None:
        """Both sides speak another protocol from now on (101): relay their bytes."""
        shared = self._shared
        relay = self.relay = Relay(
            self._downstream, exchange.up.sock, shared.watch, shared.buffer, self._relayed
        )
        relay.up.moved, relay.down.moved = exchange.up.moved, exchange.down.moved
        relay.first_byte = exchange.first_byte
        relay.start(bytes(exchange.up.pending) + exchange.behind, downstream_ended=False)

    def _close_downstream(self) -> None:
        if self._client_stays and self._shared.keep(self, self._downstream, self._reception.behind):
            return
        super()._close_downstream()

    def _grant_dialed(self) -> None:
        """Tell the client that it is connected, unless it has been told: now it may speak."""
        self._tell()

    def _silent_until(self) -> float | None:
        return None if self.record.reply == Reply.DIALED else self.record.waited

    def _explain(self, error: Exception) -> None:
        super()._explain(error)
        if self.record.reply == Reply.OPTIMISTIC:
            self.record.detail += "; the client had been told that it was connected"
        reply = b""
        if isinstance(error, Refused):
            reply = error.reply or self._reception.refusal(error.reason, str(error))
        elif isinstance(error, DialFailed):
            reply = self._reception.refusal(error.reason, str(error))
        elif isinstance(error, NoSuchHost):
            reply = self._reception.refusal(Reason.NO_SUCH_HOST, str(error))
        if reply:
            self._say(reply)

    def _say(self, reply: bytes) -> None:
        """The last that the client is told; what it says meanwhile is read, for a close would reset the rest away."""
        with suppress(OSError):  # no descriptor for it: a reset says no, too
            self._shared.farewell(self._downstream.dup(), reply)
            self._answered = True

    def _reset_both(self) -> None:
        if not self._answered:
            sockopt.reset_on_close(self._downstream)
        if self._upstream is not None:
            sockopt.reset_on_close(self._upstream)
