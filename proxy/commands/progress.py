"""One line about a wait, written over and over on a terminal; silent everywhere else, so that scripts see nothing.

The cursor is left at the line's beginning, so that whatever else is written to that terminal begins there; the log
clears the line first (`proxy.telemetry.logs`), and it comes back below. A process in the background is silent, too: the
terminal is the shell's.
"""

from __future__ import annotations

import os
import select
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, TextIO

_SOON = 0.3  # seconds; what is done by then needs no line
_OFTEN = 0.1
_CLEAR = "\r\x1b[K"


class Progress:
    """Enter it, `tell` what is being waited for, leave it: the line is gone again.

    ``stream`` is standard error if not given; ``clock`` tells seconds.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.perf_counter) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._on = self._stream is not None and self._stream.isatty()
        self._clock = clock
        self._began = clock()
        self._told = self._began + _SOON - _OFTEN
        self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._write(_CLEAR)

    def tell(self, words: str) -> None:
        """What is being waited for now; how long that has taken is added. Cheap enough to be called often."""
        now = self._clock()
        if not self._on or now - self._told < _OFTEN or not _in_foreground(self._stream):
            return
        self._told, self._shown = now, True
        width = shutil.get_terminal_size().columns
        self._write(_CLEAR + f"{words}, {now - self._began:.0f} s"[: width - 1] + "\r")

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # a terminal that has gone
            if not _writable(self._stream):  # it is stopped, or not read
                return
            self._stream.write(text)
            self._stream.flush()


def _writable(stream: TextIO) -> bool:
    """Whether a short text can be written without a wait."""
    try:
        return bool(select.select((), (stream.fileno(),), (), 0)[1])
    except (OSError, ValueError):  # not a file of the kernel's
        return True


def _in_foreground(stream: TextIO) -> bool:
    """Whether the terminal is ours to write on; one that does not control us is."""
    try:
        return os.tcgetpgrp(stream.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return True
