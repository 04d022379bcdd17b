"""HTTP/2 with prior knowledge (RFC 9113, 3.4): the preface and the frames that only tune the connection.

Safe are whole SETTINGS, WINDOW_UPDATE and PRIORITY frames of the right size; the first other frame, or half
of one, ends the run. HEADERS wait even for a GET: they change the compression state both ends must share.
"""

from __future__ import annotations

from struct import Struct

__all__ = ["FIRST_BYTES", "safe_length"]

FIRST_BYTES = b"P"

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_PRIORITY, _SETTINGS, _WINDOW_UPDATE = 2, 4, 8
_ACK = 1
_LARGEST = 16_384

_frame_header = Struct("!HBBBI").unpack_from


def safe_length(early: bytes) -> int | None:
    """The preface and what only tunes the connection behind it; `None` without a whole preface."""
    if not early.startswith(_PREFACE):
        return None
    position = len(_PREFACE)
    while (end := _tuning_frame_end(early, position)) is not None:
        position = end
    return position


def _tuning_frame_end(early: bytes, position: int) -> int | None:
    """Where the frame at `position` ends; `None` if it is not all there or does more than tune."""
    if position + 9 > len(early):
        return None
    high, low, kind, flags, stream = _frame_header(early, position)
    size = high << 8 | low
    if kind == _SETTINGS:
        allowed = stream == 0 and size % 6 == 0 and size <= _LARGEST and not (flags & _ACK and size)
    elif position == len(_PREFACE):
        allowed = False  # the first frame must be SETTINGS
    elif kind == _WINDOW_UPDATE:
        allowed = size == 4
    else:
        allowed = kind == _PRIORITY and size == 5 and stream != 0
    end = position + 9 + size
    return end if allowed and end <= len(early) else None
