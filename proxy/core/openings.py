"""Which parser hears what clients say first, by the mode of their listener."""

from __future__ import annotations

from functools import lru_cache, partial

from proxy.core import http1, socks
from proxy.core.reader import Parser, Reader
from proxy.core.request import Opening, OpeningParser
from proxy.core.snapshot import Mode

__all__ = ["LIMIT", "opening_of"]

LIMIT = 3 * http1.LIMIT  # the parsers say no before that, in words


def _mixed(reader: Reader, *, login: bool, via: bytes) -> Parser[Opening]:
    """SOCKS or HTTP: no method begins with the number of a SOCKS version."""
    first = yield from reader.peek(1)
    if first in {b"\x04", b"\x05"}:
        return (yield from socks.opening(reader, login=login))
    return (yield from http1.opening(reader, login=login, via=via))


@lru_cache(None)
def opening_of(mode: Mode, *, login: bool, via: bytes = http1.VIA) -> OpeningParser:
    """The parser for a mode that takes SOCKS or HTTP: the same object for the same arguments.

    ``login``: users must say who they are. ``via``: what this process calls itself in ``Via`` fields.
    """
    if mode is Mode.SOCKS:
        return partial(socks.opening, login=login)
    return partial(http1.opening if mode is Mode.HTTP else _mixed, login=login, via=via)
