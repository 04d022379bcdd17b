"""The opening of a tunnel: a PROXY protocol v2 header that names the destination, and vouches for the bytes behind it.

Byte by byte, and what it is good against: docs/tunnel.md. A near side seals an opening, a far side reads it with
`opening` and believes it after `verify`. The attempts of one session share `Ticket`, and differ in number only.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from proxy.core import proxy_header
from proxy.core.address import BadAddress, Endpoint, Target
from proxy.core.outcomes import Reason
from proxy.core.reader import Malformed, NotMine, Parser, Reader
from proxy.core.request import target_of

__all__ = [
    "ACCEPTED", "COMMITTED", "LIMIT", "MOST_COVERED", "WINDOW", "Rejected", "Sealed", "Ticket", "opening", "seal",
    "size_of", "verify",
]  # fmt: skip

AUTHORITY, UNIQUE_ID, OURS = 0x02, 0x05, 0xE0
VERSION = 1
FINAL = (
    0x01  # this attempt is the last: no answer is wanted to the opening, and none but the upstream's comes
)
ACCEPTED = b"\x06"  # what the far side says at once to an opening that is not final
COMMITTED = b"\x01"  # what the near side says then: there will be no other attempt
MOST_COVERED = 16 * 1024  # bytes behind the header that it may vouch for
_LONGEST_HEADER = 512  # bytes; with IPv6 addresses and a name of 253 it has 385
LIMIT = _LONGEST_HEADER + MOST_COVERED
WINDOW = 30.0  # seconds that an opening may be old, or ahead of our clock
MOST_ATTEMPTS = 255

_NONCE = 16
_TAG = 32
_FIELDS = Struct("!BBBxHHQ")  # version, attempt, flags, port, bytes covered, time in milliseconds
_OURS_SIZE = _FIELDS.size + _TAG
_CRC_AT = 3 + _OURS_SIZE + 4  # from the end
_LABEL = b"tfo-proxy tunnel opening 1\0"


class Rejected(Exception):
    """An opening that is not to be believed, and why: one of WRONG_KEY, OLD_CLOCK, REPLAYED and NONCES_FULL."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Ticket(NamedTuple):
    """What all attempts of one session have in common. ``time`` is seconds since 1970, when it was made."""

    nonce: bytes
    time: float
    destination: Target
    client: Endpoint | None = None
    dialled: Endpoint | None = None  # where the client connected to


class Sealed(NamedTuple):
    """An opening as it came; nothing of it is true before `verify` has said so. ``early`` is what it covers."""

    ticket: Ticket
    attempt: int
    final: bool
    header: bytes
    early: bytes


def seal(key: bytes, ticket: Ticket, attempt: int, early: bytes, *, final: bool) -> bytes:
    """The header for one attempt (1 to 255), to be followed by ``early``, at most `MOST_COVERED` bytes of it."""
    if not 0 < attempt <= MOST_ATTEMPTS or len(early) > MOST_COVERED or len(ticket.nonce) != _NONCE:
        raise ValueError("no such opening")
    fields = _FIELDS.pack(
        VERSION,
        attempt,
        FINAL if final else 0,
        ticket.destination.port,
        len(early),
        int(ticket.time * 1000),
    )
    extensions = (
        (AUTHORITY, ticket.destination.host.encode()),
        (UNIQUE_ID, ticket.nonce),
        (proxy_header.PP2_CRC32C, bytes(4)),
        (OURS, fields + bytes(_TAG)),
    )
    whole, summed_at = proxy_header.unsummed(ticket.client, ticket.dialled, extensions)
    whole[-_TAG:] = _tag(key, whole, early)
    return proxy_header.summed(whole, summed_at)


def size_of(ticket: Ticket) -> int:
    """How long its headers are."""
    return len(seal(b"", ticket, 1, b"", final=True))


def opening(reader: Reader) -> Parser[Sealed]:
    """Read a header and all that it covers; raises `Malformed`.

    Before anything is authenticated this reads at most `LIMIT` bytes, and computes one checksum of at most 512.
    """
    try:
        proxied = yield from proxy_header.header(reader, _LONGEST_HEADER)
    except NotMine as error:
        raise Malformed(str(error)) from None
    header = bytes(reader.data[: reader.position])
    if [kind for kind, _ in proxied.extensions] != [AUTHORITY, UNIQUE_ID, proxy_header.PP2_CRC32C, OURS]:
        raise Malformed("a PROXY header without the extensions of a tunnel")
    (_, host), (_, nonce), _, (_, ours) = proxied.extensions
    if len(nonce) != _NONCE or len(ours) != _OURS_SIZE:
        raise Malformed("an extension of the wrong size")
    version, attempt, flags, port, covered, milliseconds = _FIELDS.unpack_from(ours)
    if version != VERSION or flags & ~FINAL or attempt == 0 or covered > MOST_COVERED or ours[3]:
        raise Malformed("an opening of another version")
    try:
        destination = target_of(host.decode("ascii"), port)
    except (BadAddress, UnicodeDecodeError):
        raise Malformed("a destination that is none") from None
    early = yield from reader.read_exactly(covered)
    ticket = Ticket(nonce, milliseconds / 1000, destination, proxied.source, proxied.destination)
    return Sealed(ticket, attempt, bool(flags & FINAL), header, early)


def verify(keys: Sequence[bytes], sealed: Sealed, now: float, window: float = WINDOW) -> None:
    """Raises `Rejected` unless one of ``keys`` sealed it, at most ``window`` seconds from ``now`` (since 1970)."""
    header = bytearray(sealed.header)
    at = len(header) - _CRC_AT
    header[at : at + 4] = bytes(4)
    tag = sealed.header[-_TAG:]
    # All keys are tried, so that the time it takes does not tell which one fits.
    if not any([hmac.compare_digest(tag, _tag(key, header, sealed.early)) for key in keys]):  # noqa: C419
        raise Rejected(Reason.WRONG_KEY, "no key fits")
    age = now - sealed.ticket.time
    if abs(age) > window:
        far = f"{abs(age):.1f} s {'ago' if age > 0 else 'in the future'}"
        raise Rejected(Reason.OLD_CLOCK, f"it was sealed {far}, and {window:g} s are allowed")


def _tag(key: bytes, header: bytearray, early: bytes) -> bytes:
    """HMAC-SHA256 (RFC 2104) over the header without its last field, its checksum zero, and the early data."""
    mac = hmac.new(key, _LABEL, hashlib.sha256)
    mac.update(header[:-_TAG])
    mac.update(early)
    return mac.digest()
