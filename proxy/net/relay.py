"""Move bytes both ways until both sides have ended: half-closes kept, resets passed on, nothing held but what is due.

A relay needs no task: whatever happens on one of the two sockets is dealt with where it is noticed, in the worker's
`Watch`. Every turn reads into one buffer that all sessions share, and writes from it at once; only what the other
side would not take is kept, so an idle session holds no buffer at all.

Descriptors are watched edge-triggered (epoll(7)): a read shorter than was asked for has emptied the socket, and the
next byte is told again.
"""

from __future__ import annotations

import errno
import socket
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from fcntl import ioctl

import trio

from proxy.core.errnos import Call, meaning
from proxy.core.outcomes import EndedBy, Reason
from proxy.net import sockopt
from proxy.net.flow import Flow
from proxy.net.watch import BROKEN, EDGE, FAULT, HUNG_UP, READ, URGENT, WRITE, Watch

_EDGE_READ = READ | EDGE
_EDGE_BOTH = READ | WRITE | EDGE
_READABLE = READ | BROKEN
_WRITABLE = WRITE | BROKEN
_OUTQ_NOT_SENT = 0x894B  # SIOCOUTQNSD, include/uapi/linux/sockios.h
_DELIVERY = 0.005  # seconds more than two round trips
_LAST_WORDS = 1.0  # how long bytes that are on their way may hold up a RST
# Bound once: asking an enum for a member costs as much as a call (Python 3.11).
_DOWNSTREAM, _UPSTREAM = EndedBy.DOWNSTREAM, EndedBy.UPSTREAM
_CLOSED = Reason.CLOSED


class Relay:
    """Two flows, and how they ended."""

    __slots__ = (
        "_again", "_buffer", "_down_fd", "_dropped", "_ended", "_heard", "_up_fd", "_watch", "_writes", "down",
        "ended_by", "fault", "first_byte", "reason", "up",
    )  # fmt: skip

    def __init__(
        self,
        downstream: socket.socket,
        upstream: socket.socket,
        watch: Watch,
        buffer: memoryview,
        ended: Callable[[], None],
        heard: Callable[[bool], None] | None = None,
    ) -> None:
        """``ended`` is called once, when all is over; ``heard`` once with who spoke first (True: the downstream)."""
        self.up = Flow(downstream, upstream)  # what goes upstream
        self.down = Flow(upstream, downstream)  # what comes down
        self._ended: Callable[[], None] | None = ended
        self._heard = heard
        self._watch = watch
        self._buffer = buffer
        self._down_fd = downstream.fileno()
        self._up_fd = upstream.fileno()
        self._writes = 0  # which descriptors are watched for writing: 1 down, 2 up
        self._dropped = False
        self._again = False  # another turn is due
        self.first_byte: float | None = None  # when the upstream first said something
        self.ended_by: EndedBy | None = None
        self.reason = _CLOSED
        self.fault: Exception | None = None  # a mistake of ours

    def start(self, early: bytes, downstream_ended: bool) -> None:
        """Begin; ``early`` goes upstream first. ``ended`` may be called before this returns."""
        up = self.up
        up.at_once = False  # the downstream's socket has it from its listener
        if early:
            up.put(early)
        if downstream_ended:
            up.end()
        self._watch.add(self._down_fd, _EDGE_READ, self._on_downstream)
        self._watch.add(self._up_fd, _EDGE_READ, self._on_upstream)
        if (up.eof or up.blocked or up.sink_fault) and self._settle():
            self.stop()
        elif self.down.doomed:
            self._turn()

    def stop(self) -> None:
        """It is over: watch no more, and say so. The sockets stay open."""
        ended = self._ended
        self.drop()
        if ended is not None:
            ended()

    def drop(self) -> None:
        """Watch no more, and say nothing."""
        if self._dropped:
            return
        self._dropped = True
        self._ended = None
        self._watch.forget(self._down_fd, self._up_fd)
        if self.up.spliced or self.down.spliced:
            self.up.close()
            self.down.close()

    def _on_downstream(self, events: int) -> None:
        if events & FAULT and self.up.eof:
            self._broken_after_its_end(self.down)
        if events & _READABLE:
            self.up.readable = not self.up.eof
            if events & HUNG_UP:
                self.up.hung_up, self.up.fin = True, not events & BROKEN
            if events & URGENT:
                self.up.urgent = True
            if self._heard is not None:
                self._heard(True)
                self._heard = None
                if self._dropped:
                    return
        if events & _WRITABLE:
            self.down.blocked = False
        self._turn()

    def _on_upstream(self, events: int) -> None:
        if events & FAULT and self.down.eof:
            self._broken_after_its_end(self.up)
        if events & _READABLE:
            self.down.readable = not self.down.eof
            if events & HUNG_UP:
                self.down.hung_up, self.down.fin = True, not events & BROKEN
            if events & URGENT:
                self.down.urgent = True
            if self.first_byte is None and (not events & HUNG_UP or sockopt.unread(self.down.source)):
                self.first_byte = self._watch.clock()
                if self._heard is not None:
                    self._heard(False)
                    self._heard = None
        if events & _WRITABLE:
            self.up.blocked = False
        self._turn()

    @staticmethod
    def _broken_after_its_end(flow: Flow) -> None:
        """The sink of ``flow`` has sent a FIN before, so no read tells that its connection is broken now."""
        if not flow.finished:
            flow.give_up(sockopt.pending_error(flow.sink) or errno.ECONNRESET)

    def _turn(self) -> None:
        """Move what can be moved, and draw the consequences."""
        up, down = self.up, self.down
        more = False
        try:
            if not up.blocked and (up.readable or up.pending or (up.eof and not up.finished)):
                more = up.pump(self._buffer)
            if not down.blocked and (down.readable or down.pending or (down.eof and not down.finished)):
                more = down.pump(self._buffer) or more
            quiet = not (up.eof or down.eof or up.blocked or down.blocked or up.sink_fault or down.sink_fault)
            ended = False if quiet else self._settle()
        except Exception as fault:  # noqa: BLE001  # a mistake of ours ends this session, not the worker
            self.fault = fault
            ended = True
        if ended:
            self.stop()
        elif more:
            self._turn_later()

    def _turn_later(self) -> None:
        if not self._again:
            self._again = True
            self._watch.again(self._next_turn)

    def _next_turn(self) -> None:
        self._again = False
        if self._ended is not None:  # else it ended while this turn was waiting
            self._turn()

    def _settle(self) -> bool:
        """Watch for room where there was none, see who ended what; whether all has ended."""
        up, down = self.up, self.down
        if up.blocked and not self._writes & 2:
            self._writes |= 2
            self._watch.change(self._up_fd, _EDGE_BOTH)
        if down.blocked and not self._writes & 1:
            self._writes |= 1
            self._watch.change(self._down_fd, _EDGE_BOTH)
        if up.eof or up.sink_fault:
            down.last = up.finished
            if up.source_fault or up.sink_fault:
                self._conclude(up, down, _DOWNSTREAM, _UPSTREAM)
            elif self.ended_by is None:
                self.ended_by = _DOWNSTREAM
        if down.eof or down.sink_fault:
            up.last = down.finished
            if down.source_fault or down.sink_fault:
                self._conclude(down, up, _UPSTREAM, _DOWNSTREAM)
            elif self.ended_by is None:
                self.ended_by = _UPSTREAM
        return up.finished and down.finished

    def _conclude(self, flow: Flow, other: Flow, source: EndedBy, sink: EndedBy) -> None:
        """Something broke: that is who ended it, and why."""
        if flow.source_fault:
            self._blame(source, flow.source_fault)
            if not other.finished:
                other.give_up()  # its sink is the source that broke
        else:
            # What the broken side had said before is still there to be read: the other flow goes on to its end.
            self._blame(sink, flow.sink_fault)
            if not (other.doomed or other.eof or _may_go_on(flow)):
                other.doomed, other.readable = flow.sink_fault, True
                self._turn_later()

    def _blame(self, side: EndedBy, fault: int) -> None:
        if self.reason is _CLOSED:
            self.ended_by = side
            self.reason = meaning(Call.RELAY, fault)

    def survivor(self) -> socket.socket | None:
        """After a reset: the side that does not know yet."""
        if self.reason is _CLOSED:
            return None
        return self.down.sink if self.ended_by is _UPSTREAM else self.up.sink


def _may_go_on(flow: Flow) -> bool:
    """Whether a sink that takes no more may have more to say: the reader of a unix socket may close that half alone."""
    return flow.sink_fault == errno.EPIPE and flow.sink.family == socket.AF_UNIX


async def close_with_reset(sock: socket.socket) -> None:
    """Close with a RST, after the bytes that are on their way, or after a second.

    They are there a round trip after they were sent; that a peer takes its time to acknowledge them is not waited for.
    """
    try:
        pause, now = 0.001, trio.current_time()
        deadline, there_at = now + _LAST_WORDS, None
        while unsent(sock) and now < deadline:
            if there_at is None and not unsent(sock, _OUTQ_NOT_SENT):
                with suppress(OSError):  # a unix socket has no round trip
                    there_at = now + 2 * sockopt.tcp_info(sock).rtt + _DELIVERY
            if there_at is not None and now >= there_at:
                break
            await trio.sleep(pause)
            pause, now = min(2 * pause, _DELIVERY), trio.current_time()
    finally:
        sockopt.reset_on_close(sock)
        sock.close()


def unsent(sock: socket.socket, request: int = termios.TIOCOUTQ) -> int:
    """Bytes the peer has not acknowledged (``SIOCOUTQ``, tcp(7)), or another count that ioctl(2) gives."""
    try:
        return int(struct.unpack("i", ioctl(sock.fileno(), request, b"\0\0\0\0"))[0])
    except OSError:
        return 0
