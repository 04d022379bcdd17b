"""Move bytes both ways until both sides have ended: half-closes kept, resets passed on, nothing held but what is due.

One task, one wait. Every wake reads into one buffer that all sessions of the process share, and writes from it at
once; only what the other side would not take is kept, so an idle session holds no buffer at all.

Descriptors are watched edge-triggered (epoll(7)): a read shorter than was asked for has emptied the socket, and the
next byte wakes us again.
"""

from __future__ import annotations

import errno
import socket
import struct
import termios
from fcntl import ioctl
from typing import Protocol

import trio

from proxy.core.outcomes import EndedBy, Reason
from proxy.net import sockopt
from proxy.net.flow import Flow
from proxy.net.watch import BROKEN, EDGE, HUNG_UP, READ, WRITE, Watch

_EDGE_READ = READ | EDGE
_EDGE_BOTH = READ | WRITE | EDGE
_READABLE = READ | BROKEN
_WRITABLE = WRITE | BROKEN
_LAST_WORDS = 1.0  # how long bytes that are on their way may hold up a RST
_VANISHED = frozenset({errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN})


class Heard(Protocol):
    """Told once, who of the two spoke first."""

    def __call__(self, *, downstream: bool) -> None: ...


class Relay:
    """Two flows, and how they ended."""

    __slots__ = ("_buffer", "_down_fd", "_heard", "_up_fd", "_view", "_watch", "_writes", "down", "ended_by", "first_byte", "reason", "up")

    def __init__(
        self,
        downstream: socket.socket,
        upstream: socket.socket,
        watch: Watch,
        buffer: bytearray,
        heard: Heard | None = None,
    ) -> None:
        self.up = Flow(downstream, upstream)  # what goes upstream
        self.down = Flow(upstream, downstream)  # what comes down
        self.first_byte: float | None = None  # when the upstream first said something (trio's clock)
        self.ended_by: EndedBy | None = None
        self.reason = Reason.CLOSED
        self._heard = heard  # told who spoke first
        self._watch = watch
        self._writes = 0  # which descriptors are watched for writing: 1 down, 2 up
        self._buffer = buffer
        self._view = memoryview(buffer)
        self._down_fd = downstream.fileno()
        self._up_fd = upstream.fileno()

    async def run(self, early: bytes, *, downstream_ended: bool) -> None:
        """Relay until both directions have ended. ``early`` goes upstream first.

        Raises `trio.ClosedResourceError` when the session was interrupted from outside (its time is up).
        """
        up, down, watch = self.up, self.down, self._watch
        try:
            watch.add(self._down_fd, _EDGE_READ)
            watch.add(self._up_fd, _EDGE_READ)
            up.put(early)
            if downstream_ended:
                up.end()
            while True:
                self._settle(up, down)
                if up.finished and down.finished:
                    break
                for fd, event in await watch.wait():
                    self._note(fd, event)
                while self._pump(up, down):
                    self._settle(up, down)
                    await trio.lowlevel.checkpoint()
            await self._pass_on_reset(up, down)
        finally:
            up.close()
            down.close()

    def _note(self, fd: int, event: int) -> None:
        coming, going = (self.up, self.down) if fd == self._down_fd else (self.down, self.up)
        if event & _READABLE:
            coming.readable = not coming.eof
            if event & HUNG_UP:
                coming.hung_up = True
            if self._heard is not None:
                self._heard(downstream=coming is self.up)
                self._heard = None
            if coming is self.down and self.first_byte is None:
                self.first_byte = trio.current_time()
        if event & _WRITABLE:
            going.blocked = False

    def _pump(self, up: Flow, down: Flow) -> bool:
        more = False
        if (up.readable or up.pending or up.eof) and not up.blocked:
            more = up.pump(self._buffer, self._view)
        if (down.readable or down.pending or down.eof) and not down.blocked:
            more = down.pump(self._buffer, self._view) or more
        return more

    def _settle(self, up: Flow, down: Flow) -> None:
        """After moving: watch for room where there was none, and draw the consequences of an end."""
        if up.blocked and not self._writes & 2:
            self._writes |= 2
            self._watch.change(self._up_fd, _EDGE_BOTH)
        if down.blocked and not self._writes & 1:
            self._writes |= 1
            self._watch.change(self._down_fd, _EDGE_BOTH)
        if up.eof or up.sink_fault:
            self._ended(up, down, EndedBy.DOWNSTREAM, EndedBy.UPSTREAM)
        if down.eof or down.sink_fault:
            self._ended(down, up, EndedBy.UPSTREAM, EndedBy.DOWNSTREAM)

    def _ended(self, flow: Flow, other: Flow, source: EndedBy, sink: EndedBy) -> None:
        """Who ended it: the first to say so, unless something broke later."""
        if flow.source_fault:
            self._blame(source, flow.source_fault)
            if not other.finished:
                other.give_up()  # its sink is the source that broke
        elif flow.sink_fault:
            # What the broken side had said before is still there to be read: the other flow goes on to its end.
            self._blame(sink, flow.sink_fault)
        elif self.ended_by is None:
            self.ended_by = source

    def _blame(self, side: EndedBy, fault: int) -> None:
        if self.reason is Reason.CLOSED:
            self.ended_by = side
            self.reason = Reason.VANISHED if fault in _VANISHED else Reason.RESET

    async def _pass_on_reset(self, up: Flow, down: Flow) -> None:
        """The side that did not break learns it by a RST, after the bytes that are on their way to it."""
        if self.reason is Reason.CLOSED:
            return
        survivor = down.sink if self.ended_by is EndedBy.UPSTREAM else up.sink
        pause, deadline = 0.001, trio.current_time() + _LAST_WORDS
        while _unsent(survivor) and trio.current_time() < deadline:
            await trio.sleep(pause)
            pause *= 2
        sockopt.reset_on_close(survivor)


def _unsent(sock: socket.socket) -> int:
    """Bytes the peer has not acknowledged (``SIOCOUTQ``, tcp(7))."""
    try:
        return int(struct.unpack("i", ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0])
    except OSError:
        return 0
