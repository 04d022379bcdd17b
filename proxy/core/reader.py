"""Parsers as generators: `yield` means "I need more bytes".

A parser is a function that takes a `Reader` and reads from top to bottom as if the bytes were all there.
`Reading` drives it, a piece at a time, in whatever pieces the network delivers. Its answers never blur:

* **need more**: `feed` returns `None`. Nothing is decided yet.
* **parsed**: `feed` returns `Parsed(value, consumed)`. Bytes past `consumed` were not looked at.
* **not mine**: `NotMine` is raised. Another protocol's bytes; try somebody else.
* **malformed**: `Malformed` is raised. This protocol, but broken; `TooLong` where it is only too big.

A reading holds at most `limit` bytes of an unfinished message, so memory is bounded by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Generic, NamedTuple, TypeAlias, TypeVar

__all__ = ["Malformed", "NotMine", "Parsed", "Parser", "Reader", "Reading", "TooLong"]

T = TypeVar("T")

Parser: TypeAlias = Generator[None, None, T]
"""What a parsing function returns: it yields when it needs more, and returns what it read."""


class NotMine(Exception):
    """These bytes belong to some other protocol."""


class Malformed(Exception):
    """These bytes belong to this protocol and break its rules; the message says which."""


class TooLong(Malformed):
    """The message is larger than the caller allows."""


class Parsed(NamedTuple, Generic[T]):
    """A finished message and how many of the bytes fed were part of it."""

    value: T
    consumed: int


class Reader:
    """The bytes a parser reads from. `position` is where it stands; bytes before it are consumed."""

    __slots__ = ("data", "position")

    def __init__(self) -> None:
        self.data = bytearray()
        self.position = 0

    def peek(self, size: int) -> Parser[bytes]:
        """The next `size` bytes, without consuming them."""
        end = self.position + size
        while len(self.data) < end:
            yield
        return bytes(self.data[self.position : end])

    def read_exactly(self, size: int) -> Parser[bytes]:
        """The next `size` bytes."""
        taken = yield from self.peek(size)
        self.position += size
        return taken

    def read_byte(self) -> Parser[int]:
        """The next byte, as a number."""
        taken = yield from self.read_exactly(1)
        return taken[0]

    def read_uint16(self) -> Parser[int]:
        """The next two bytes, most significant first."""
        taken = yield from self.read_exactly(2)
        return int.from_bytes(taken, "big")

    def read_until(self, delimiter: bytes, limit: int) -> Parser[bytes]:
        """Everything before `delimiter`, which is consumed and left out.

        `TooLong` once `limit` bytes, the delimiter among them, hold no delimiter. Each byte is searched once.
        """
        searched = self.position
        last_start = self.position + limit - len(delimiter)
        while (found := self.data.find(delimiter, searched, self.position + limit)) < 0:
            searched = max(self.position, len(self.data) - len(delimiter) + 1)
            if searched > last_start:
                raise TooLong(f"no {delimiter!r} in the first {limit} bytes")
            yield
        taken = bytes(self.data[self.position : found])
        self.position = found + len(delimiter)
        return taken


class Reading(Generic[T]):
    """One message being read: feed it until it answers.

    `limit` is in bytes: a parser still asking for more after that many is ended with `TooLong`.
    Once it has answered or raised, a reading is spent.
    """

    __slots__ = ("_limit", "_parser", "reader")

    def __init__(self, parser: Callable[[Reader], Parser[T]], limit: int) -> None:
        self.reader = Reader()
        self._parser = parser(self.reader)
        self._limit = limit

    def feed(self, data: bytes) -> Parsed[T] | None:
        """Add `data` and go on. `None` means more bytes are needed; raises `NotMine` or `Malformed`."""
        self.reader.data += data
        try:
            next(self._parser)
        except StopIteration as finished:
            value: T = finished.value
            return Parsed(value, self.reader.position)
        if len(self.reader.data) >= self._limit:
            raise TooLong(f"unfinished after {self._limit} bytes")
        return None
