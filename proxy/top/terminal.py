"""A terminal that is borrowed for a while: one key at a time, a screen of its own, and everything as it was in the end.

Sequences are those of ECMA-48 and xterm (https://invisible-island.net/xterm/ctlseqs/ctlseqs.html).
"""

from __future__ import annotations

import os
import shutil
import termios
import tty
from collections.abc import Sequence
from types import TracebackType
from typing import Self

SMALLEST = (40, 10)  # columns, lines
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[2J"  # the other screen, no cursor, clear
_LEAVE = "\x1b[0m\x1b[?25h\x1b[?1049l"
_HOME = "\x1b[H"
_EMPTY_LINE = "\x1b[0m\x1b[2K"
_REST_OF_SCREEN = "\x1b[0m\r\n\x1b[J"
_AT_ONCE = ("\x1b[?2026h", "\x1b[?2026l")  # terminals that know it show the frame in one piece

_NAMED = {
    "\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left",
    "\x1bOA": "up", "\x1bOB": "down", "\x1bOC": "right", "\x1bOD": "left",
    "\x1b[5~": "page up", "\x1b[6~": "page down", "\x1b[H": "home", "\x1b[F": "end", "\x1bOH": "home",
    "\x1bOF": "end", "\x1b[1~": "home", "\x1b[4~": "end", "\x1b[Z": "back tab",
    "\t": "tab", "\r": "enter", "\n": "enter", "\x7f": "backspace", "\b": "backspace", "\x1b": "escape",
}  # fmt: skip


def keys(typed: str) -> list[str]:
    """What was pressed, of what one read(2) gave: characters as they are, others by name; unknown ones are dropped."""
    pressed: list[str] = []
    at = 0
    while at < len(typed):
        if typed[at] == "\x1b" and typed[at + 1 : at + 2] in {"[", "O"}:
            end = at + 2
            while end < len(typed) and not "@" <= typed[end] <= "~":
                end += 1
            pressed += [_NAMED[typed[at : end + 1]]] if typed[at : end + 1] in _NAMED else []
            at = end + 1
        else:
            pressed.append(_NAMED.get(typed[at], typed[at]))
            at += 1
    return pressed


class Terminal:
    """Standard input and output while they are ours. Enter it, `draw`, leave it; leaving twice does no harm."""

    def __init__(self, source: int = 0, target: int = 1) -> None:
        self._in, self._out = source, target
        self._before: list[int | list[bytes | int]] | None = None

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()

    def take(self) -> None:
        """Take it over, at first or again after it was given back."""
        self._before = termios.tcgetattr(self._in)
        tty.setcbreak(self._in)
        self._write(_ENTER)

    def give_back(self) -> None:
        """As it was; a terminal that has gone has no use for it."""
        if self._before is None:
            return
        try:
            self._write(_LEAVE)
            termios.tcsetattr(self._in, termios.TCSADRAIN, self._before)
        except (OSError, termios.error):
            pass
        self._before = None

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        try:
            columns, lines = os.get_terminal_size(self._out)
        except OSError:
            columns, lines = 0, 0
        if columns <= 0 or lines <= 0:
            columns, lines = shutil.get_terminal_size()
        return max(columns, SMALLEST[0]), max(lines, SMALLEST[1])

    def read(self) -> list[str]:
        """The keys that were pressed; call it when there is something to read. At the end of input: ``q``."""
        typed = os.read(self._in, 1024)
        return keys(typed.decode(errors="replace")) if typed else ["q"]

    def draw(self, lines: Sequence[str]) -> None:
        """A frame, line by line; no line may be wider than the screen, and what does not fit is left out."""
        begin, end = _AT_ONCE
        height = self.size[1]
        frame = "\r\n".join(_EMPTY_LINE + line for line in lines[:height])
        rest = _REST_OF_SCREEN if len(lines) < height else ""
        self._write(f"{begin}{_HOME}{frame}{rest}{end}")

    def _write(self, text: str) -> None:
        data = text.encode()
        while data:
            data = data[os.write(self._out, data) :]
