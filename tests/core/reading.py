"""Feeding a parser in pieces of a given size, as a network would."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from proxy.core.reader import Parsed, Parser, Reader, Reading

T = TypeVar("T")


def in_pieces(parser: Callable[[Reader], Parser[T]], data: bytes, step: int) -> Parsed[T]:
    """What the parser answers, fed `step` bytes at a time; it must have answered by the end."""
    reading = Reading(parser, 1 << 20)
    for start in range(0, len(data), step):
        parsed = reading.feed(data[start : start + step])
        if parsed is not None:
            return parsed
    raise AssertionError(f"nothing after {len(data)} bytes")
