"""One direction of a relay: read what is there, write what is taken, keep only the difference.

A direction that proves to be bulk moves through a pipe with splice(2), and its bytes never enter this process.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from fcntl import F_SETPIPE_SZ, fcntl

from proxy.net import sockopt
from proxy.net.sheath import Sheathed

BUFFER = 65536
_TURN = 16  # reads in a row before other sessions get a turn
_BULK = 512 * 1024  # bytes after which a direction whose reads fill the buffer is spliced
_PIPE = 1024 * 1024  # what one splice may move; an unprivileged user may have pipes of this size (pipe(7))
_SEND = int(socket.MSG_NOSIGNAL)
_SEND_LAST = int(socket.MSG_NOSIGNAL | socket.MSG_MORE)
_SPLICE = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_NOTHING = memoryview(b"")


class Flow:
    """Bytes on their way from ``source`` to ``sink``. Every fault is kept as an errno, none is raised."""

    __slots__ = (
        "_in_pipe", "_pipe", "at_once", "blocked", "doomed", "eof", "fin", "finished", "follows_others",
        "hung_up", "last", "moved", "pending", "readable", "sink", "sink_fault", "source", "source_fault", "spliced",
        "urgent",
    )  # fmt: skip

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.moved = 0  # bytes the sink's kernel has taken
        self.pending = _NOTHING  # read, and not yet taken
        self.readable = False  # the source may have something for us
        self.hung_up = False  # the source's FIN or RST has come, somewhere behind what is still to be read
        self.fin = False  # a FIN, to be exact
        self.at_once = True  # the sink does not hold back small writes (`TCP_NODELAY`)
        self.follows_others = False  # something was written to the sink that is not counted in ``moved``
        self.urgent = (
            False  # there was urgent data: reads may stop short at its mark, and splice(2) never passes it
        )
        self.blocked = False  # the sink's kernel is full
        self.eof = False  # all that will ever come has been read
        self.finished = False  # and the sink knows
        self.last = False  # the other direction has ended already
        self.source_fault = self.sink_fault = 0
        self.doomed = 0  # errno: the source broke when it was written to, and what is there to be read is all
        self.spliced = False  # it has been tried, and there may be a pipe
        self._pipe: tuple[int, int] | None = None
        self._in_pipe = 0

    def held(self) -> int:
        """Bytes read and not yet written; never more than the buffer or the pipe holds."""
        return len(self.pending) + self._in_pipe

    def put(self, data: bytes) -> None:
        """Send bytes that were read before the relay began."""
        if data:
            self.pending = memoryview(data)
            self._flush()

    def pump(self, buffer: memoryview) -> bool:
        """Move what can be moved now. True: there may be more at once, but others should have a turn."""
        if self.finished or ((self.pending or self._in_pipe) and not self._flush()):
            return False
        for _ in range(_TURN):
            if not self.readable:
                return False
            if self._pipe is not None and not self.urgent:
                going_on = self._splice(self._pipe)
            else:
                going_on = self._copy(buffer)
            if not going_on:
                return False
        return True

    def end(self, fault: int = 0) -> None:
        """The source has ended, or broke with ``fault``: tell the sink once it has everything."""
        self.eof = True
        self.readable = False
        if fault:
            self.source_fault = self.source_fault or fault
        if self.pending or self._in_pipe or self.finished:
            return
        self.finished = True
        if not (self.source_fault or self.last):  # after the last end both are closed anyway
            try:
                self.sink.shutdown(socket.SHUT_WR)
            except OSError as error:
                if error.errno != errno.ENOTCONN:
                    self.sink_fault = error.errno or 0

    def give_up(self, fault: int = 0) -> None:
        """The sink takes nothing more."""
        self.sink_fault = self.sink_fault or fault
        self.pending = _NOTHING
        self.finished = True
        self.close()

    def close(self) -> None:
        """Give the pipe back."""
        if self._pipe is not None:
            for fd in self._pipe:
                os.close(fd)
            self._pipe = None
            self._in_pipe = 0

    def _copy(self, buffer: memoryview) -> bool:
        """One read and one write; whether another read may bring more."""
        try:
            count = self.source.recv_into(buffer)
        except BlockingIOError:
            self._emptied()
            return False
        except OSError as error:
            self.end(error.errno or errno.EIO)
            return False
        if not count:
            self.end()
            return False
        emptied = count < BUFFER and not self.urgent
        # The last bytes wait for the end that comes right behind them: both fit into one segment.
        if not self._write(buffer[:count], _SEND_LAST if emptied and self.fin else _SEND):
            return False
        if emptied:
            # The socket is empty. An end behind what we read has been told by now or comes with its own event.
            if self.fin:
                self.end()
            elif not (self.hung_up or self.doomed):
                self.readable = False
            return self.readable
        if not self.spliced and self.moved >= _BULK and not self.urgent:
            self._open_pipe()
        return True

    def _emptied(self) -> None:
        """There is nothing to be read now."""
        self.readable = False
        if self.doomed:
            self.end(self.doomed)

    def _write(self, data: memoryview, flags: int = _SEND) -> bool:
        """Write what was just read and keep what is not taken; whether all was."""
        if not self.at_once and (self.moved or self.follows_others):
            self._send_at_once()
        try:
            taken = self.sink.send(data, flags)
        except BlockingIOError:
            taken = 0
        except OSError as error:
            self.give_up(error.errno or errno.EIO)
            return False
        self.moved += taken
        if taken == len(data):
            return True
        self.pending = memoryview(bytes(data[taken:]))
        self.blocked = True
        return False

    def _send_at_once(self) -> None:
        """Set ``TCP_NODELAY``: from the second write on the kernel could hold one back until the first is acked."""
        self.at_once = True
        with suppress(OSError):
            sockopt.send_at_once(self.sink)

    def _flush(self) -> bool:
        """Write what is held; whether all of it went."""
        if not self.at_once and (self.moved or self.follows_others):
            self._send_at_once()
        while self.pending:
            try:
                taken = self.sink.send(self.pending, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self.blocked = True
                return False
            except OSError as error:
                self.give_up(error.errno or errno.EIO)
                return False
            self.moved += taken
            self.pending = self.pending[taken:]
        if self._in_pipe and self._pipe is not None and not self._drain(self._pipe[0]):
            return False
        if self.eof:
            self.end()
        return True

    def _open_pipe(self) -> None:
        self.spliced = True
        if isinstance(self.source, Sheathed) or isinstance(self.sink, Sheathed):
            return
        try:
            self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # no descriptors to spare: go on by copying
            return
        with suppress(OSError):  # the user's allowance for pipes may be used up: 64 KiB will do
            fcntl(self._pipe[1], F_SETPIPE_SZ, _PIPE)

    def _splice(self, pipe: tuple[int, int]) -> bool:
        """One pipeful. The pipe is empty when this begins, so EAGAIN speaks of the source."""
        try:
            count = os.splice(self.source.fileno(), pipe[1], _PIPE, flags=_SPLICE)
        except BlockingIOError:
            self._emptied()
            return False
        except OSError as error:
            self.end(error.errno or errno.EIO)
            return False
        if not count:
            self.urgent = True  # the end, or the mark of urgent data: a read will tell
            return True
        self._in_pipe = count
        return self._drain(pipe[0])

    def _drain(self, out: int) -> bool:
        while self._in_pipe:
            try:
                count = os.splice(out, self.sink.fileno(), self._in_pipe, flags=_SPLICE)
            except BlockingIOError:
                self.blocked = True
                return False
            except OSError as error:
                self.give_up(error.errno or errno.EIO)
                return False
            self._in_pipe -= count
            self.moved += count
        return True
