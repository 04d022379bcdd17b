"""Dial an endpoint: the early data in the SYN where the plan allows, and never later than a plain dial would be.

The only file that says ``MSG_FASTOPEN``. A fast open that gets no answer in time is joined by a plain dial on a
socket of its own, and the first to finish its handshake is the connection; the other is closed. One that is refused
is repeated once, plainly. What the SYN carried was safe to send twice (`core.replay`), so no race delivers a byte
twice that must come once. All of it happens in the session's own task.

Errno by errno, from tcp_sendmsg_fastopen() in net/ipv4/tcp.c and from measurement: EINPROGRESS means no cookie is
known (nothing was taken, the SYN asks for one) or that there was no data; EOPNOTSUPP that the client bit of
``net.ipv4.tcp_fastopen`` is off; EPIPE, ENOTCONN and ENOPROTOOPT come from kernels and sandboxes that do not know
the flag. In all of these the dial goes on plainly, on a new socket.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from proxy.core.address import Endpoint
from proxy.core.clusters import Source
from proxy.core.evidence import Evidence, TcpInfo, read_handshake
from proxy.core.fastopen import PLAIN_PLAN, Open, Plan
from proxy.core.outcomes import Reason
from proxy.net import conntrack, sockopt
from proxy.net.upstream import DialFailed, Near, Upstream
from proxy.net.watch import EDGE, FAULT, WRITE, Bell, Watch

_STAGGER = 0.25  # the Connection Attempt Delay of RFC 8305 section 5
_FAST_OPEN = int(socket.MSG_FASTOPEN | socket.MSG_NOSIGNAL)
_SEND = int(socket.MSG_NOSIGNAL)
_UNIX = int(socket.AF_UNIX)
_PLAIN = Open.PLAIN  # bound once: asking an enum for a member costs as much as a call (Python 3.11)
_NOT_HERE = frozenset(
    {errno.EOPNOTSUPP, errno.ENOPROTOOPT, errno.EPROTONOSUPPORT, errno.EPIPE, errno.ENOTCONN, errno.EINVAL}
)


@dataclass(slots=True)
class Attempt:
    """One socket on its way to being connected."""

    sock: socket.socket
    open: Open
    syn_bytes: int  # taken by sendto for the SYN
    started: float
    unavailable: int  # errno when a fast open was wanted and the kernel has none
    endpoint: Endpoint
    source: Source | None


def begin(
    endpoint: Endpoint, early: bytes, plan: Plan, clock: Callable[[], float], source: Source | None = None
) -> Attempt:
    """Send the SYN, from ``source``. Never waits. Raises `DialFailed` for what the kernel knows at once."""
    try:
        sock = sockopt.dialling_socket(endpoint, source)
        started = clock()
        if plan.open is _PLAIN or sock.family == _UNIX:
            return Attempt(_connect(sock, endpoint), _PLAIN, 0, started, 0, endpoint, source)
        try:
            taken = sock.sendto(early[: plan.limit], _FAST_OPEN, endpoint)
        except BlockingIOError:  # EINPROGRESS
            taken = 0
        except OSError as error:
            sock.close()
            if error.errno not in _NOT_HERE:
                raise
            plain = _connect(sockopt.dialling_socket(endpoint, source), endpoint)
            return Attempt(plain, _PLAIN, 0, started, error.errno, endpoint, source)
    except OSError as error:
        raise _failed(error) from error
    return Attempt(sock, plan.open, taken, started, 0, endpoint, source)


def near(endpoint: Endpoint, early: bytes, clock: Callable[[], float], source: Source | None = None) -> Near:
    """Dial plainly, and say ``early`` at once: if that is taken, the handshake is over.

    Never waits. Raises `DialFailed`, and then no socket is left.
    """
    try:
        sock = sockopt.dialling_socket(endpoint, source)
        dialled = Near(endpoint, sock, source, clock())
        _connect(sock, endpoint)
        dialled.made = clock()
        try:
            dialled.sent = sock.send(early, _SEND)
            dialled.connected = True
        except BlockingIOError:
            pass
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise _failed(error) from error
    return dialled


def under_way(dialled: Near) -> Attempt:
    """What `connect` is to wait for, where `near` was not over at once."""
    return Attempt(dialled.sock, _PLAIN, 0, dialled.started, 0, dialled.endpoint, dialled.source)


def _failed(error: OSError) -> DialFailed:
    code = error.errno or 0
    if isinstance(error, sockopt.NoSource):
        return DialFailed(Reason.NO_SOURCE, code, str(error.strerror))
    return DialFailed.because(code)


def at_once(endpoint: Endpoint, attempt: Attempt, clock: Callable[[], float]) -> Upstream | None:
    """The connection, where its handshake is over already, as on loopback; raises `DialFailed`."""
    sock = attempt.sock
    if endpoint.is_unix:
        return _connected(endpoint, attempt, attempt, None, clock(), refused=False)
    try:
        info = sockopt.tcp_info(sock)
        return (
            _connected(endpoint, attempt, attempt, info, clock(), refused=False) if info.established else None
        )
    except OSError as error:
        sock.close()
        raise DialFailed.because(error.errno or 0) from error


async def connect(  # noqa: PLR0913  # what differs from dial to dial
    endpoint: Endpoint,
    first: Attempt,
    watch: Watch,
    timeout: float,
    *,
    hedge: float | None = None,
    redial: bool = False,
    rival: Endpoint | None = None,
) -> Upstream:
    """The connection that ``first`` was begun for; raises `DialFailed`.

    Leaves no other socket behind, whatever happens, cancellation included. ``hedge``: seconds after which a plain
    dial joins a fast open. ``redial``: a refusal of the fast open may be the path's doing, so a plain dial must
    confirm it. ``rival``: another endpoint as good as this one, but of the other address family, which is dialled
    plainly beside it where this one takes too long (RFC 8305); no two of these dials carry data in their SYN.
    """
    race = _Race(endpoint, first, watch, timeout, rival)
    try:
        return await race.run(hedge, redial=redial)
    except OSError as error:  # no memory to watch it, or a socket that will not be asked
        raise DialFailed.because(error.errno or 0) from error


class _Race:
    """A fast open on its way, and the plain dial that may have to join it."""

    def __init__(
        self, endpoint: Endpoint, first: Attempt, watch: Watch, timeout: float, rival: Endpoint | None
    ) -> None:
        self._endpoint = endpoint
        self._rival = rival
        self._first = first
        self._watch = watch
        self._clock = watch.clock
        self._deadline = first.started + timeout
        self._bell = Bell()
        self._attempts: dict[int, Attempt] = {}
        self._refusal = 0  # errno of the first attempt that failed

    async def run(self, hedge: float | None, *, redial: bool) -> Upstream:
        first = self._first
        may_join = first.open is not Open.PLAIN
        hedge_at = first.started + hedge if may_join and hedge is not None else self._deadline
        rival_at = self._deadline
        if self._rival is not None:
            rival_at = min(first.started + max(_STAGGER, hedge or 0.0), self._deadline)
        hedged = redialled = False
        try:
            self._enter(first)
            while True:
                rung = await self._bell.wait_until(min(hedge_at, rival_at, self._deadline))
                won = self._sort_out(rung)
                if won is not None:
                    upstream = self._finish(won)
                    upstream.hedged, upstream.redialled = hedged, redialled
                    return upstream
                now = self._clock()
                if not self._attempts:
                    if not (may_join and redial):
                        raise DialFailed.because(self._refusal)
                    redialled, may_join, hedge_at = True, False, self._deadline
                    self._enter(begin(self._endpoint, b"", PLAIN_PLAN, self._clock, first.source))
                elif now >= self._deadline:
                    raise DialFailed(Reason.CONNECT_TIMEOUT, why=conntrack.trouble())
                elif not rung and may_join and now >= hedge_at:
                    may_join, hedge_at = False, self._deadline
                    with suppress(DialFailed):  # nothing left for a second one: the first goes on alone
                        self._enter(begin(self._endpoint, b"", PLAIN_PLAN, self._clock, first.source))
                        hedged = True
                elif not rung and self._rival is not None and now >= rival_at:
                    rival_at = self._deadline
                    with suppress(DialFailed):
                        self._enter(begin(self._rival, b"", PLAIN_PLAN, self._clock, first.source))
        finally:
            for attempt in list(self._attempts.values()):
                self._close(attempt)

    def _enter(self, attempt: Attempt) -> None:
        fd = attempt.sock.fileno()
        self._attempts[fd] = attempt
        self._watch.add(fd, WRITE | EDGE, partial(self._bell.ring, fd))

    def _sort_out(self, rung: list[tuple[int, int]]) -> Attempt | None:
        """The attempt that is connected, if any; those that failed are closed."""
        for fd, events in rung:
            attempt = self._attempts.get(fd)
            if attempt is None:
                continue
            if not events & FAULT or _was_open(attempt.sock):
                del self._attempts[fd]
                self._watch.remove(fd)
                return attempt
            self._refusal = self._refusal or sockopt.pending_error(attempt.sock)
            self._close(attempt)
        return None

    def _finish(self, won: Attempt) -> Upstream:
        try:
            info = None if self._endpoint.is_unix else sockopt.tcp_info(won.sock)
            return _connected(
                won.endpoint, won, self._first, info, self._clock(), refused=bool(self._refusal)
            )
        except OSError as error:  # reset between the handshake and now
            won.sock.close()
            raise DialFailed.because(error.errno or 0) from error

    def _close(self, attempt: Attempt) -> None:
        fd = attempt.sock.fileno()
        self._watch.forget(fd)
        del self._attempts[fd]
        attempt.sock.close()


def _was_open(sock: socket.socket) -> bool:
    """Whether a broken connection had got through its handshake: a server may take SYN data and reset at once.

    That is its answer and no refusal. The error stays in the socket, for whoever reads next.
    """
    return sockopt.tcp_info(sock).rtt > 0  # measured by the SYN-ACK


def _connected(
    endpoint: Endpoint, won: Attempt, first: Attempt, info: TcpInfo | None, now: float, *, refused: bool
) -> Upstream:
    if first.unavailable:
        evidence = Evidence.UNAVAILABLE
    elif won.endpoint != first.endpoint:
        evidence = Evidence.PLAIN  # it says nothing of the one that was too slow
    elif info is None or first.open is _PLAIN:
        evidence = Evidence.PLAIN
    elif won is first:
        evidence = read_handshake(info, first.syn_bytes, now - first.started)
    elif refused:
        evidence = Evidence.REFUSED
    else:
        evidence = Evidence.SYN_DATA_LOST if first.syn_bytes else Evidence.OPTION_LOST
    upstream = Upstream(
        endpoint, won.sock, won.syn_bytes, evidence, first.syn_bytes, first.started, now, info
    )
    upstream.source = won.source
    if won.open is _PLAIN:
        upstream.plain = True
        upstream.repeated = first.syn_bytes
        upstream.unavailable = first.unavailable
    return upstream


def _connect(sock: socket.socket, endpoint: Endpoint) -> socket.socket:
    """Begin a handshake; raises OSError, and then the socket is closed. That it takes time is told without one."""
    address: tuple[str, int] | str = endpoint
    if sock.family == _UNIX:
        address = "\0" + endpoint.host[1:] if endpoint.host.startswith("@") else endpoint.host
    try:
        code = sock.connect_ex(address)
        if code and code != errno.EINPROGRESS:
            raise OSError(code, os.strerror(code))
    except OSError:  # also of the address itself
        sock.close()
        raise
    return sock
