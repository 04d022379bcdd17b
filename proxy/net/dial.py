"""Dial an endpoint: the early data in the SYN where the plan allows, and never later than a plain dial would be.

The only file that says ``MSG_FASTOPEN``. A fast open that gets no answer in time is joined by a plain dial on a
socket of its own, and the first to finish its handshake is the connection; the other is closed. One that is refused
is repeated once, plainly. Further addresses of the same destination join as RFC 8305 section 5 says, and no session
sends more SYNs than its `SynBudget` allows. What the SYN carried was safe to send twice (`core.replay`), so no race
delivers a byte twice that must come once. All of it happens in the session's own task.

Errno by errno, from tcp_sendmsg_fastopen() in net/ipv4/tcp.c and from measurement: EINPROGRESS means no cookie is
known (nothing was taken, the SYN asks for one) or that there was no data; EOPNOTSUPP that the client bit of
``net.ipv4.tcp_fastopen`` is off; EPIPE, ENOTCONN and ENOPROTOOPT come from kernels and sandboxes that do not know
the flag. In all of these the dial goes on plainly, on a new socket.
"""

from __future__ import annotations

import errno
import math
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from proxy.core.address import Endpoint
from proxy.core.clusters import Source
from proxy.core.errnos import Call, meaning
from proxy.core.evidence import Evidence, TcpInfo, read_handshake
from proxy.core.fastopen import PLAIN_PLAN, Open, Plan
from proxy.core.outcomes import Reason
from proxy.core.pace import STAGGER
from proxy.core.record import Dial
from proxy.net import conntrack, sockopt
from proxy.net.upstream import DialFailed, Near, Upstream, close_dialled
from proxy.net.watch import EDGE, FAULT, WRITE, Bell, Watch

MOST_SYNS = 4  # to one address, of one session
MOST_SYNS_IN_ALL = 16  # of one session
# The kernel repeats a SYN after 1 s (TCP_TIMEOUT_INIT) and then at least 1 s apart (net.ipv4.tcp_syn_linear_timeouts).
# An attempt that must not repeat it is closed a little earlier; TCP_SYNCNT cannot do that: since Linux 6.5 the kernel
# adds the linear ones to it (tcp_write_timeout() in net/ipv4/tcp_timer.c).
_REPEATS_NOT_BEFORE, _REPEATS_APART = 0.9, 1.0
_FAST_OPEN = int(socket.MSG_FASTOPEN | socket.MSG_NOSIGNAL)
_SEND = int(socket.MSG_NOSIGNAL)
_UNIX = int(socket.AF_UNIX)
_PLAIN = Open.PLAIN  # bound once: asking an enum for a member costs as much as a call (Python 3.11)
_ANSWERED_AT_ONCE = frozenset({Evidence.SYN_DATA_ACKED, Evidence.EMPTY_OPEN})
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
    dial: Dial  # what is told of it
    dials: list[Dial] = field(default_factory=list[Dial])  # and of all others of its session
    deadline: float = math.inf
    look_at: float = math.inf  # when the kernel is about to repeat the SYN
    repeated: int = 0  # repetitions that it was allowed
    repeats: bool = True  # it may be allowed more


def begin(  # noqa: PLR0913, PLR0917  # what differs from dial to dial
    endpoint: Endpoint,
    early: bytes,
    plan: Plan,
    clock: Callable[[], float],
    source: Source | None = None,
    dials: list[Dial] | None = None,
    why: str = "first",
) -> Attempt:
    """Send the SYN, from ``source``. Never waits. Raises `DialFailed` for what the kernel knows at once.

    ``dials``: all dials of the session; this one is added, failed or not. ``why`` is `Dial.why`.
    """
    dials = [] if dials is None else dials
    wanted, code, taken = plan.open, 0, 0
    started = clock()
    told = Dial(endpoint, wanted, started, None, why=why)
    dials.append(told)
    try:
        sock = sockopt.dialling_socket(endpoint, source)
        if wanted is _PLAIN or sock.family == _UNIX:
            wanted = _PLAIN
            _connect(sock, endpoint)
        else:
            data = early[: plan.limit]
            told.planned = len(data)
            try:
                taken = sock.sendto(data, _FAST_OPEN, sockopt.address_of(endpoint))
            except BlockingIOError:  # EINPROGRESS
                pass
            except OSError as error:
                sock.close()
                if error.errno not in _NOT_HERE:
                    raise
                wanted, code = _PLAIN, error.errno
                sock = _connect(sockopt.dialling_socket(endpoint, source), endpoint)
    except OSError as error:
        raise _told(told, _failed(error, endpoint, source), clock()) from error
    told.open, told.syn_bytes, told.local = wanted, taken, sockopt.local_address(sock)
    return Attempt(sock, wanted, taken, started, code, endpoint, source, told, dials)


def near(
    endpoint: Endpoint,
    early: bytes,
    clock: Callable[[], float],
    source: Source | None = None,
    dials: list[Dial] | None = None,
) -> Near:
    """Dial plainly, and say ``early`` at once: if that is taken, the handshake is over.

    Never waits. Raises `DialFailed`, and then no socket is left. ``dials`` as for `begin`.
    """
    started = clock()
    told = Dial(endpoint, _PLAIN, started, None)
    if dials is not None:
        dials.append(told)
    try:
        sock = sockopt.dialling_socket(endpoint, source)
        dialled = Near(endpoint, sock, source, started, told)
        _connect(sock, endpoint)
        told.local = sockopt.local_address(sock)
        told.ended = dialled.made = clock()
        try:
            dialled.sent = sock.send(early, _SEND)
            dialled.connected = True
            told.result = "won"
        except BlockingIOError:
            pass
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise _told(told, _failed(error, endpoint, source), clock()) from error
    return dialled


def under_way(dialled: Near, dials: list[Dial] | None = None) -> Attempt:
    """What `connect` is to wait for, where `near` was not over at once. ``dials`` as for `begin`."""
    told, source = dialled.dial, dialled.source
    return Attempt(dialled.sock, _PLAIN, 0, told.started, 0, told.endpoint, source, told, dials or [told])


def _told(dial: Dial, failed: DialFailed, now: float) -> DialFailed:
    dial.result, dial.ended = failed.reason, now
    return failed


def _failed(error: OSError, endpoint: Endpoint, source: Source | None) -> DialFailed:
    """What an error of socket(2), bind(2), connect(2) or sendto(2) means for a dial to ``endpoint``."""
    code = error.errno or 0
    if isinstance(error, sockopt.NoSource):
        return DialFailed(meaning(Call.SOURCE, code), code, str(error.strerror))
    if code == errno.ENODEV:
        return DialFailed(meaning(Call.CONNECT, code), code, str(error.strerror))
    if code == errno.EADDRNOTAVAIL and not endpoint.is_unix and not sockopt.has_way(endpoint, source):
        family = "IPv6" if endpoint.is_ipv6 else "IPv4"
        return DialFailed(Reason.NET_UNREACHABLE, code, f"this machine has no {family} address to dial from")
    if code == errno.EINVAL and source is not None and sockopt.has_way(endpoint):
        return DialFailed(Reason.NO_SOURCE, code, f"there is no way to {endpoint.host} from this source")
    return DialFailed.because(code, call=Call.CONNECT)


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
        raise _told(attempt.dial, DialFailed.because(error.errno or 0), clock()) from error


class SynBudget:
    """The SYNs that one session may send, those that the kernel repeats included.

    `MOST_SYNS` to one address and `MOST_SYNS_IN_ALL` to all addresses together, so that a request cannot be turned
    into a flood towards an address that does not answer (docs/security.md).
    """

    __slots__ = ("_left", "_sent")

    def __init__(self, in_all: int = MOST_SYNS_IN_ALL) -> None:
        """``in_all``: more than `MOST_SYNS_IN_ALL`, where the operator wants so many endpoints to be tried."""
        self._sent: dict[Endpoint, int] = {}
        self._left = max(in_all, MOST_SYNS_IN_ALL)

    def allows(self, endpoint: Endpoint, kept: int = 0) -> bool:
        """Whether one more SYN may go to ``endpoint``, with ``kept`` SYNs left over for other addresses."""
        return self._left > kept and self._sent.get(endpoint, 0) < MOST_SYNS

    def spend(self, endpoint: Endpoint, count: int = 1) -> None:
        """Count SYNs to ``endpoint``; a negative ``count`` gives back what was not sent."""
        self._sent[endpoint] = self._sent.get(endpoint, 0) + count
        self._left -= count


async def connect(  # noqa: PLR0913  # what differs from dial to dial
    endpoint: Endpoint,
    first: Attempt,
    watch: Watch,
    timeout: float,
    *,
    hedge: float | None = None,
    redial: bool = False,
    others: Iterable[Endpoint] = (),
    stagger: float = STAGGER,
    more: Callable[[], Sequence[Endpoint]] | None = None,
    budget: SynBudget | None = None,
) -> Upstream:
    """The connection that ``first`` was begun for; raises `DialFailed`.

    Leaves no other socket behind, whatever happens, cancellation included. ``timeout``: seconds for each endpoint.
    ``hedge``: seconds after which a plain dial joins a fast open. ``redial``: a refusal of the fast open may be the
    path's doing, so a plain dial must confirm it. ``others``: further addresses of the same destination, dialled
    plainly in this order (RFC 8305 section 5): each ``stagger`` seconds after the one before, or at once where that
    one has failed. No two of these dials carry data in their SYN. ``more`` is asked for addresses that have come
    meanwhile. ``budget``: the session's; a new one by default.
    """
    race = _Race(endpoint, first, watch, timeout, others, stagger, more, budget or SynBudget())
    try:
        return await race.run(hedge, redial=redial)
    except OSError as error:  # no memory to watch it, or a socket that will not be asked
        raise DialFailed.because(error.errno or 0) from error


class _Race:
    """Attempts on their way to one destination; the first whose handshake ends is the connection."""

    def __init__(  # noqa: PLR0913, PLR0917  # what differs from dial to dial
        self,
        endpoint: Endpoint,
        first: Attempt,
        watch: Watch,
        timeout: float,
        others: Iterable[Endpoint],
        stagger: float,
        more: Callable[[], Sequence[Endpoint]] | None,
        budget: SynBudget,
    ) -> None:
        self._endpoint = endpoint
        self._first = first
        self._watch = watch
        self._clock = watch.clock
        self._timeout = timeout
        self._others = deque(others)
        self._stagger = stagger
        self._more = more
        self._next_at = first.started + stagger if self._others or more else math.inf
        self._budget = budget
        self._bell = Bell()
        self._attempts: dict[int, Attempt] = {}
        self._refusal = 0  # errno of the first attempt that failed, where it was to the first endpoint
        self._started: dict[Endpoint, float] = {}
        self._failures: dict[Endpoint, DialFailed] = {}

    async def run(self, hedge: float | None, *, redial: bool) -> Upstream:
        first = self._first
        may_join = first.open is not Open.PLAIN
        hedge_at = first.started + hedge if may_join and hedge is not None else math.inf
        hedged = redialled = False
        try:
            self._enter(first, first.started + self._timeout)
            while True:
                rung = await self._bell.wait_until(min(hedge_at, self._next_at, self._due()))
                won = self._sort_out(rung)
                if won is not None:
                    upstream = self._finish(won)
                    upstream.hedged, upstream.redialled = hedged, redialled
                    return upstream
                now = self._clock()
                if may_join and first.sock.fileno() < 0:  # it has failed
                    may_join, hedge_at = False, math.inf
                    redialled = redial and self._refusal != 0 and self._join("redial")
                    if redialled and self._others:
                        self._next_at = now + self._stagger  # the refusal is not certain yet
                elif not rung and may_join and now >= hedge_at:
                    may_join, hedge_at = False, math.inf
                    hedged = self._join("hedge")
                    first.repeats = not hedged
                self._look_after(now)
                self._go_on(now)
                if not self._attempts:
                    raise self._failure()
        except BaseException:
            for attempt in self._attempts.values():
                sockopt.reset_on_close(attempt.sock)  # its server may have accepted it already
            raise
        finally:
            for attempt in list(self._attempts.values()):
                self._close(attempt)

    def _begin(self, endpoint: Endpoint, why: str) -> Attempt:
        first = self._first
        return begin(endpoint, b"", PLAIN_PLAN, self._clock, first.source, first.dials, why)

    def _join(self, why: str) -> bool:
        """Dial the first endpoint plainly, too; False where nothing is left for that: the others go on alone."""
        if not self._budget.allows(self._endpoint):
            return False
        try:
            attempt = self._begin(self._endpoint, why)
        except DialFailed as failed:
            if not self._is_tried(self._endpoint):
                self._failures[self._endpoint] = failed
            return False
        self._enter(attempt, self._first.started + self._timeout)
        return True

    def _go_on(self, now: float) -> None:
        """Dial the next address where it is time for that."""
        if self._more is not None and (now >= self._next_at or not self._attempts):
            known = [one for one in self._more() if one not in self._started]
            self._others = deque(known or self._others)
            self._next_at = now + self._stagger if self._attempts and not self._others else -math.inf
        while self._others and (now >= self._next_at or not self._attempts):
            endpoint = self._others.popleft()
            self._next_at = now + self._stagger if self._others or self._more else math.inf
            if not self._budget.allows(endpoint):
                continue
            try:
                self._enter(self._begin(endpoint, "rival"), now + self._timeout)
            except DialFailed as failed:
                self._started.setdefault(endpoint, now)
                self._failures[endpoint] = failed
                self._next_at = now

    def _enter(self, attempt: Attempt, deadline: float) -> None:
        fd = attempt.sock.fileno()
        attempt.deadline, attempt.look_at = deadline, attempt.started + _REPEATS_NOT_BEFORE
        self._attempts[fd] = attempt
        self._started.setdefault(attempt.endpoint, attempt.started)
        if not attempt.endpoint.is_unix:
            self._budget.spend(attempt.endpoint)
        self._watch.add(fd, WRITE | EDGE, partial(self._bell.ring, fd))

    def _due(self) -> float:
        """When an attempt has to be looked after."""
        return min((min(one.deadline, one.look_at) for one in self._attempts.values()), default=-math.inf)

    def _look_after(self, now: float) -> None:
        """End the attempts whose time is over, and those for which the kernel may not repeat the SYN again."""
        for attempt in list(self._attempts.values()):
            if now >= attempt.deadline:
                self._give_up(attempt)
            elif now >= attempt.look_at:
                attempt.look_at += _REPEATS_APART
                if attempt.endpoint.is_unix:
                    continue
                if sockopt.tcp_info(attempt.sock).retransmits < attempt.repeated:
                    continue  # it has not yet used the one that it was allowed
                if attempt.repeats and self._budget.allows(attempt.endpoint, len(self._others)):
                    self._budget.spend(attempt.endpoint)
                    attempt.repeated += 1
                else:
                    self._give_up(attempt)

    def _give_up(self, attempt: Attempt) -> None:
        attempt.dial.result = Reason.CONNECT_TIMEOUT
        self._close(attempt)
        if not self._is_tried(attempt.endpoint):
            self._failures[attempt.endpoint] = DialFailed(Reason.CONNECT_TIMEOUT, why=conntrack.trouble())
            self._next_at = -math.inf if self._others or self._more else math.inf

    def _is_tried(self, endpoint: Endpoint) -> bool:
        """Whether an attempt to ``endpoint`` is on its way."""
        return any(one.endpoint == endpoint for one in self._attempts.values())

    def _sort_out(self, rung: list[tuple[int, int]]) -> Attempt | None:
        """The attempt that is connected, if any; those that failed are closed."""
        for fd, events in rung:
            attempt = self._attempts.get(fd)
            if attempt is None:
                continue
            if not events & FAULT or _was_open(attempt.sock):
                del self._attempts[fd]
                self._watch.remove(fd)
                for other in self._attempts.values():
                    other.dial.result = "lost"
                return attempt
            code = sockopt.pending_error(attempt.sock)
            attempt.dial.result = DialFailed.because(code).reason
            if attempt.endpoint == self._endpoint:
                self._refusal = self._refusal or code
            self._close(attempt)
            if attempt.open is _PLAIN:
                # Without Fast Open this were the end of it, and a fast open that gets no answer costs time only.
                for other in [one for one in self._attempts.values() if one.endpoint == attempt.endpoint]:
                    self._close(other)
            if not self._is_tried(attempt.endpoint):
                self._failures[attempt.endpoint] = DialFailed.because(code)
                self._next_at = -math.inf if self._others or self._more else math.inf
        return None

    def _failure(self) -> DialFailed:
        """Why there is no connection; of several reasons the one that says most."""
        worst = min(self._failures.values(), key=lambda failed: failed.rank, default=None)
        if worst is None:
            worst = DialFailed(Reason.CONNECT_TIMEOUT, why=conntrack.trouble())
        worst.tried = dict(self._failures)
        return worst

    def _finish(self, won: Attempt) -> Upstream:
        try:
            info = None if won.endpoint.is_unix else sockopt.tcp_info(won.sock)
            upstream = _connected(
                won.endpoint, won, self._first, info, self._clock(), refused=bool(self._refusal)
            )
        except OSError as error:  # reset between the handshake and now
            won.sock.close()
            raise DialFailed.because(error.errno or 0) from error
        upstream.dialled = len(self._started)
        upstream.passed_over = {
            endpoint: (began, self._failures.get(endpoint))
            for endpoint, began in self._started.items()
            if endpoint != won.endpoint and (began <= won.started or endpoint in self._failures)
        }
        return upstream

    def _close(self, attempt: Attempt) -> None:
        fd = attempt.sock.fileno()
        self._watch.forget(fd)
        del self._attempts[fd]
        if attempt.repeated:
            with suppress(OSError):
                unused = attempt.repeated - sockopt.tcp_info(attempt.sock).retransmits
                self._budget.spend(attempt.endpoint, -max(unused, 0))
        close_dialled(attempt.sock, attempt.dial, self._clock())


def _was_open(sock: socket.socket) -> bool:
    """Whether a broken connection had got through its handshake: a server may take SYN data and reset at once.

    That is its answer and no refusal. The error stays in the socket, for whoever reads next.
    """
    return sockopt.tcp_info(sock).rtt > 0  # measured by the SYN-ACK


def _evidence(won: Attempt, first: Attempt, info: TcpInfo | None, now: float, *, refused: bool) -> Evidence:
    """What the attempt that ``won`` shows of the ``first``, which fast-opened; ``refused``: that one was."""
    if first.unavailable:
        return Evidence.UNAVAILABLE
    if won.endpoint != first.endpoint or info is None or first.open is _PLAIN:
        return Evidence.PLAIN  # another address says nothing of the one that was too slow
    if won is first:
        return read_handshake(info, first.syn_bytes, now - first.started)
    if refused:
        return Evidence.REFUSED
    if info.rtt >= _REPEATS_NOT_BEFORE and first.sock.fileno() < 0:
        return Evidence.PLAIN  # the path is so long that the first was given up before it could be answered
    return Evidence.SYN_DATA_LOST if first.syn_bytes else Evidence.OPTION_LOST


def _connected(
    endpoint: Endpoint, won: Attempt, first: Attempt, info: TcpInfo | None, now: float, *, refused: bool
) -> Upstream:
    evidence = _evidence(won, first, info, now, refused=refused)
    upstream = Upstream(
        endpoint, won.sock, won.syn_bytes, evidence, first.syn_bytes, first.started, now, info
    )
    dial = upstream.dial = won.dial
    dial.result, dial.ended, upstream.dials = "won", now, first.dials
    dial.evidence = upstream.evidence if won is first else None
    if info is not None:
        dial.acked, dial.retransmits = min(info.acked, won.syn_bytes), info.retransmits
        if not info.retransmits or evidence is Evidence.SYN_DATA_NOT_ACKED:
            dial.rtt = info.rtt
        if info.overtaken and evidence in _ANSWERED_AT_ONCE:
            upstream.evidence, upstream.overtaken = Evidence.ANSWER_DROPPED, True
    upstream.source = won.source
    if won.open is _PLAIN:
        upstream.plain = True
        upstream.repeated = first.syn_bytes
        upstream.unavailable = first.unavailable
    return upstream


def _connect(sock: socket.socket, endpoint: Endpoint) -> socket.socket:
    """Begin a handshake; raises OSError, and then the socket is closed. That it takes time is told without one."""
    try:
        if sock.family == _UNIX:
            path = "\0" + endpoint.host[1:] if endpoint.host.startswith("@") else endpoint.host
            code = sock.connect_ex(path)
        else:
            code = sock.connect_ex(sockopt.address_of(endpoint))
        if code and code != errno.EINPROGRESS:
            raise OSError(code, os.strerror(code))
    except OSError:  # also of the address itself
        sock.close()
        raise
    return sock
