"""memcached: reads, in the text and in the binary protocol (its doc/protocol.txt).

Only whole commands count. `gat` touches, `stats reset` and `stats detail` switch things, and meta get (`mg`)
hands the right to recache a stale item to whoever asks first, whatever its flags: all 0. So is the text
protocol's way to authenticate, which is a `set`.
"""

from __future__ import annotations

import re
from struct import Struct

__all__ = ["BINARY_FIRST_BYTES", "TEXT_FIRST_BYTES", "binary_safe_length", "text_safe_length"]

TEXT_FIRST_BYTES = b"gsvm"
BINARY_FIRST_BYTES = b"\x80"

_reads = re.compile(
    rb"(?:(?:gets?(?! \S+ HTTP/)(?: [!-~\x80-\xff]{1,250})+"
    rb"|version|mn|stats(?: (?:items|slabs|conns|settings))?)\r?\n)*"
).match

_GETS = frozenset((0x00, 0x09, 0x0C, 0x0D))  # get, and its quiet and key-returning kinds
_PLAIN = frozenset((0x0A, 0x0B, 0x10, 0x20))  # no-op, version, all statistics, list of SASL mechanisms
_REQUEST = 0x80

_request_header = Struct("!BBHBBHIIQ").unpack_from


def text_safe_length(early: bytes) -> int | None:
    """The read commands at the start; `None` where there is none."""
    reads = _reads(early)
    return (reads.end() if reads else 0) or None


def binary_safe_length(early: bytes) -> int | None:
    """The read requests at the start; `None` where there is none."""
    position = 0
    while (end := _read_request_end(early, position)) is not None:
        position = end
    return position or None


def _read_request_end(early: bytes, position: int) -> int | None:
    if position + 24 > len(early):
        return None
    magic, opcode, key, extras, data_type, _, body, _, cas = _request_header(early, position)
    if magic != _REQUEST or extras or data_type or cas or body != key:
        return None
    if not (opcode in _GETS and 0 < key <= 250) and not (opcode in _PLAIN and not key):
        return None
    end = position + 24 + int(body)
    return end if end <= len(early) else None
