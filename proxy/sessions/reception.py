"""From accepted to routed: who a client is, where it wants to go, and what it is told.

Listeners that always know go past here. `Reception.request` hears the client out; whether it is told that it is
connected before that is so (`Reception.may_promise`), and what it is told when it cannot be, is decided here too.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import trio

from proxy.core import http1, openings, proxy_header, sni, tunnel
from proxy.core.address import Endpoint
from proxy.core.familiar import Familiar
from proxy.core.fastopen import Standing
from proxy.core.lockout import Lockout
from proxy.core.networks import is_within
from proxy.core.outcomes import Reason
from proxy.core.reader import Malformed, NotMine
from proxy.core.record import SessionRecord
from proxy.core.request import Forwarded, Opening, OpeningParser, Refused, Request, Turn, gone_early, too_slow
from proxy.core.snapshot import Cluster, Listener, Mode, ProxyHeader, Reply
from proxy.core.tunnel import Sealed
from proxy.net import sniff, sockopt
from proxy.net.listening import Listening
from proxy.net.sheath import BadTls, Sheath, Sheathed, context
from proxy.net.sniff import EarlyData, HungUp, Incoming
from proxy.sessions import passwords

_familiar = Familiar()
VIA = http1.VIA + b"-" + os.urandom(6).hex().encode()  # what this process calls itself in `Via` fields


class Reception:
    """One client's way in."""

    __slots__ = (
        "_incoming", "_listener", "_parser", "_record", "behind", "downstream", "goes_on", "granted", "held",
        "request", "sealed",
    )  # fmt: skip

    def __init__(self, downstream: socket.socket, listener: Listener, record: SessionRecord) -> None:
        self.downstream = downstream
        self._incoming = Incoming(downstream)
        self._listener = listener
        self._record = record
        self._parser: OpeningParser | None = (
            None  # of what the client says next; None: it has said nothing yet
        )
        self.request: Request | None = None
        self.held: EarlyData | None = None  # first bytes that came with the request
        self.granted = False  # it has been told that it is connected, or is owed nothing of the kind
        self.sealed: Sealed | None = None  # the opening of a tunnel
        self.behind = b""  # what came behind all that it covers, or behind a plain HTTP request
        self.goes_on = False  # the client has asked for something on this connection before

    def go_on(self, behind: bytes, destination: Endpoint | None) -> None:
        """Hear a further request of a client that is known. ``behind``: what it has said already.

        ``destination`` is what its PROXY header told, if there was one.
        """
        self.goes_on = True
        self._incoming.data = behind
        self._record.destination = destination

    @property
    def waits_for_bytes_only(self) -> bool:
        """Whether `hear_now` is enough: nothing that the client may say takes time to be judged."""
        listener = self._listener
        return (
            listener.users is None
            and (self.goes_on or listener.proxy_header is ProxyHeader.OFF)
            and listener.mode is not Mode.TUNNEL
        )

    @property
    def heard(self) -> bytes:
        """What it has said of a message of which more has to come."""
        return self._incoming.so_far

    def hear_now(self, listening: Listening, *, to_the_end: bool) -> Request | None:
        """What the client wants, as far as it `waits_for_bytes_only`; None: it has not said all yet. Raises as `hear`.

        ``to_the_end``: read until there is nothing left, or just until a read comes back short.
        """
        try:
            if self._parser is None:
                self._is_allowed()
            request = self._next(listening, to_the_end=to_the_end)
        except HungUp:
            raise gone_early() from None
        except (Malformed, NotMine) as error:
            raise Refused(Reason.BAD_REQUEST, str(error)) from None
        if request is None:
            return None
        assert isinstance(request, Request)  # nobody is asked for a password here
        self._take(request)
        return request

    async def hear(
        self, *, listening: Listening, introduced: Callable[[], str | None], lockout: Lockout
    ) -> Request:
        """What the client wants; raises `Refused`, and OSError where it hung up rudely.

        ``introduced`` is asked, once it is known whose connection it is, why that one may not come in; ``lockout``
        slows down who guesses passwords.
        """
        try:
            await self._who(introduced)
            with trio.fail_after(self._listener.timeouts.handshake):
                request = await self._where(listening, lockout)
        except trio.TooSlowError:
            raise too_slow() from None
        except HungUp:
            raise gone_early() from None
        except (Malformed, NotMine) as error:
            raise Refused(Reason.BAD_REQUEST, str(error)) from None
        self._take(request)
        return request

    def may_promise(self, standing: Standing, cluster: Cluster, now: float, *, worth: bool) -> bool:
        """Whether to say "connected" before the dial; ``worth``: first bytes would be waited for."""
        if self._listener.reply is Reply.AUTO:
            return worth and standing.keeps_word(cluster, now)
        return self._listener.reply is Reply.OPTIMISTIC

    def grant(self, when: Reply) -> None:
        """Tell the client that it is connected, unless it has been told; raises OSError."""
        if self.granted or self.request is None:
            return
        self.granted = True
        self._record.reply = when
        sniff.say(self.downstream, self.request.granted)

    def refusal(self, reason: Reason, detail: str) -> bytes:
        """What the client is told instead; nothing where it believes that it is connected."""
        if self.request is None or (self.granted and self.request.granted):
            return b""
        place = f"{self.request.authority}: " if self.request.authority is not None else ""
        return self.request.refused(reason, f"{place}{detail or reason}")

    async def _who(self, introduced: Callable[[], str | None]) -> None:
        """Whom the connection is from, and whether he is served."""
        listener, record = self._listener, self._record
        if self.goes_on:
            self._is_allowed()
            return
        if listener.proxy_header is not ProxyHeader.OFF:
            if record.source is None or is_within(record.source.host, listener.trust):
                await self._proxied()
            elif listener.proxy_header is ProxyHeader.REQUIRE:
                raise Refused(Reason.NOT_ALLOWED, "not trusted with a PROXY header")
        self._is_allowed()
        why = introduced()
        if why is not None:
            raise Refused(Reason.LIMITED, why)

    def _is_allowed(self) -> None:
        allow = self._listener.allow
        if not allow:
            return
        source = self._record.source
        if source is not None and not is_within(source.host, allow):
            raise Refused(Reason.NOT_ALLOWED, "the listener does not allow this client")

    async def _proxied(self) -> None:
        """Read the PROXY header; where it may be missing, so may the first bytes."""
        required = self._listener.proxy_header is ProxyHeader.REQUIRE
        try:
            with trio.fail_after(self._listener.timeouts.handshake):
                proxied = await self._incoming.read(proxy_header.header, proxy_header.LIMIT)
        except NotMine:
            if required:
                raise
            return
        except (trio.TooSlowError, HungUp):
            if required or self._incoming.data or self._listener.mode is not Mode.FORWARD:
                raise
            return
        if proxied.source is not None:
            self._record.peer, self._record.destination = proxied.source, proxied.destination

    async def _where(self, listening: Listening, lockout: Lockout) -> Request:
        """Where it wants to go."""
        if self._listener.mode is Mode.TUNNEL:
            return await self._opened()
        while True:
            opening = self._next(listening, to_the_end=True)
            if isinstance(opening, Request):
                return opening
            if opening is None:
                await trio.lowlevel.wait_readable(self.downstream)
            else:
                await self._check(opening, lockout)

    def _next(self, listening: Listening, *, to_the_end: bool) -> Opening | None:
        """What it has said, once it has said all of it, and been answered where that takes no time to judge."""
        listener = self._listener
        mode = listener.mode
        if mode is Mode.FORWARD:
            return Request("")
        if mode in {Mode.TRANSPARENT, Mode.TPROXY}:
            return self._redirected(mode, listening)
        if mode is Mode.SNI:
            return self._named(to_the_end=to_the_end)
        if self._parser is None:
            self._parser = openings.opening_of(mode, login=listener.users is not None, via=VIA)
        while True:
            opening = self._opening(self._parser, to_the_end=to_the_end)
            if not isinstance(opening, Turn) or opening.credentials is not None:
                return opening
            self._answer(opening, None)
            if not (to_the_end or self._incoming.data):
                return None  # what is read short has emptied the socket

    def _opening(self, parser: OpeningParser, *, to_the_end: bool) -> Opening | None:
        incoming = self._incoming
        if incoming.is_amid_a_message:
            return incoming.read_now(parser, openings.LIMIT, to_the_end=to_the_end)
        said, consumed = incoming.said_anew(), incoming.consumed
        if said is None and self._listener.users is None:
            return None  # and no parser that could do without
        known = _familiar.meaning(parser, said or b"")
        if known is not None:
            incoming.understood()
            return known
        opening = incoming.read_now(parser, openings.LIMIT, to_the_end=to_the_end)
        if opening is not None and said and incoming.consumed - consumed == len(said):
            _familiar.learn(parser, said, opening)
        return opening

    async def _opened(self) -> Request:
        """By the opening of a tunnel, within TLS where the listener wants that."""
        far_side = self._listener.far_side
        if far_side is not None and far_side.tls is not None:
            try:
                sheath = Sheath(context(far_side.tls, far=True))
                sheath.incoming.write(self._incoming.data)
                sheathed = self.downstream = Sheathed(self.downstream, sheath)
                await sheathed.shake_hands()
            except BadTls as bad:
                raise Refused(Reason.NOT_AUTHENTICATED, str(bad)) from None
            self._incoming = Incoming(sheathed)
        self.sealed = await self._incoming.read(tunnel.opening, tunnel.LIMIT)
        return Request(Mode.TUNNEL.value, self.sealed.ticket.destination, self.sealed.early)

    def _answer(self, turn: Turn, user: str | None) -> None:
        sniff.say(self.downstream, turn.reply)
        self._parser = turn.proceed(user)

    async def _check(self, turn: Turn, lockout: Lockout) -> None:
        """Whether its credentials are right; raises `Refused`."""
        credentials = turn.credentials
        assert credentials is not None
        source, patience = self._record.source, self._listener.timeouts.handshake / 2
        wrong = await passwords.wrong(self._listener.users, credentials, source, lockout, patience)
        if wrong:
            raise Refused(Reason.NOT_AUTHENTICATED, f"user {credentials.user!r}: {wrong}", turn.rejected)
        self._answer(turn, credentials.user)

    def _named(self, *, to_the_end: bool) -> Request | None:
        """By the name in a ClientHello; what has none, or is none, goes where the listener says."""
        parser = self._parser = self._parser or partial(sni.opening, port=self._port())
        try:
            request = self._incoming.read_now(parser, sni.LIMIT, to_the_end=to_the_end)
        except (NotMine, Malformed):
            request = Request("")
        if not isinstance(request, Request):
            return None
        if request.authority is None and not self._listener.cluster.endpoints:
            reply = request.refused(Reason.BAD_REQUEST, "")
            raise Refused(Reason.BAD_REQUEST, "no server name, and the listener has no `to`", reply)
        return request

    def _redirected(self, mode: Mode, listening: Listening) -> Request:
        """Where it was going when netfilter brought it here."""
        target: Endpoint | None = None
        if mode is Mode.TPROXY:
            target = sockopt.dialled_address(self.downstream)
            if listening.holds(target):
                target = None
        else:
            with suppress(OSError):
                target = sockopt.original_destination(self.downstream)
        if target is None:
            raise Refused(Reason.LOOP, "it was not redirected here: it dialled this listener itself")
        return Request(mode.value, target)

    def _port(self) -> int:
        if self._record.destination is not None:
            return self._record.destination.port
        return 443 if self.downstream.family == socket.AF_UNIX else int(self.downstream.getsockname()[1])

    def _take(self, request: Request) -> None:
        """Whatever came behind the request belongs to its first bytes; raises `Refused`."""
        record, rest = self._record, self._incoming.data
        self.request = request
        self.granted = not request.granted
        record.mode, record.authority, record.user = request.protocol, request.authority, request.user
        if self.sealed is not None:
            record.client_syn_bytes = 0  # what the near side repeats is not the client's doing
            self.behind = rest
            self.held = EarlyData(request.early, ended=False, waited=0.0)
            return
        if request.http is not None:
            record.client_syn_bytes = 0  # they are no longer the bytes that it sent
            early = request.early + self._take_body(request.http, rest)
            self.held = EarlyData(early, ended=False, waited=0.0)
            return
        if rest and not request.early:
            record.client_syn_bytes = max(0, record.client_syn_bytes - self._incoming.consumed)
        if request.early or rest:
            self.held = EarlyData(request.early + rest, ended=False, waited=0.0)

    def _take_body(self, http: Forwarded, rest: bytes) -> bytes:
        """The part of a plain HTTP request's body that has come with its head; raises `Refused`."""
        try:
            taken, early = http.body.take(rest)
        except Malformed as bad:
            raise Refused(Reason.BAD_REQUEST, str(bad), self.refusal(Reason.BAD_REQUEST, str(bad))) from None
        self.behind = rest[taken:]
        return bytes(early)
