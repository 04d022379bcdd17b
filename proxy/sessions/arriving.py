"""A session that comes out of a tunnel: the far side of `proxy.sessions.tunnelling`.

Its opening is believed, remembered, and answered by one word before anything else happens. Then it goes its way as any
other whose client names the destination, but until the near side has settled on a connection another attempt of the
same session may take its place (`net.tentative`): what was delivered is not delivered again, and no answer is lost.
"""

from __future__ import annotations

import socket
from time import time as wall_clock  # noqa: TID251  # near sides have no other clock in common with us

import trio

from proxy.core import tunnel
from proxy.core.errnos import SHORTAGES
from proxy.core.outcomes import EndedBy, Reason, Stage
from proxy.core.patience import Patience
from proxy.core.reader import Malformed
from proxy.core.record import Peer
from proxy.core.request import Refused, Request
from proxy.core.snapshot import Cluster, Listener
from proxy.core.tunnel import Rejected
from proxy.net import acceptance, sockopt
from proxy.net.dial import Attempt
from proxy.net.sheath import Sheathed
from proxy.net.sniff import EarlyData
from proxy.net.tentative import Abandoned, Tentative
from proxy.net.upstream import Upstream
from proxy.sessions.asking import AskingSession
from proxy.sessions.dialling import Dialling
from proxy.sessions.session import Session
from proxy.sessions.shared import Shared

GRACE = 15.0  # seconds that a session waits for a near side that has not settled on a connection


class ArrivingSession(AskingSession):
    """As `AskingSession`, for listeners in mode tunnel."""

    __slots__ = ("_believed", "_given", "_nonce", "_tentative")

    def __init__(
        self,
        downstream: socket.socket,
        peer: Peer,
        listener: Listener,
        patience: Patience,
        shared: Shared[Session],
        number: int,
    ) -> None:
        super().__init__(downstream, peer, listener, patience, shared, number)
        self._believed = self._given = False
        self._nonce = b""
        self._tentative: Tentative | None = None

    def _guard(self, scope: trio.CancelScope) -> None:
        """Nothing: another connection may take the place of one that is reset."""

    async def _pass(self, early: EarlyData | None, attempt: Attempt | None) -> None:
        """As `Session._pass`, with one stop more."""
        candidates = await self._resolve()
        early = await self._sniff(candidates[0])
        upstream = await self._dialling.first_of(candidates, early, self._downstream, attempt)
        await self._settle(upstream, early)

    def _dial_to(self, cluster: Cluster) -> Dialling:
        dialling = super()._dial_to(cluster)
        dialling.heard_elsewhere = True  # `Tentative` reads what comes
        dialling.hear_more = None
        return dialling

    async def _hear(self) -> Request:
        """The opening, if it is to be believed and is the first of its session; raises `Refused`."""
        try:
            request = await super()._hear()
        finally:
            self._downstream = self._reception.downstream  # with TLS around it, perhaps
        sealed, far_side, shared = self._reception.sealed, self.listener.far_side, self._shared
        assert sealed is not None
        assert far_side is not None
        said = self._reception.behind
        if isinstance(self._downstream, Sheathed):
            said += self._downstream.held()
            if not sealed.final or sealed.attempt > 1:
                raise Refused(Reason.BAD_REQUEST, "an opening within TLS that is not the only one")
        try:
            tunnel.verify(far_side.keys, sealed, wall_clock(), far_side.window)
            fresh = shared.arrivals.claim(sealed, self._downstream, said)
        except Rejected as rejected:
            raise Refused(rejected.reason, str(rejected)) from None
        if not fresh:
            self._given = True
            raise Refused(Reason.TAKEN_OVER, f"attempt {sealed.attempt} of a session that goes on with it")
        self._believed = True
        self._nonce = sealed.ticket.nonce
        self._tentative = Tentative(self._downstream, said, shared.watch, final=sealed.final)
        shared.arrivals.tentative[self._nonce] = self._tentative
        record, ticket = self.record, sealed.ticket
        if ticket.client is not None:
            record.peer, record.destination = ticket.client, ticket.dialled
        return request

    async def _settle(self, upstream: Upstream, early: EarlyData) -> None:
        """Relay, once the near side is settled; until then the answer goes down tentatively."""
        tentative = self._tentative
        assert tentative is not None
        self._upstream = upstream.sock
        if not tentative.settled or tentative.downstream is not self._downstream:
            self.record.during = Stage.RELAY
            rest, upstream.sent = early.data[upstream.sent :], len(early.data)
            await acceptance.say_all(upstream.sock, rest, self.listener.timeouts.handshake)
            await tentative.settle(upstream.sock, GRACE)
        self._adopt()
        self._forget()
        self._relay(upstream, early._replace(data=early.data + tentative.said))
        relay = self.relay
        if relay is not None and tentative.passed:
            relay.down.moved += tentative.passed
            relay.first_byte = tentative.first_byte
            if not early.data:
                self._heard(downstream=False)

    def _explain(self, error: Exception) -> None:
        if isinstance(error, Abandoned):
            record = self.record
            record.ended_by, record.reason = EndedBy.DOWNSTREAM, Reason.VANISHED
            record.detail = f"the near side settled on no connection within {GRACE:g} s"
        elif isinstance(error, Malformed):
            super()._explain(Refused(Reason.BAD_REQUEST, str(error)))
        elif (
            isinstance(error, OSError) and self.record.during is Stage.RELAY and error.errno not in SHORTAGES
        ):
            record = self.record
            record.ended_by, record.reason = EndedBy.UPSTREAM, Reason.RESET
            record.detail = sockopt.errno_name(error.errno or 0)
        else:
            super()._explain(error)

    def _reset_both(self) -> None:
        """What goes on elsewhere must not be reset, and who waits for a word is told by an end in order."""
        self._adopt()
        sealed = self._reception.sealed
        if self._believed or sealed is None or (sealed.final and not self._given):
            super()._reset_both()

    def _adopt(self) -> None:
        """The latest attempt's connection is the session's."""
        tentative = self._tentative
        if tentative is not None:
            self._downstream = tentative.downstream
            tentative.close()

    def _forget(self) -> None:
        if self._nonce:
            self._shared.arrivals.tentative.pop(self._nonce, None)
            self._nonce = b""

    def _finish(self) -> None:
        self._forget()
        self._adopt()
        super()._finish()
