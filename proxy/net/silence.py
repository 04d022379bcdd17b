"""Wait for the first byte on a fast-opened connection, and dial plainly where it does not come.

Some middleboxes let a fast-open handshake through and drop what follows, which no kernel can tell from a slow server.
Others send a RST when the answer comes. So after a while of silence, and at once where the connection is ended without
a byte, a plain connection is given the same early data, all of which is safe to repeat, and the first that brings a
byte is the session's. Only bytes are an answer. A connection that is silent but open is kept beside the other until
then, so a slow server costs a second connection and no time; and for a while after that, since an answer that comes
later clears the path (`late_answer`).

What the client says after its early data may be repeated, too, or not. What may (`first_answer`'s ``more``) goes to
each connection there is. When other bytes come first, the connection there is becomes the session's, since the server
may be waiting for them; once there are two, the plain one. A client that only ends has nothing more to say, and both
are told so.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from proxy.core.evidence import Evidence
from proxy.core.fastopen import PLAIN_PLAN
from proxy.core.outcomes import Reason
from proxy.net import dial, sockopt
from proxy.net.upstream import DialFailed, Upstream, close_dialled
from proxy.net.watch import EDGE, FAULT, HUNG_UP, READ, URGENT, WRITE, Bell, Watch

_AT_ONCE = 3.0  # seconds
_RECHECK = 0.5  # seconds between two looks whether a rival is allowed by now


async def first_answer(  # noqa: PLR0913  # three of them are the two connections' circumstances
    primary: Upstream,
    early: bytes,
    watch: Watch,
    downstream: socket.socket,
    *,
    doubt_at: float,
    timeout: float,
    may_doubt: Callable[[], bool],
    whole: bool = False,
    more: Callable[[bytes], bytes] | None = None,
    patience: float = math.inf,
) -> Upstream:
    """The connection that answers, ``primary`` or a plain one; the other is closed, or is the plain one's ``late``.

    A plain one is dialled at ``doubt_at`` (trio's clock; infinity: never), and at once where ``primary`` is ended
    without a byte. Where ``may_doubt`` says no, silence is borne for as long as two dials may take (``timeout`` seconds
    each), and then the session's own clocks must know what to do. So they must when two connections stay silent. No
    socket is left behind, but ``primary``'s where this raises: `DialFailed`, where there is no memory to watch it.
    ``whole``: the early data is a whole request, so neither more bytes of the client's nor its end concern the server.
    ``more``: takes what the client says now, where it may be said twice behind the bytes that it is given; else
    nothing. The chosen connection's ``heard`` has all that was taken. ``patience``: seconds after that, without an
    answer, until the plain one is dialled.
    """
    silence = _Silence(primary, early, watch, downstream, whole=whole, more=more, patience=patience)
    silence.doubt_at = doubt_at
    chosen: Upstream | None = None
    try:
        chosen = await silence.bear(timeout, may_doubt) or await silence.compare(timeout)
        chosen.heard = silence.heard
        return chosen
    except OSError as error:
        raise DialFailed.because(error.errno or 0) from error
    finally:
        silence.end(chosen)


async def late_answer(silent: Upstream, watch: Watch, until: float) -> bool:
    """Whether a connection that was not chosen brings a byte until then (trio's clock). It stays open."""
    bell, fd = Bell(), silent.sock.fileno()
    watch.add(fd, READ | EDGE, partial(bell.ring, fd))
    try:
        while rung := await bell.wait_until(until):
            if sockopt.unread(silent.sock):
                return True
            if any(events & HUNG_UP for _, events in rung):
                return False
    finally:
        watch.remove(fd)
    return False


class _Silence:
    def __init__(  # noqa: PLR0913  # as `first_answer`
        self,
        primary: Upstream,
        early: bytes,
        watch: Watch,
        downstream: socket.socket,
        *,
        whole: bool,
        more: Callable[[bytes], bytes] | None,
        patience: float,
    ) -> None:
        self._primary = primary
        self._early = early
        self._watch = watch
        self._downstream = downstream
        self._whole = whole
        self._more = more
        self._patience = patience
        self.heard = b""  # of what the client has said since, all that may be repeated
        self.doubt_at = math.inf  # when to dial plainly
        self._bell = Bell()
        self._watched: set[int] = set()
        self._doubted_at: float | None = None
        self._told_before = watch.handler(downstream.fileno())  # and afterwards, of errors
        self._rival: dial.Attempt | None = None  # on its way
        self._second: Upstream | None = None  # and there
        self._ended = ""  # the primary was, without a byte: a `Reason`
        self._redialled = False  # and that is why there is another
        self._client_spoke = self._client_ended = self._client_gone = False

    async def bear(self, timeout: float, may_doubt: Callable[[], bool]) -> Upstream | None:
        """Wait for the primary alone; None when a second connection should be made."""
        self._listen(self._primary.sock, READ)
        self._listen(self._downstream, READ)
        look_at = -math.inf
        while True:
            doubt_at, give_up_at = self.doubt_at, self._primary.connected + 2 * timeout
            if doubt_at <= give_up_at:
                give_up_at = doubt_at + 2 * timeout
            for fd, events in await self._bell.wait_until(max(min(doubt_at, give_up_at), look_at)):
                chosen = (
                    self._primary_rang(events) if fd == self._primary.sock.fileno() else self._client(events)
                )
                if chosen is not None:
                    return chosen
            if self._ended:
                return None
            now, doubt_at = self._watch.clock(), self.doubt_at
            if now < min(doubt_at, give_up_at):
                continue
            if now >= give_up_at:
                return self._primary
            if now >= doubt_at and may_doubt():
                return None
            look_at = min(now + _RECHECK, give_up_at)

    async def compare(self, timeout: float) -> Upstream:
        """Dial plainly, say the early data again, and wait for the first byte on either."""
        primary, clock, self._redialled = self._primary, self._watch.clock, bool(self._ended)
        try:
            self._rival = dial.begin(
                primary.endpoint,
                b"",
                PLAIN_PLAN,
                clock,
                primary.source,
                primary.dials,
                "redial" if self._redialled else "doubt",
            )
            self._doubted_at = self._rival.started
            self._listen(self._rival.sock, WRITE)
        except (DialFailed, OSError):  # nothing left for a second one: the first goes on alone
            return primary
        deadline = clock() + timeout
        while rung := await self._bell.wait_until(deadline):
            for fd, events in rung:
                chosen = self._rang(fd, events)
                if chosen is not None:
                    return chosen
            if self._second is not None:
                deadline = min(deadline + timeout, clock() + timeout)
        return self._second or primary

    def end(self, chosen: Upstream | None) -> None:
        """Watch nothing any more, close what is of no use, and write down how the chosen one came to be it."""
        self._listen_no_more()
        self._drop_rival()
        primary, second, now = self._primary, self._second, self._watch.clock()
        if chosen is not None and self._doubted_at is not None:
            chosen.hedged, chosen.redialled = not self._redialled, self._redialled
            chosen.doubted = now - self._doubted_at
        if second is None:
            return
        if chosen is not second:
            self._close(second, "lost")
        if chosen is not None:
            chosen.repeated = min(primary.sent, second.sent)
        if chosen is second:
            second.evidence = Evidence.SILENT if second.spoke else Evidence.PLAIN
            second.unanswered = bool(self._ended)
            second.syn_bytes, second.started = primary.syn_bytes, primary.started
            if second.spoke and not self._ended:
                second.late = primary
                if primary.dial is not None:
                    primary.dial.result = "silent"
            else:
                self._close(primary, self._ended or "lost")

    def _close(self, upstream: Upstream, result: str) -> None:
        if self._client_gone:
            sockopt.reset_on_close(upstream.sock)
        give_up(upstream, result, self._watch.clock())

    def _drop_rival(self) -> None:
        rival, self._rival = self._rival, None
        if rival is not None:
            if rival.dial.result == "abandoned":
                rival.dial.result = "lost"
            close_dialled(rival.sock, rival.dial, self._watch.clock())

    def _listen(self, sock: socket.socket, events: int) -> None:
        fd = sock.fileno()
        self._watch.add(fd, events | EDGE, partial(self._bell.ring, fd))
        self._watched.add(fd)

    def _listen_no_more(self) -> None:
        for fd in self._watched:
            if fd == self._downstream.fileno() and self._told_before is not None:
                try:
                    self._watch.add(fd, EDGE, self._told_before)
                except OSError:  # its errors are noticed when the relay watches it
                    self._watch.let_go(fd)
            else:
                self._watch.remove(fd)

    def _rang(self, fd: int, events: int) -> Upstream | None:
        if fd == self._primary.sock.fileno():
            return self._primary_rang(events)
        if fd == self._downstream.fileno():
            return self._client(events)
        return self._rival_rang(fd, events)

    def _primary_rang(self, events: int) -> Upstream | None:
        if _has_bytes(self._primary.sock, events):
            self._primary.spoke = True
            return self._primary
        if not events & HUNG_UP:
            return None
        if self._client_ended and not events & FAULT:
            return self._primary  # it ends in turn, as a server may that has nothing to say
        if not self._early and self._watch.clock() - self._primary.connected > _AT_ONCE:
            return self._primary  # nothing was said on it: a server that waits no longer, and no middlebox
        self._ended = Reason.RESET if events & FAULT else Reason.CLOSED
        return self._second if self._client_spoke else None

    def _rival_rang(self, fd: int, events: int) -> Upstream | None:
        if self._second is None:
            return self._rival_connected(fd)
        if _has_bytes(self._second.sock, events):
            self._second.spoke = True
            return self._second
        if events & HUNG_UP:
            in_turn = self._client_ended and not events & FAULT
            return self._second if self._ended or in_turn else self._primary
        return None

    def _rival_connected(self, fd: int) -> Upstream | None:
        rival = self._rival
        assert rival is not None
        try:
            if code := sockopt.pending_error(rival.sock):
                raise DialFailed.because(code)
            second = dial.at_once(self._primary.endpoint, rival, self._watch.clock)
        except (DialFailed, OSError) as error:  # plainly it does not go at all
            failed = error if isinstance(error, DialFailed) else DialFailed.because(error.errno or 0)
            rival.dial.result = failed.reason
            self._watch.forget(fd)
            self._watched.discard(fd)
            self._drop_rival()
            return self._primary
        if second is None:
            return None
        self._rival, self._second = None, second
        self._watch.change(fd, READ | EDGE)
        second.sent = say(second.sock, self._early)
        if self._client_ended:
            self._shut(second)
        return second if self._client_spoke else None

    def _client(self, events: int) -> Upstream | None:
        """The client has said more, or has ended."""
        if events & FAULT:
            self._client_gone = True
            return self._second or self._primary  # the relay meets the error, and passes it on
        if self._whole:
            return None
        said = _has_bytes(self._downstream, events)
        if said and self._repeatable():
            said = bool(sockopt.unread(self._downstream))
        if said or self._primary.sent < len(self._early):
            if self._second is not None:
                return self._second
            if not self._ended and (self._rival is None or not self._early):
                return self._primary
            self._client_spoke = True  # it is not long until there are two
            return None
        if not events & HUNG_UP:
            return None
        self._client_ended = True
        self._shut(self._primary)
        if self._second is not None:
            self._shut(self._second)
        return None

    def _repeatable(self) -> bool:
        """Whether what the client has said may be said twice; then it has been said on each connection there is."""
        if self._more is None or self._primary.sent < len(self._early):
            return False
        if self._second is not None and self._second.sent < len(self._early):
            return False
        said = self._more(self._early)
        if not said:
            return False
        now = self._watch.clock()
        if now < self.doubt_at or not self._early:  # it is answered only now
            self.doubt_at = now + self._patience
        self._early += said
        self.heard += said
        if not self._ended:
            self._primary.sent += say(self._primary.sock, said)
        if self._second is not None:
            self._second.sent += say(self._second.sock, said)
        return True

    def _shut(self, upstream: Upstream) -> None:
        if upstream.sent == len(self._early):
            with suppress(OSError):
                upstream.sock.shutdown(socket.SHUT_WR)


def give_up(upstream: Upstream, result: str, now: float) -> None:
    """Close a connection that is not wanted, and write down why in its `Dial.result`."""
    if upstream.dial is None:
        upstream.sock.close()
    else:
        upstream.dial.result = result
        close_dialled(upstream.sock, upstream.dial, now)


def _has_bytes(sock: socket.socket, events: int) -> bool:
    return bool(events & URGENT or sockopt.unread(sock))


def say(sock: socket.socket, data: bytes) -> int:
    """Send what the kernel takes now; how many bytes that was."""
    try:
        return sock.send(data, socket.MSG_NOSIGNAL) if data else 0
    except OSError:  # the relay will meet it again, and knows what to say
        return 0
