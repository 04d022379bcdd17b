"""Log lines on their way out: one write for many of them, and no session waits for whoever reads them.

Session lines are collected for some milliseconds, and made when they are written: many in a row take a third of the
time that each would take alone, between other work that pushes all this out of the processor's caches. A write to a
pipe is no longer than the kernel passes on in one piece (``PIPE_BUF``, pipe(7)), so that lines of several workers never
mix. Where the reader has fallen behind, lines wait here; where it stays behind, the newest are lost, and how many is
said as soon as it goes on.
"""

from __future__ import annotations

import os
import select
import stat
from collections import deque
from collections.abc import Callable
from typing import BinaryIO

import trio

_DELAY = 0.01  # seconds that a session line waits for others
_AGAIN = 0.05  # seconds between two attempts while the reader is behind
_LAST = 1.0  # seconds that the reader has in the end
_ENOUGH = 65536  # bytes that are written at a time
_MANY = 128  # lines that wait for nobody
_MOST = 4 * 1024 * 1024  # bytes kept for a reader that has fallen behind
_AT_ONCE = select.PIPE_BUF


class Lines:
    """The lines of one stream, in their order. The methods are those that structlog calls, and `later`."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._late: list[Callable[[], bytes]] = []  # lines to be made, behind those that wait
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._lost = 0
        self._wanted: trio.Event | None = None  # where somebody writes what was said `later`
        self.takes_sessions = False  # they are wanted, as JSON
        try:
            self._fd = out.fileno()
            is_file = stat.S_ISREG(os.fstat(self._fd).st_mode)
        except OSError:  # it is none of the kernel's
            self._fd, is_file = -1, True
        self._poll: select.poll | None = None
        if not is_file:
            self._poll = select.poll()
            self._poll.register(self._fd, select.POLLOUT)

    def later(self, make: Callable[[], bytes]) -> None:
        """Write the line that ``make`` gives soon, together with others."""
        self._late.append(make)
        if self._wanted is None or len(self._late) >= _MANY:
            self.flush()
        elif len(self._late) == 1:
            self._wanted.set()

    def msg(self, line: bytes) -> None:
        """Write ``line`` now, behind those that wait."""
        self._make()
        self._add(line)
        if not self.flush() and self._wanted is not None:
            self._wanted.set()

    debug = info = warning = error = critical = exception = msg

    def _add(self, line: bytes) -> None:
        if self._size > _MOST:
            self._lost += 1
            return
        self._waiting.append(line)
        self._size += len(line) + 1

    def _make(self) -> None:
        late, self._late = self._late, []
        for make in late:
            try:
                line = make()
            except Exception:  # noqa: BLE001  # a mistake of ours in one line costs that line
                self._lost += 1
            else:
                self._add(line)

    def flush(self) -> bool:
        """Write what the kernel takes without a wait; whether that was all."""
        if self._late:
            self._make()
        waiting = self._waiting
        while waiting:
            if self._poll is not None and not self._poll.poll(0):
                return False
            piece = [waiting.popleft()]
            size = len(piece[0]) + 1
            most = _AT_ONCE if self._poll is not None else _ENOUGH
            while waiting and size + len(waiting[0]) < most:
                size += len(waiting[0]) + 1
                piece.append(waiting.popleft())
            self._size -= size
            self._write(b"\n".join(piece) + b"\n")
        return True

    def _write(self, data: bytes) -> None:
        if self._fd < 0:
            self._out.write(data)
            self._out.flush()
            return
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:  # somebody who has this file too does not want to wait for it
                select.select((), (self._fd,), (), _AGAIN)
            except OSError:  # nobody reads any more
                return

    async def keep_writing(self, lost: Callable[[int], None]) -> None:
        """Write what is said `later`, until cancelled; ``lost`` is told how many lines were."""
        self._wanted = trio.Event()
        try:
            while True:
                await self._wanted.wait()
                await trio.sleep(_DELAY)
                while self._late or self._waiting:  # who is busy is not woken for each first line
                    while not self.flush():  # noqa: ASYNC110  # a reader cannot ring
                        await trio.sleep(_AGAIN)
                    if self._lost:
                        number, self._lost = self._lost, 0
                        lost(number)
                    await trio.sleep(_DELAY)
                self._wanted = trio.Event()
        finally:
            self._wanted = None
            self.finish()

    def finish(self) -> None:
        """Write all that waits, for as long as a reader may take at the end."""
        for _ in range(round(_LAST / _AGAIN)):
            if self.flush():
                return
            select.select((), (self._fd,), (), _AGAIN)
