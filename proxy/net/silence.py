"""A fast open that opened and then says nothing: the path's doing, or a server that thinks?

Some middleboxes let a fast-open handshake through and drop what follows, which no kernel can tell from a slow server.
So after a while of silence a plain connection is given the same early data, all of which is safe to repeat, and the
first to say anything is the session's. Until then both stay, so a slow server costs a second connection and no time.

What the client says after its early data must not be said twice. When that comes first, the connection there is
becomes the session's, since the server may be waiting for it; once there are two, the plain one. A client that only
ends has nothing more to say, and both are told so.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from proxy.core.evidence import Evidence
from proxy.core.fastopen import PLAIN_PLAN
from proxy.net import dial, sockopt
from proxy.net.upstream import DialFailed, Upstream
from proxy.net.watch import EDGE, FAULT, READ, WRITE, Bell, Watch

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
) -> Upstream:
    """The connection that answers, ``primary`` or a plain one dialled at ``doubt_at``; the other is closed.

    Where ``may_doubt`` says no, silence is borne for as long as two dials may take (``timeout`` seconds each), and
    then the session's own clocks must know what to do. So they must when two connections stay silent. No socket is
    left behind, but ``primary``'s where this raises: `DialFailed`, where there is no memory to watch it.
    """
    silence = _Silence(primary, early, watch, downstream)
    chosen: Upstream | None = None
    try:
        chosen = await silence.bear(doubt_at, timeout, may_doubt) or await silence.compare(timeout)
        return chosen
    except OSError as error:
        raise DialFailed.because(error.errno or 0) from error
    finally:
        silence.end(chosen)


class _Silence:
    def __init__(self, primary: Upstream, early: bytes, watch: Watch, downstream: socket.socket) -> None:
        self._primary = primary
        self._early = early
        self._watch = watch
        self._downstream = downstream
        self._bell = Bell()
        self._watched: set[int] = set()
        self._doubted_at: float | None = None
        self._rival: dial.Attempt | None = None  # on its way
        self._second: Upstream | None = None  # and there
        self._broken = False  # the primary was reset
        self._client_spoke = self._client_ended = False

    async def bear(self, doubt_at: float, timeout: float, may_doubt: Callable[[], bool]) -> Upstream | None:
        """Wait for the primary alone; None when it is time to doubt it."""
        self._listen(self._primary.sock, READ)
        self._listen(self._downstream, READ)
        patience = doubt_at
        while True:
            for fd, events in await self._bell.wait_until(patience):
                chosen = self._primary_rang(events) if fd == self._primary.sock.fileno() else self._client()
                if chosen is not None:
                    return chosen
            now = self._watch.clock()
            if now < doubt_at:
                continue
            if now > doubt_at + 2 * timeout:
                return self._primary
            if may_doubt():
                return None
            patience = now + _RECHECK

    async def compare(self, timeout: float) -> Upstream:
        """Dial plainly, say the early data again, and wait for whoever speaks."""
        primary, clock = self._primary, self._watch.clock
        try:
            self._rival = dial.begin(
                primary.endpoint, b"", PLAIN_PLAN, clock, primary.source, primary.dials, "doubt"
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
        """Watch nothing any more, close what was not chosen, and write down how the chosen one came to be it."""
        for fd in self._watched:
            self._watch.remove(fd)
        self._drop_rival()
        primary, second, now = self._primary, self._second, self._watch.clock()
        if chosen is not None and self._doubted_at is not None:
            chosen.hedged, chosen.doubted = True, now - self._doubted_at
        if second is None:
            return
        if chosen is not second:
            _give_up(second, "lost", now)
        if chosen is not None:
            chosen.repeated = min(primary.sent, second.sent)
        if chosen is second:
            second.evidence = Evidence.SILENT if second.spoke else Evidence.PLAIN
            second.syn_bytes, second.started = primary.syn_bytes, primary.started
            _give_up(primary, "silent" if second.spoke else "lost", now)

    def _drop_rival(self) -> None:
        rival, self._rival = self._rival, None
        if rival is not None:
            if rival.dial.result == "abandoned":
                rival.dial.result = "lost"
            dial.give_up(rival.sock, rival.dial, self._watch.clock())

    def _listen(self, sock: socket.socket, events: int) -> None:
        fd = sock.fileno()
        self._watch.add(fd, events | EDGE, partial(self._bell.ring, fd))
        self._watched.add(fd)

    def _rang(self, fd: int, events: int) -> Upstream | None:
        if fd == self._primary.sock.fileno():
            return self._primary_rang(events)
        if fd == self._downstream.fileno():
            return self._client()
        return self._rival_rang(fd, events)

    def _primary_rang(self, events: int) -> Upstream | None:
        if events & FAULT and (self._rival is not None or self._second is not None):
            self._broken = True
            return self._second
        self._primary.spoke = not events & FAULT
        return self._primary

    def _rival_rang(self, fd: int, events: int) -> Upstream | None:
        if self._second is None:
            return self._rival_connected(fd)
        if events & FAULT:
            return self._second if self._broken else self._primary
        self._second.spoke = True
        return self._second

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
        return second if self._broken or self._client_spoke else None

    def _client(self) -> Upstream | None:
        """The client has said more, or has ended."""
        if not _has_ended(self._downstream) or self._primary.sent < len(self._early):
            if self._second is not None or self._rival is None or not self._early:
                return self._second or self._primary
            self._client_spoke = True  # it is not long until there are two
            return None
        self._client_ended = True
        self._shut(self._primary)
        if self._second is not None:
            self._shut(self._second)
        return None

    def _shut(self, upstream: Upstream) -> None:
        if upstream.sent == len(self._early):
            with suppress(OSError):
                upstream.sock.shutdown(socket.SHUT_WR)


def _give_up(upstream: Upstream, result: str, now: float) -> None:
    if upstream.dial is None:
        upstream.sock.close()
    else:
        upstream.dial.result = result
        dial.give_up(upstream.sock, upstream.dial, now)


def say(sock: socket.socket, data: bytes) -> int:
    """Send what the kernel takes now; how many bytes that was."""
    try:
        return sock.send(data, socket.MSG_NOSIGNAL) if data else 0
    except OSError:  # the relay will meet it again, and knows what to say
        return 0


def _has_ended(sock: socket.socket) -> bool:
    """Whether the peer's FIN is the next thing to be read."""
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except OSError:
        return False
