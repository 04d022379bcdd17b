"""TLS: a ClientHello may be sent twice; the early data, alerts or anything else behind it may not.

A server that sees one hello twice begins two handshakes and finishes one. A single-use session ticket may be
spent by the copy; then the handshake that counts is a full one, which TLS does by itself (RFC 8446, 8.1).
"""

from __future__ import annotations

from proxy.core.reader import Malformed, NotMine
from proxy.core.tls import hello_span

__all__ = ["FIRST_BYTES", "safe_length"]

FIRST_BYTES = b"\x16"


def safe_length(early: bytes) -> int | None:
    """The ClientHello, as far as it has come, with its record headers; 0 if it is malformed."""
    if early[1:2] != b"\x03":
        return None
    try:
        return hello_span(early).length
    except NotMine:
        return None
    except Malformed:
        return 0
