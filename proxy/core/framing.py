"""How far the body of an HTTP/1 request goes (RFC 9112, 6), told while it passes by; nothing of it is kept.

A proxy that forwards one request must not forward what comes behind it: it may be meant for somebody else.
"""

from __future__ import annotations

import re

__all__ = ["Chunked", "Sized"]

_LONGEST_LINE = 4096
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n\Z")


class Sized:
    """A body of a known number of bytes; none at all is 0."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, data: bytes | memoryview) -> int:
        """As `core.request.Body.take`."""
        taken = min(self.left, len(data))
        self.left -= taken
        return taken


class Chunked:
    """A body in chunks (RFC 9112, 7.1). One that breaks the rules ends where it breaks them."""

    __slots__ = ("_ended", "_left", "_line", "_trailers")

    def __init__(self) -> None:
        self._left = 0  # bytes of this chunk, with the CRLF behind it
        self._line = bytearray()  # the unfinished line of a size or of a trailer
        self._trailers = False
        self._ended = False

    def take(self, data: bytes | memoryview) -> int:
        """As `core.request.Body.take`."""
        data = bytes(data)
        position = 0
        while position < len(data) and not self._ended:
            if self._left:
                step = min(self._left, len(data) - position)
                self._left -= step
                position += step
                continue
            end = data.find(b"\n", position) + 1
            self._line += data[position : end or len(data)]
            position = end or len(data)
            if len(self._line) > _LONGEST_LINE:
                self._ended = True
            elif end:
                self._take_line(bytes(self._line))
                self._line.clear()
        return position

    def _take_line(self, line: bytes) -> None:
        if self._trailers:
            self._ended = line == b"\r\n"
            return
        size = _SIZE.match(line)
        if size is None:
            self._ended = True
        elif int(size[1], 16):
            self._left = int(size[1], 16) + 2
        else:
            self._trailers = True
