"""DNS over TCP (RFC 1035, 4.2.2; RFC 7766): whole queries, as many as are pipelined.

A query is an opcode QUERY message with one question, no answers and no authority, and nothing additional but
EDNS (OPT) and signatures. Zone transfers by AXFR are reads. UPDATE, NOTIFY and TKEY, which makes a key, are
not, nor is anything that is not exactly as long as it says.
"""

from __future__ import annotations

from struct import Struct

__all__ = ["FIRST_BYTES", "safe_length"]

FIRST_BYTES = b"\0\1\2\3"  # queries below 1,024 bytes

_SHORTEST = 12 + 1 + 4
_QUERY_FLAGS = 0x0130  # RD, AD, CD; no opcode but 0, not a response
_SIG, _OPT, _TKEY, _TSIG = 24, 41, 249, 250
_CLASSES = frozenset((1, 3, 4, 255))

_message_header = Struct("!HHHHHHH").unpack_from
_question = Struct("!HH").unpack_from
_record = Struct("!HHIH").unpack_from


def safe_length(early: bytes) -> int | None:
    """The whole queries at the start; `None` where there is none."""
    position = 0
    while (end := _query_end(early, position)) is not None:
        position = end
    return position or None


def _query_end(early: bytes, position: int) -> int | None:
    """Where the query at `position` ends; `None` if it is not all there, or no query."""
    if position + 2 + _SHORTEST > len(early):
        return None
    size, _, flags, questions, answers, authorities, additional = _message_header(early, position)
    end = position + 2 + int(size)
    if size < _SHORTEST or end > len(early):
        return None
    if flags & ~_QUERY_FLAGS or (questions, answers, authorities) != (1, 0, 0) or additional > 2:
        return None
    at = _name_end(early, position + 14, end - 4)
    if at is None:
        return None
    kind, klass = _question(early, at)
    if kind == _TKEY or klass not in _CLASSES:
        return None
    at += 4
    for _ in range(additional):
        after = _additional_end(early, at, end)
        if after is None:
            return None
        at = after
    return end if at == end else None


def _name_end(early: bytes, position: int, end: int) -> int | None:
    """Where an uncompressed name ends, at most at `end`."""
    start = position
    while position < end and early[position]:
        if early[position] > 63:
            return None
        position += 1 + early[position]
    return position + 1 if position < end and position + 1 - start <= 255 else None


def _additional_end(early: bytes, position: int, end: int) -> int | None:
    """Where an additional record ends that is EDNS or a signature."""
    at = _name_end(early, position, end - 10)
    if at is None:
        return None
    kind, _, _, size = _record(early, at)
    after = at + 10 + int(size)
    return after if kind in (_OPT, _TSIG, _SIG) and after <= end else None
