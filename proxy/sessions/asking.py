"""A session whose client has to be heard before it is known where it goes: the other half of `proxy.sessions.session`.

The way is the same, with three stops more: the request is heard and routed before the first bytes are waited for, the
client is told that it is connected (before the dial or after it), and where nothing comes of it, it is told why.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from proxy.core.address import Endpoint
from proxy.core.outcomes import Reason, Stage
from proxy.core.patience import Patience
from proxy.core.record import Peer
from proxy.core.request import Refused, Request
from proxy.core.routes import RouteQuery
from proxy.core.snapshot import Cluster, Listener, Mode, Reply
from proxy.net import sockopt
from proxy.net.resolve import NoSuchHost
from proxy.net.sniff import NOTHING_YET, EarlyData, early_data_now
from proxy.net.upstream import DialFailed, Upstream
from proxy.sessions import routing
from proxy.sessions.dialling import Dialling
from proxy.sessions.reception import Reception
from proxy.sessions.session import Session
from proxy.sessions.shared import Shared

# Where a client need say nothing of its own to be sent on: a dial of ours that comes back would be sent on again.
_MAY_LOOP = frozenset({Mode.TRANSPARENT, Mode.TPROXY, Mode.SNI})


class AskingSession(Session):
    """As `Session`, for listeners that ask."""

    __slots__ = ("_answered", "_own", "_reception", "_routing")

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

    def _candidates_now(self) -> Sequence[Endpoint]:
        return ()

    async def _resolve(self) -> Sequence[Endpoint]:
        """Hear the request, and find its way."""
        record, shared = self.record, self._shared
        record.during = Stage.SNIFF
        request = await self._hear()
        self._avoid_myself(request)
        self._since = shared.watch.clock()
        record.asked = self._since - record.began
        record.during = Stage.ROUTE
        cluster, candidates = await self._find_way(request)
        if cluster is not self._cluster or not cluster.endpoints:
            self._cluster, record.cluster = cluster, cluster.name
            self._patience = shared.patience(self.listener, cluster, candidates[0])
            self._dialling = self._dial_to(cluster)
        return candidates

    async def _hear(self) -> Request:
        shared = self._shared
        return await self._reception.hear(
            takes_syn_data=shared.takes_syn_data,
            seen=shared.duplicates.seen,
            listening=shared.listening,
            introduced=partial(shared.introduced, self),
            lockout=shared.lockout,
        )

    def _avoid_myself(self, request: Request) -> None:
        """Refuse a session that is one of our own dials come back: it would go round for ever."""
        mode, source = self.listener.mode, self.record.source
        if mode not in _MAY_LOOP or source is None:
            return
        there = request.authority if mode is Mode.TRANSPARENT else sockopt.dialled_address(self._downstream)
        if (source, there) in self._shared.own:
            raise Refused(Reason.LOOP, "it is a dial of this proxy that was brought back to it")

    def _dial_to(self, cluster: Cluster) -> Dialling:
        dialling = super()._dial_to(cluster)
        if self.listener.mode in _MAY_LOOP:
            dialling.begun = self._remember
        return dialling

    def _remember(self, sock: socket.socket, endpoint: Endpoint) -> None:
        if not endpoint.is_unix:
            self._own.append((sockopt.dialled_address(sock), endpoint))
            self._shared.own.add(self._own[-1])

    def _finish(self) -> None:
        self._shared.own.difference_update(self._own)
        super()._finish()

    async def _find_way(self, request: Request) -> tuple[Cluster, Sequence[Endpoint]]:
        record, shared, fixed = self.record, self._shared, self.listener.cluster
        client = record.source.host if record.source is not None else ""
        query = RouteQuery(request.authority, client, self.listener.name, request.user, request.sni)
        try:
            if request.authority is not None and not (
                self.listener.mode is Mode.SNI and fixed.endpoints and self._routing.route(query).rule is None
            ):
                way = await self._routing.way(query)
                return way.cluster, way.candidates
        except routing.Refused as refused:
            raise Refused(refused.reason, str(refused)) from None
        return fixed, fixed.only or await shared.pools.candidates(fixed, client)

    async def _sniff(self, likely: Endpoint) -> EarlyData:
        """The client's first bytes: those behind its request, or those that it says when it is told to."""
        reception = self._reception
        if reception.held is not None:
            return self._sniffed(reception.held)
        if not reception.granted:
            self.record.during = Stage.SNIFF
            early = early_data_now(self._downstream)
            if early is not NOTHING_YET:
                return self._sniffed(early)
            standing, now = self._shared.standings.get(likely), self._shared.watch.clock()
            worth = self._worth_waiting(likely) > 0
            if not reception.may_promise(standing, self._cluster, now, worth=worth):
                return NOTHING_YET
            reception.grant(Reply.OPTIMISTIC)
            self._since = now
        return await super()._sniff(likely)

    def _relay(self, upstream: Upstream, early: EarlyData) -> None:
        if not self._reception.granted:
            with suppress(OSError):  # the relay will meet it again, and knows what to say
                self._reception.grant(Reply.DIALED)
            self._since = self._shared.watch.clock()
        super()._relay(upstream, early)
        request = self._reception.request
        if self.relay is not None and request is not None:
            self.relay.up.body = request.body

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
            with suppress(OSError):  # no descriptor for it: a reset says no, too
                self._shared.farewell(self._downstream.dup(), reply)
                self._answered = True

    def _reset_both(self) -> None:
        if not self._answered:
            sockopt.reset_on_close(self._downstream)
        if self._upstream is not None:
            sockopt.reset_on_close(self._upstream)
