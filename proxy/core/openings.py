"""Which parser hears what clients say first, by the mode of their listener."""

from __future__ import annotations

from functools import partial

from proxy.core import http1, socks
from proxy.core.reader import Parser, Reader
from proxy.core.request import Opening, OpeningParser
from proxy.core.snapshot import Mode

__all__ = ["LIMIT", "opening_of"]

LIMIT = 3 * http1.LIMIT  # the parsers say no before that, in words


def _mixed(reader: Reader, *, login: bool) -> Parser[Opening]:
    """SOCKS or HTTP: no method begins with the number of a SOCKS version."""
    first = yield from reader.peek(1)
    return (yield from (socks.opening if first in {b"\x04", b"\x05"} else http1.opening)(reader, login=login))


_WAYS = {Mode.SOCKS: socks.opening, Mode.HTTP: http1.opening, Mode.MIXED: _mixed}
_OPENINGS: dict[Mode, OpeningParser] = {mode: partial(way, login=False) for mode, way in _WAYS.items()}
_LOGINS: dict[Mode, OpeningParser] = {mode: partial(way, login=True) for mode, way in _WAYS.items()}


def opening_of(mode: Mode, *, login: bool) -> OpeningParser:
    """The parser, always the same one; ``login``: users must say who they are. For modes that take SOCKS or HTTP."""
    return (_LOGINS if login else _OPENINGS)[mode]
