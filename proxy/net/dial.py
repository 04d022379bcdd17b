"""Dial an endpoint: the early data in the SYN where the plan allows, and never later than a plain dial would be.

The only file that says ``MSG_FASTOPEN``. A fast open that gets no answer in time is joined by a plain dial on a
socket of its own, and the first to finish its handshake is the connection; the other is closed. One that is refused
is repeated once, plainly. What the SYN carried was safe to send twice (`core.replay`), so no race delivers a byte
twice that must come once. All of it happens in the session's own task, on the session's own `Watch`.

Errno by errno, from tcp_sendmsg_fastopen() in net/ipv4/tcp.c and from measurement: EINPROGRESS means no cookie is
known (nothing was taken, the SYN asks for one) or that there was no data; EOPNOTSUPP that the client bit of
``net.ipv4.tcp_fastopen`` is off; EPIPE, ENOTCONN and ENOPROTOOPT come from kernels and sandboxes that do not know the flag.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from proxy.core.address import Endpoint
from proxy.core.evidence import Evidence, TcpInfo, read_handshake
from proxy.core.fastopen import PLAIN_PLAN, Open, Plan
from proxy.core.outcomes import Reason
from proxy.core.snapshot import Keepalive
from proxy.net import sockopt
from proxy.net.watch import BROKEN, READ, WRITE, Watch

_FAST_OPEN = socket.MSG_FASTOPEN | socket.MSG_NOSIGNAL
_NOT_HERE = frozenset(
    {errno.EOPNOTSUPP, errno.ENOPROTOOPT, errno.EPROTONOSUPPORT, errno.EPIPE, errno.ENOTCONN, errno.EINVAL}
)
_REASONS = {
    errno.ECONNREFUSED: Reason.REFUSED,
    errno.ENOENT: Reason.REFUSED,  # a unix socket that is not there
    errno.ECONNRESET: Reason.REFUSED,
    errno.ECONNABORTED: Reason.REFUSED,
    errno.ENETUNREACH: Reason.UNREACHABLE,
    errno.EHOSTUNREACH: Reason.UNREACHABLE,
    errno.EADDRNOTAVAIL: Reason.NO_PORTS,
    errno.EAFNOSUPPORT: Reason.UNREACHABLE,
    errno.ETIMEDOUT: Reason.CONNECT_TIMEOUT,
    errno.EMFILE: Reason.NO_DESCRIPTORS,
    errno.ENFILE: Reason.NO_DESCRIPTORS,
    errno.ENOBUFS: Reason.NO_MEMORY,
    errno.ENOMEM: Reason.NO_MEMORY,
    errno.EAGAIN: Reason.NO_MEMORY,  # a unix socket whose queue is full
    errno.EACCES: Reason.NOT_PERMITTED,
    errno.EPERM: Reason.NOT_PERMITTED,
}


class DialFailed(Exception):
    """No dial got through. ``errno`` is the kernel's, or 0 when the time ran out."""

    def __init__(self, reason: Reason, code: int) -> None:
        super().__init__(f"{reason} ({sockopt.errno_name(code)})" if code else str(reason))
        self.reason = reason
        self.errno = code


@dataclass(slots=True)
class Attempt:
    """One socket on its way to being connected."""

    sock: socket.socket
    open: Open
    syn_bytes: int  # taken by sendto for the SYN
    started: float


@dataclass(slots=True)
class Upstream:
    """A connected socket, how it came about, and what it showed."""

    sock: socket.socket
    sent: int  # early bytes that are on their way already
    evidence: Evidence
    syn_bytes: int  # carried by the SYN of the fast open, whether it won or not
    started: float  # of the first attempt; times are trio's clock
    connected: float
    info: TcpInfo | None  # of this socket; None for unix sockets
    hedged: bool = False  # a second dial ran beside the first
    redialled: bool = False  # refused at first, then dialled plainly
    plain: bool = False  # the connection in use came from a plain dial
    unavailable: int = 0  # errno when the kernel would not fast-open at all


@dataclass(slots=True)
class Dial:
    """All that one dial needs to know. ``early`` is sent from its start; deadlines are trio's clock."""

    endpoint: Endpoint
    early: bytes
    plan: Plan
    keepalive: Keepalive | None
    deadline: float
    watch: Watch
    redial: bool = True  # whether a refusal of the fast open may be the path's doing, so that a plain dial must check
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    unavailable: int = 0

    async def connect(self) -> Upstream:
        """The connection; raises `DialFailed`. Leaves no socket behind in any other case, cancellation included."""
        try:
            first = self._begin(self.plan)
            if self.endpoint.is_unix or sockopt.is_established(first.sock):
                self.attempts.clear()
                return self._upstream(first, first)
            return await self._race(first)
        finally:
            self._abandon()

    async def second(self) -> Upstream:
        """A plain connection beside one that is silent; the caller decides between them. Raises `DialFailed`."""
        self.plan = PLAIN_PLAN
        return await self.connect()

    async def _race(self, first: Attempt) -> Upstream:
        watch, hedge = self.watch, self.plan.hedge
        hedge_at = first.started + hedge if hedge is not None and first.open is not Open.PLAIN else self.deadline
        hedged = redialled = False
        refusal = 0  # errno of the first attempt that failed
        watch.add(first.sock.fileno(), WRITE)
        while True:
            events = await watch.wait_until(min(hedge_at, self.deadline))
            won, failed = self._sort_out(events)
            if won is not None:
                return self._upstream(won, first, hedged=hedged, redialled=redialled, refused=bool(refusal))
            if failed:
                refusal = refusal or failed
                may_redial = first.open is not Open.PLAIN and self.redial and not hedged and not redialled
                if not self.attempts and not may_redial:
                    raise DialFailed(_REASONS.get(refusal, Reason.UNREACHABLE), refusal)
                if not self.attempts:
                    redialled, hedge_at = True, self.deadline
                    self._join()
            elif trio.current_time() >= self.deadline:
                raise DialFailed(Reason.CONNECT_TIMEOUT, refusal)
            elif not events and trio.current_time() >= hedge_at:
                hedged, hedge_at = True, self.deadline
                self._join()

    def _join(self) -> None:
        """Start the plain dial beside, or after, the fast open."""
        attempt = self._begin(PLAIN_PLAN)
        self.watch.add(attempt.sock.fileno(), WRITE)

    def _sort_out(self, events: Sequence[tuple[int, int]]) -> tuple[Attempt | None, int]:
        """The attempt that is connected, or the errno of one that failed (which is closed)."""
        failed = 0
        for fd, _ in events:
            attempt = next(a for a in self.attempts if a.sock.fileno() == fd)
            error = sockopt.pending_error(attempt.sock)
            if not error:
                self.attempts.remove(attempt)
                self.watch.remove(fd)
                return attempt, 0
            failed = error
            self.attempts.remove(attempt)
            attempt.sock.close()
        return None, failed

    def _upstream(
        self, won: Attempt, first: Attempt, *, hedged: bool = False, redialled: bool = False, refused: bool = False
    ) -> Upstream:
        now = trio.current_time()
        try:
            info = None if self.endpoint.is_unix else sockopt.tcp_info(won.sock)
            if not self.endpoint.is_unix:
                sockopt.prepare_stream(won.sock, self.keepalive)
        except OSError as error:  # reset between the handshake and now
            won.sock.close()
            raise DialFailed(Reason.REFUSED, error.errno or 0) from error
        return Upstream(
            sock=won.sock,
            sent=won.syn_bytes,
            evidence=self._evidence(won, first, info, now, refused=refused),
            syn_bytes=first.syn_bytes,
            started=first.started,
            connected=now,
            info=info,
            hedged=hedged,
            redialled=redialled,
            plain=won.open is Open.PLAIN,
            unavailable=self.unavailable,
        )

    def _evidence(
        self, won: Attempt, first: Attempt, info: TcpInfo | None, now: float, *, refused: bool
    ) -> Evidence:
        if self.unavailable:
            return Evidence.UNAVAILABLE
        if first.open is Open.PLAIN or info is None:
            return Evidence.PLAIN
        if won is first:
            return read_handshake(info, first.syn_bytes, now - first.started)
        if refused:
            return Evidence.REFUSED
        return Evidence.SYN_DATA_LOST if first.syn_bytes else Evidence.OPTION_LOST

    def _begin(self, plan: Plan) -> Attempt:
        """Send the SYN. Never waits. Raises `DialFailed` for what the kernel knows at once."""
        try:
            attempt = self._fast_open(plan) if plan.open is not Open.PLAIN else self._plain()
        except OSError as error:
            code = error.errno or 0
            raise DialFailed(_REASONS.get(code, Reason.UNREACHABLE), code) from error
        self.attempts.append(attempt)
        return attempt

    def _fast_open(self, plan: Plan) -> Attempt:
        sock = sockopt.dialling_socket(self.endpoint)
        started = trio.current_time()
        try:
            taken = sock.sendto(self.early[: plan.limit], _FAST_OPEN, self.endpoint)
        except BlockingIOError:  # EINPROGRESS
            taken = 0
        except OSError as error:
            sock.close()
            if error.errno not in _NOT_HERE:
                raise
            self.unavailable = error.errno or 0
            return self._plain()
        return Attempt(sock, plan.open, taken, started)

    def _plain(self) -> Attempt:
        sock = sockopt.dialling_socket(self.endpoint)
        started = trio.current_time()
        try:
            sock.connect(_address(self.endpoint))
        except BlockingIOError as error:
            if self.endpoint.is_unix:
                sock.close()
                raise OSError(errno.EAGAIN, "the unix socket's queue is full") from error
        except OSError:
            sock.close()
            raise
        return Attempt(sock, Open.PLAIN, 0, started)

    def _abandon(self) -> None:
        """Close what is not in use; a socket in SYN_SENT says nothing when it is closed."""
        for attempt in self.attempts:
            attempt.sock.close()
        self.attempts.clear()


async def first_answer(primary: Upstream, dial: Dial, downstream: int, hedge_at: float) -> Upstream:
    """Which connection answers, where an endpoint has taken SYN data but never yet shown that it answers it.

    Some middleboxes let a fast-open handshake through and then drop what follows, which no kernel can tell from a
    slow server. So when nothing has come by ``hedge_at``, a plain connection is given the same early data, all of which
    is safe to repeat, and the first to say anything is the session's. ``downstream`` is the client's descriptor: when
    the client speaks again before any answer, the plain one is taken, since nothing after the early data may
    be said twice.
    """
    watch = dial.watch
    watch.add(primary.sock.fileno(), READ)
    try:
        if await watch.wait_until(hedge_at):
            return primary
    finally:
        watch.remove(primary.sock.fileno())
    try:
        rival = await dial.second()
    except DialFailed:
        return primary
    try:
        rival.sent = _say(rival.sock, dial.early)
        chosen = await _whoever_speaks(primary, rival, watch, downstream)
    except BaseException:
        rival.sock.close()
        raise
    if chosen is rival:
        rival.evidence, rival.syn_bytes, rival.started = Evidence.SILENT, primary.syn_bytes, primary.started
        primary.sock.close()
    else:
        rival.sock.close()
    chosen.hedged = True
    return chosen


async def _whoever_speaks(primary: Upstream, rival: Upstream, watch: Watch, downstream: int) -> Upstream:
    sockets = {primary.sock.fileno(): primary, rival.sock.fileno(): rival}
    for fd in (*sockets, downstream):
        watch.add(fd, READ)
    try:
        while True:
            events = dict(await watch.wait())
            for fd, upstream in sockets.items():
                if fd in events and not (events[fd] & BROKEN and fd != downstream):
                    return upstream
            spoken = [fd for fd in sockets if fd in events]
            if spoken:  # one was reset: the other is the session
                return sockets[next(fd for fd in sockets if fd != spoken[0])]
            if downstream in events:
                return rival
    finally:
        for fd in (*sockets, downstream):
            watch.remove(fd)


def _say(sock: socket.socket, data: bytes) -> int:
    try:
        return sock.send(data, socket.MSG_NOSIGNAL)
    except OSError:
        return 0


def _address(endpoint: Endpoint) -> tuple[str, int] | str:
    if not endpoint.is_unix:
        return endpoint
    return "\0" + endpoint.host[1:] if endpoint.host.startswith("@") else endpoint.host
