"""Log lines on their way out: written by a thread, so that no reader, disk or terminal can make the event loop wait.

Session lines are collected for some milliseconds, and made when they are written: many in a row take a third of the
time that each would take alone, between other work that pushes all this out of the processor's caches. A write to
anything but a file is at most ``PIPE_BUF`` bytes, which the kernel passes on in one piece (pipe(7)), and so is a line:
lines of several workers never mix.

Lines that cannot be written yet (the reader has fallen behind, the disk is full) wait in memory, up to 4 MiB; beyond
that the newest are lost. Lines that cannot be written at all (the reader has gone, the terminal is closed) are lost at
once. Lost lines are counted, and the count is logged as soon as a line can be written again.

The file descriptor is shared with other processes, so its flags (O_NONBLOCK) are never changed.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import threading
from collections import deque
from collections.abc import Callable
from typing import BinaryIO

import trio

_DELAY = 0.01  # seconds that a session line waits for others
_AGAIN = 0.05  # seconds between two attempts while nothing can be written
_LAST = 1.0  # seconds that the reader has in the end
_ENOUGH = 65536  # bytes that are written to a file at a time
_MANY = 128  # lines that are collected at most
_MOST = 4 * 1024 * 1024  # bytes that wait to be written
_AT_ONCE = select.PIPE_BUF
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})  # errors that may pass: the lines wait
LONGEST = select.PIPE_BUF - 1  # bytes of a line, without its end
_MARK = "… (cut)".encode()


class Lines:
    """The lines of one stream, in their order. The methods are those that structlog calls, and `later`.

    `lost` counts the lines that were lost. Until `start` is called lines are written by the thread that logs them, as
    far as the kernel takes them without a wait.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lock = threading.Condition()
        self._late: list[Callable[[], bytes]] = []  # lines to be made, behind those that wait
        self._waiting: deque[bytes] = deque()
        self._size = 0  # bytes in `_waiting`
        self._rest = b""  # of what the kernel has taken the beginning of; the writer's own
        self._works = self._full = False  # how the last write went
        self._untold = 0  # lines lost that no line has told of
        self.lost = 0
        self._told: Callable[[int], None] | None = None
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._over = False  # what cannot be written now is not tried again
        self._wanted: trio.Event | None = None  # set for the task that writes what is said `later`
        self.takes_sessions = False  # session lines are wanted, as JSON
        try:
            self._fd = out.fileno()
            is_file = stat.S_ISREG(os.fstat(self._fd).st_mode)
        except OSError:  # not a file of the kernel's
            self._fd, is_file = -1, True
        self._poll: select.poll | None = None
        if not is_file:
            self._poll = select.poll()
            self._poll.register(self._fd, select.POLLOUT)

    def start(self, lost: Callable[[int], None]) -> None:
        """Write in a thread from now on; ``lost`` is called there with the number of lines that were lost.

        To be called when the process has dropped its privileges: capabilities belong to a thread.
        """
        self._told = lost
        if self._thread is None:
            self._ending.clear()
            self._over = False
            self._thread = threading.Thread(target=self._keep_writing, name="log", daemon=True)
            self._thread.start()

    def later(self, make: Callable[[], bytes]) -> None:
        """Write the line that ``make`` returns soon, together with others."""
        with self._lock:
            self._late.append(make)
            number = len(self._late)
        if self._wanted is None or number >= _MANY:
            self.flush()
        elif number == 1:
            self._wanted.set()

    def msg(self, line: bytes) -> None:
        """Write ``line`` now, behind those that wait."""
        if threading.current_thread() is not self._thread:
            self._make()
        self._add(line)
        if self._thread is None:
            self._write_now()

    debug = info = warning = error = critical = exception = msg

    def flush(self) -> bool:
        """Make the lines that were said `later`, and write what the kernel takes without a wait; whether it was all."""
        self._make()
        return self._write_now() if self._thread is None else not self._waiting

    async def keep_writing(self) -> None:
        """Write what is said `later`, until cancelled."""
        self._wanted = trio.Event()
        try:
            while True:
                await self._wanted.wait()
                await trio.sleep(_DELAY)
                while (
                    self._late
                ):  # while lines keep coming, the first of them does not have to wake this task
                    self.flush()
                    await trio.sleep(_DELAY)
                self._wanted = trio.Event()
        finally:
            self._wanted = None
            self.flush()

    def finish(self) -> None:
        """Write all that waits, for as long as a reader may take at the end, and end the thread."""
        self._make()
        if self._thread is None:
            for _ in range(round(_LAST / _AGAIN)):
                if self._write_now():
                    return
                self._pause()
        elif not self._ending.is_set():
            with self._lock:
                self._ending.set()
                self._lock.notify()
            self._thread.join(_LAST)
            self._over = True
            self._thread.join(2 * _AGAIN)
            if not self._thread.is_alive():
                self._thread = None

    def _make(self) -> None:
        with self._lock:
            late, self._late = self._late, []
        for make in late:
            try:
                line = make()
            except Exception:  # noqa: BLE001  # a fault in one line costs that line
                self._lose(1)
            else:
                self._add(line)

    def _add(self, line: bytes) -> None:
        pieces = [line] if len(line) <= LONGEST else _cut(line)
        with self._lock:
            for piece in pieces:
                if self._size > _MOST:
                    self._lose(1)
                    return
                self._waiting.append(piece)
                self._size += len(piece) + 1
            self._lock.notify()

    def _lose(self, lines: int) -> None:
        with self._lock:
            self.lost += lines
            self._untold += lines

    def _piece(self) -> bytes:
        """What is written next, taken from those that wait. With the lock, and with something waiting."""
        waiting = self._waiting
        piece = [waiting.popleft()]
        size = len(piece[0]) + 1
        most = _AT_ONCE if self._poll is not None else _ENOUGH
        while waiting and size + len(waiting[0]) < most:
            size += len(waiting[0]) + 1
            piece.append(waiting.popleft())
        self._size -= size
        return b"\n".join(piece) + b"\n"

    def _write_now(self) -> bool:
        """In the thread that logs: write what the kernel takes without a wait; whether it was all."""
        with self._lock:
            while self._rest or self._waiting:
                if self._poll is not None and not self._poll.poll(0):
                    return False
                if not self._write(self._rest or self._piece()):
                    return False
        return True

    def _keep_writing(self) -> None:
        """The thread: write until told to end, and then until nothing waits."""
        while True:
            with self._lock:
                while not (self._rest or self._waiting):
                    if self._ending.is_set():
                        return
                    self._lock.wait()
                data = self._rest or self._piece()
            if self._write(data):
                self._tell_losses()
            elif self._over:
                return
            else:
                self._pause()

    def _write(self, data: bytes) -> bool:
        """Write some of ``data``, and keep the rest; False: nothing of it can be written now."""
        self._rest, self._works, self._full = data, False, False
        try:
            if self._fd < 0:
                self._out.write(data)
                self._out.flush()
                self._rest = b""
            else:
                self._rest = data[os.write(self._fd, data) :]
        except BlockingIOError:  # another process has set O_NONBLOCK
            return False
        except OSError as error:
            if error.errno in _FULL:
                self._full = True
                return False
            self._lose(data.count(b"\n"))
            self._rest = b""
        else:
            self._works = True
        return True

    def _tell_losses(self) -> None:
        """Log how many lines were lost, if lines can be written again."""
        if self._untold and self._told is not None and self._works and self._size < _MOST // 2:
            with self._lock:
                number, self._untold = self._untold, 0
            self._told(number)

    def _pause(self) -> None:
        """Wait until writing may be tried again."""
        if self._poll is not None and not self._full:
            self._poll.poll(_AGAIN * 1000)
        else:
            select.select((), (), (), _AGAIN)


def _cut(line: bytes) -> list[bytes]:
    """A text that is too long for one write: its lines in several pieces, those too long in themselves cut."""
    pieces: list[bytes] = []
    for one in line.split(b"\n"):
        if len(one) > LONGEST:
            kept = one[: LONGEST - len(_MARK)].decode(errors="ignore").encode()
            pieces.append(kept + _MARK)
        elif pieces and len(pieces[-1]) + 1 + len(one) <= LONGEST:
            pieces[-1] += b"\n" + one
        else:
            pieces.append(one)
    return pieces
