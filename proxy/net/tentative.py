"""A session of a tunnel before its near side has settled on a connection: another attempt may still take it over.

The answer is passed on at once, but only looked at (``MSG_PEEK``): until the near side is settled it stays where it is,
in the upstream's socket, so an attempt that comes later gets it from its first byte. The socket's buffer is the bound.
"""

from __future__ import annotations

import errno
import socket
from contextlib import suppress

from proxy.core.reader import Malformed
from proxy.core.tunnel import ACCEPTED, COMMITTED
from proxy.net import sockopt
from proxy.net.watch import EDGE, READ, WRITE, Bell, Watch

_MOST = 65536  # bytes of an answer that are passed on before that


class Abandoned(Exception):
    """The near side did not come back to a session of its own."""


class Tentative:
    """One such session; ``downstream`` and ``said`` (bytes that have come on it) are those of its latest attempt."""

    def __init__(self, downstream: socket.socket, said: bytes, watch: Watch, *, final: bool) -> None:
        """``final``: there is nothing to wait for, unless another attempt succeeds it."""
        self.downstream = downstream
        self.said = said
        self.passed = 0  # bytes of the answer that have gone down
        self.first_byte: float | None = None
        self.settled = final
        self._watch = watch
        self._bell = Bell()
        self._former: list[socket.socket] = []
        self._watched: set[int] = set()
        self._upstream: socket.socket | None = None
        self._gone = False  # its latest connection is
        self._accept()

    def succeed(self, sock: socket.socket, said: bytes, *, final: bool) -> None:
        """A later attempt has come: what went down before did not matter."""
        self._former.append(self.downstream)
        self._ignore(self.downstream)
        self.downstream, self.said, self.settled = sock, said, final
        self.passed, self._gone = 0, False
        self._accept()
        if self._upstream is not None:
            self.close()
            self._listen(sock, READ | WRITE)
            self._bell.ring(sock.fileno(), 0)

    async def settle(self, upstream: socket.socket, grace: float) -> None:
        """Pass the answer on until the near side is settled; then what was passed is taken out of ``upstream``.

        Raises `Abandoned` where that does not happen within ``grace`` seconds, `Malformed`, and OSError where the
        upstream broke.
        """
        self._upstream = upstream
        deadline = self._watch.clock() + grace
        try:
            self._listen(upstream, READ)
            self._listen(self.downstream, READ | WRITE)
            while not self._hear():
                self._pass(upstream)
                if not await self._bell.wait_until(deadline):
                    raise Abandoned
        finally:
            for fd in self._watched:
                self._watch.remove(fd)
            self._watched.clear()
            self.close()
        left = self.passed
        while left:
            taken = len(upstream.recv(left))
            if not taken:
                raise ConnectionResetError(errno.ECONNRESET, "what was there is gone")
            left -= taken

    def close(self) -> None:
        """Let go of the attempts that were succeeded."""
        for sock in self._former:
            sockopt.reset_on_close(sock)
            sock.close()
        self._former.clear()

    def _accept(self) -> None:
        if not self.settled:
            with suppress(OSError):  # if it is gone, another attempt may come
                self.downstream.send(ACCEPTED, socket.MSG_NOSIGNAL)

    def _hear(self) -> bool:
        """Whether the near side has settled on this connection."""
        if not (self.settled or self.said or self._gone):
            try:
                self.said = self.downstream.recv(len(COMMITTED))
                self._gone = not self.said
            except BlockingIOError:
                pass
            except OSError:
                self._gone = True
        if not self.settled and self.said:
            if not self.said.startswith(COMMITTED):
                raise Malformed("no word of the near side's where there should be one")
            self.said, self.settled = self.said[len(COMMITTED) :], True
        return self.settled

    def _pass(self, upstream: socket.socket) -> None:
        """As much of the answer as is there and is taken; its end comes when the near side is settled.

        No kernel sends a FIN before the handshake is over, and then the near side's word is there as well.
        """
        if self._gone:
            return
        with suppress(BlockingIOError):
            answer = upstream.recv(_MOST, socket.MSG_PEEK)
            rest = answer[self.passed :]
            if not rest:
                return
            if self.first_byte is None:
                self.first_byte = self._watch.clock()
            try:
                self.passed += self.downstream.send(rest, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                self._gone = True

    def _listen(self, sock: socket.socket, events: int) -> None:
        fd = sock.fileno()
        self._watch.add(fd, events | EDGE, lambda events: self._bell.ring(fd, events))
        self._watched.add(fd)

    def _ignore(self, sock: socket.socket) -> None:
        fd = sock.fileno()
        if fd in self._watched:
            self._watched.remove(fd)
            self._watch.remove(fd)
