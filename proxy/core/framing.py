"""The body of an HTTP/1 message: how far it goes (RFC 9112, 6), and the bytes that stand for it in the next message.

A body is taken in pieces, as they come, and nothing of it is kept. Chunks are decoded and encoded again, so that what
is sent on is exactly what was understood: no chunk extension, no odd line end, no trailer that framing depends on.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

from proxy.core.reader import Malformed

__all__ = ["TOKEN", "VALUE", "Body", "Chunked", "Piece", "Sized", "UntilClose"]

Piece: TypeAlias = bytes | memoryview

TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"  # RFC 9110, 5.6.2
VALUE = b"\t " + bytes(range(0x21, 0x7F)) + bytes(range(0x80, 0x100))  # a field's value (RFC 9110, 5.5)
_HEX = b"0123456789abcdefABCDEF"
_MOST_DIGITS = 16  # of a chunk's size
_LONGEST_LINE = 4096  # bytes: a chunk's size with its extensions, or a trailer
_MOST_TRAILERS = 16 * 1024  # bytes of all trailers

# Fields that decide how a message is read, or for whom it is (RFC 9110, 6.5.1): never taken from a trailer.
_NO_TRAILERS = frozenset({
    b"authorization", b"connection", b"content-encoding", b"content-length", b"content-range", b"content-type",
    b"cookie", b"expect", b"host", b"keep-alive", b"max-forwards", b"proxy-authenticate", b"proxy-authorization",
    b"proxy-connection", b"set-cookie", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"via",
    b"www-authenticate",
})  # fmt: skip


class Body(Protocol):
    """A message's body. ``done``: all of it has been taken. ``delimited``: its end can be told from its bytes."""

    done: bool
    delimited: bool

    def take(self, data: Piece) -> tuple[int, Piece]:
        """How many bytes of ``data`` belong to the body, and what is sent on for them; raises `Malformed`."""
        ...


class Sized:
    """A body of ``size`` bytes; 0 where there is none."""

    __slots__ = ("_left", "delimited", "done")

    def __init__(self, size: int) -> None:
        self._left = size
        self.done = not size
        self.delimited = True

    def take(self, data: Piece) -> tuple[int, Piece]:
        """As `Body.take`."""
        taken = min(self._left, len(data))
        self._left -= taken
        self.done = not self._left
        return taken, data[:taken]


class UntilClose:
    """A response's body that ends with its connection (RFC 9112, 6.3, rule 8)."""

    __slots__ = ("delimited", "done")

    def __init__(self) -> None:
        self.done = self.delimited = False

    def take(self, data: Piece) -> tuple[int, Piece]:
        """As `Body.take`."""
        return len(data), data


class Chunked:
    """A body in chunks (RFC 9112, 7.1).

    ``lenient`` forgives what responses are known to get wrong: blanks behind a chunk's size, and bare LF. ``encode``:
    the body is sent on in chunks; else its data alone, for an HTTP/1.0 client, which reads until the connection closes.
    """

    __slots__ = (
        "_encode",
        "_left",
        "_lenient",
        "_line",
        "_state",
        "_trailers",
        "_trailers_size",
        "delimited",
        "done",
    )

    def __init__(self, *, lenient: bool = False, encode: bool = True) -> None:
        self._lenient = lenient
        self._encode = encode
        self._state = _SIZE
        self._left = 0  # bytes of this chunk's data still to come
        self._line = bytearray()  # an unfinished line
        self._trailers: list[bytes] = []
        self._trailers_size = 0
        self.done = False
        self.delimited = encode

    def take(self, data: Piece) -> tuple[int, Piece]:
        """As `Body.take`."""
        whole = bytes(data)
        content: list[bytes] = []
        position = 0
        while position < len(whole) and not self.done:
            if self._left:
                piece = whole[position : position + self._left]
                content.append(piece)
                position += len(piece)
                self._left -= len(piece)
                continue
            end = whole.find(b"\n", position) + 1
            self._line += whole[position : end or len(whole)]
            position = end or len(whole)
            if len(self._line) > _LONGEST_LINE:
                raise Malformed("a line of a chunked body is too long")
            if end:
                line = bytes(self._line)
                self._line.clear()
                self._take_line(line)
        return position, self._encoded(b"".join(content))

    def _take_line(self, line: bytes) -> None:
        if line.endswith(b"\r\n"):
            line = line[:-2]
        elif self._lenient:
            line = line[:-1]
        else:
            raise Malformed("a line of a chunked body does not end in CRLF")
        if self._state == _DATA_END:
            if line:
                raise Malformed("a chunk is longer than its size")
            self._state = _SIZE
        elif self._state == _SIZE:
            self._left = self._chunk_size(line)
            self._state = _DATA_END if self._left else _TRAILERS
        elif line:
            self._take_trailer(line)
        else:
            self.done = True

    def _chunk_size(self, line: bytes) -> int:
        """``chunk-size [ chunk-ext ]``; extensions are checked for their characters, and dropped."""
        digits, mark, extensions = line.partition(b";")
        if mark or self._lenient:
            digits = digits.rstrip(b" \t")
        if not 0 < len(digits) <= _MOST_DIGITS or digits.translate(None, _HEX):
            raise Malformed("the size of a chunk is not hexadecimal")
        if extensions.translate(None, VALUE) or (mark and not extensions.strip(b" \t")):
            raise Malformed("the extension of a chunk is not one")
        return int(digits, 16)

    def _take_trailer(self, line: bytes) -> None:
        self._trailers_size += len(line)
        name, colon, value = line.partition(b":")
        if self._trailers_size > _MOST_TRAILERS:
            raise Malformed("the trailers are too large")
        if not name or not colon or name.translate(None, TOKEN) or value.translate(None, VALUE):
            if self._lenient:
                return
            raise Malformed("a trailer is not `name: value`")
        if name.lower() not in _NO_TRAILERS:
            self._trailers.append(name + b": " + value.strip(b" \t") + b"\r\n")

    def _encoded(self, content: bytes) -> bytes:
        if not self._encode:
            return content
        chunk = b"%x\r\n%b\r\n" % (len(content), content) if content else b""
        if not self.done:
            return chunk
        return b"%b0\r\n%b\r\n" % (chunk, b"".join(self._trailers))


_SIZE, _DATA_END, _TRAILERS = range(3)
