"""From accepted to routed: who a client is, where it wants to go, and what it is told.

Listeners that always know go past here. `Reception.request` hears the client out; whether it is told that it is
connected before that is so (`Reception.may_promise`), and what it is told when it cannot be, is decided here too.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import trio

from proxy.core import http1, proxy_header, sni, socks, tunnel
from proxy.core.address import Endpoint
from proxy.core.fastopen import Standing
from proxy.core.limits import client_of
from proxy.core.lockout import Lockout
from proxy.core.networks import is_within
from proxy.core.outcomes import Reason
from proxy.core.reader import Malformed, NotMine, Parser, Reader
from proxy.core.record import SessionRecord
from proxy.core.request import Credentials, Opening, OpeningParser, Refused, Request, Turn
from proxy.core.snapshot import Cluster, Listener, Mode, ProxyHeader, Reply
from proxy.core.tunnel import Sealed
from proxy.core.users import Users
from proxy.net import sniff, sockopt
from proxy.net.listening import Listening
from proxy.net.sheath import BadTls, Sheath, Sheathed, context
from proxy.net.sniff import EarlyData, HungUp, Incoming

_HEAD_LIMIT = 3 * http1.LIMIT  # the parser says no before that, in words
_LOCKOUT_PATIENCE = 3.0  # seconds for which an answer is put off, rather than given unseen
_HASHING = trio.CapacityLimiter(2)  # passwords checked against a hash at a time


def _mixed(reader: Reader, *, login: bool) -> Parser[Opening]:
    """SOCKS or HTTP: no method begins with the number of a SOCKS version."""
    first = yield from reader.peek(1)
    return (yield from (socks.opening if first in {b"\x04", b"\x05"} else http1.opening)(reader, login=login))


_OPENINGS = {Mode.SOCKS: socks.opening, Mode.HTTP: http1.opening, Mode.MIXED: _mixed}


class Reception:
    """One client's way in."""

    __slots__ = (
        "_incoming", "_listener", "_record", "behind", "downstream", "granted", "held", "request", "sealed",
    )  # fmt: skip

    def __init__(self, downstream: socket.socket, listener: Listener, record: SessionRecord) -> None:
        self.downstream = downstream
        self._incoming = Incoming(downstream)
        self._listener = listener
        self._record = record
        self.request: Request | None = None
        self.held: EarlyData | None = None  # first bytes that came with the request
        self.granted = False  # it has been told that it is connected, or is owed nothing of the kind
        self.sealed: Sealed | None = None  # the opening of a tunnel
        self.behind = b""  # and what came behind all that it covers

    async def hear(
        self,
        *,
        takes_syn_data: bool,
        seen: Callable[[bytes, float], bool],
        listening: Listening,
        introduced: Callable[[], str | None],
        lockout: Lockout,
    ) -> Request:
        """What the client wants; raises `Refused`, and OSError where it hung up rudely.

        ``seen`` is `core.duplicates.Duplicates.seen`; ``introduced`` is asked, once it is known whose connection it
        is, why that one may not come in; ``lockout`` slows down who guesses passwords.
        """
        listener = self._listener
        if takes_syn_data and listener.fast_open and self.downstream.family != socket.AF_UNIX:
            syn = sockopt.client_syn_data(self.downstream)
            self._record.client_syn_bytes = syn.size
            self._record.duplicate = bool(syn.size) and seen(syn.headers, self._record.began)
        try:
            await self._who(introduced)
            with trio.fail_after(listener.timeouts.handshake):
                request = await self._where(listening, lockout)
        except trio.TooSlowError:
            raise Refused(Reason.HANDSHAKE_TIMEOUT, "the client did not say where to go") from None
        except HungUp:
            raise Refused(Reason.NO_REQUEST, "the client left before it said where to go") from None
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
        if listener.proxy_header is not ProxyHeader.OFF:
            if record.source is None or is_within(record.source.host, listener.trust):
                await self._proxied()
            elif listener.proxy_header is ProxyHeader.REQUIRE:
                raise Refused(Reason.NOT_ALLOWED, "not trusted with a PROXY header")
        source = record.source
        if listener.allow and source is not None and not is_within(source.host, listener.allow):
            raise Refused(Reason.NOT_ALLOWED, "the listener does not allow this client")
        why = introduced()
        if why is not None:
            raise Refused(Reason.LIMITED, why)

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
        mode = self._listener.mode
        if mode is Mode.FORWARD:
            return Request("")
        if mode in {Mode.TRANSPARENT, Mode.TPROXY}:
            return self._redirected(mode, listening)
        if mode is Mode.SNI:
            return await self._named()
        if mode is Mode.TUNNEL:
            return await self._opened()
        users = self._listener.users
        parser: OpeningParser = partial(_OPENINGS[mode], login=users is not None)
        while True:
            opening = await self._incoming.read(parser, _HEAD_LIMIT)
            if isinstance(opening, Request):
                return opening
            parser = await self._answer(opening, users, lockout)

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

    async def _answer(self, turn: Turn, users: Users | None, lockout: Lockout) -> OpeningParser:
        user = None
        if turn.credentials is not None:
            user = turn.credentials.user
            wrong = await self._check(users, turn.credentials, lockout)
            if wrong:
                raise Refused(Reason.NOT_AUTHENTICATED, f"user {user!r}: {wrong}", turn.rejected)
        sniff.say(self.downstream, turn.reply)
        return turn.proceed(user)

    async def _check(self, users: Users | None, credentials: Credentials, lockout: Lockout) -> str:
        """What is wrong with them, looked at no sooner than whoever has guessed before may have it."""
        source = self._record.source
        client = client_of(source.host) if source is not None else b""
        patience = min(_LOCKOUT_PATIENCE, self._listener.timeouts.handshake / 2)
        pause = lockout.turn(client, credentials.user, trio.current_time(), patience)
        if pause is None:
            return "too many wrong passwords before this one, which was not looked at"
        if pause:
            await trio.sleep(pause)
        if users is None or not await _are_right(users, credentials):
            lockout.failed(client, credentials.user, trio.current_time())
            return "wrong password"
        return ""

    async def _named(self) -> Request:
        """By the name in a ClientHello; what has none, or is none, goes where the listener says."""
        try:
            request = await self._incoming.read(partial(sni.opening, port=self._port()), sni.LIMIT)
        except (NotMine, Malformed):
            request = Request("")
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
        """Whatever came behind the request belongs to its first bytes."""
        record, rest = self._record, self._incoming.data
        self.request = request
        self.granted = not request.granted
        record.mode, record.authority, record.user = request.protocol, request.authority, request.user
        if self.sealed is not None:
            record.client_syn_bytes = 0  # what the near side repeats is not the client's doing
            self.behind = rest
            self.held = EarlyData(request.early, ended=False, waited=0.0)
            return
        if request.body is not None:
            rest = rest[: request.body.take(rest)]
        elif rest and not request.early:
            record.client_syn_bytes = max(0, record.client_syn_bytes - self._incoming.consumed)
        if request.early and request.protocol == "http":
            record.client_syn_bytes = 0  # they are no longer the bytes that it sent
        if request.early or rest:
            self.held = EarlyData(request.early + rest, ended=False, waited=0.0)


async def _are_right(users: Users, credentials: Credentials) -> bool:
    if users.known(credentials):
        return True
    if not users.slow:
        return False
    return await trio.to_thread.run_sync(users.check, credentials, limiter=_HASHING)
