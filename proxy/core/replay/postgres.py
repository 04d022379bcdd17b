"""PostgreSQL: the packet that opens a connection (protocol 3, "Message Flow: Start-up").

Safe are SSLRequest, GSSENCRequest and StartupMessage: the server answers with a byte, or begins to
authenticate. What comes behind waits for that answer. CancelRequest is 0: it ends a query of another session.
"""

from __future__ import annotations

import re
from struct import Struct

__all__ = ["FIRST_BYTES", "safe_length"]

FIRST_BYTES = b"\0"

_LARGEST = 10_000  # MAX_STARTUP_PACKET_LENGTH
_CANCEL, _SSL, _GSSENC = 80_877_102, 80_877_103, 80_877_104

_parameter_name = re.compile(rb"[A-Za-z_][A-Za-z0-9_.$]*").fullmatch
_packet_header = Struct("!II").unpack_from


def safe_length(early: bytes) -> int | None:
    """The opening packet; `None` where there is none, or not all of it."""
    if len(early) < 8:
        return None
    size, code = _packet_header(early)
    if size > len(early):
        return None
    if code in (_SSL, _GSSENC):
        return 8 if size == 8 else None
    if code == _CANCEL:
        return 0
    if code >> 16 == 3 and 8 < size <= _LARGEST and _names_a_user(early[8:size]):
        return int(size)
    return None


def _names_a_user(parameters: bytes) -> bool:
    """Are these names and values, each ended by NUL, and the list by another, with a `user` among them?"""
    words = parameters.split(b"\0")
    if len(words) < 4 or len(words) % 2 or words[-2:] != [b"", b""]:
        return False
    names = words[:-2:2]
    return b"user" in names and all(_parameter_name(name) for name in names)
