"""The kernel's cookie cache as it is told over generic netlink: requests to send, and what the answers say.

Linux keeps what it has learned of a peer (cookie, MSS, lost SYNs, round trip) for each pair of source and destination
IP and network namespace. The family is ``tcp_metrics``, its numbers are those of ``include/uapi/linux/tcp_metrics.h``;
headers and attributes are those of netlink(7) and ``include/uapi/linux/genetlink.h``. All of it is in the
machine's byte order but the addresses. Parsers here take any bytes: what is cut off or odd is left out, never raised.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from typing import NamedTuple

ERROR, DONE = 2, 3  # NLMSG_ERROR, NLMSG_DONE
_CONTROL, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2  # GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_…
_GET = 1  # TCP_METRICS_CMD_GET; there is no "set": a cookie cannot be put in
_REQUEST, _DUMP = 0x1, 0x300  # NLM_F_REQUEST, NLM_F_DUMP
_ADDRESS4, _ADDRESS6, _AGE, _VALUES, _MSS, _DROPS, _COOKIE = 1, 2, 3, 6, 7, 8, 10  # TCP_METRICS_ATTR_…
_SOURCE4, _SOURCE6 = 11, 12
_RTT, _VARIATION, _RTT_US, _VARIATION_US = 1, 2, 6, 7  # TCP_METRIC_… plus one
_TYPE_MASK = 0x3FFF  # NLA_TYPE_MASK
_HEADER = struct.Struct("=IHHII")
_GENERIC = struct.Struct("=BBxx")
_ATTRIBUTE = struct.Struct("=HH")

IP = ipaddress.IPv4Address | ipaddress.IPv6Address


class Cookie(NamedTuple):
    """What the kernel remembers of one peer. Present without a cookie, too, once a connection to it has ended."""

    address: str
    source: (
        str  # our own address: a cookie is good for one pair of addresses; "" where the kernel does not say
    )
    has_cookie: bool
    mss: int | None  # the peer's, as it came with the cookie; bounds the SYN's data
    syn_drops: int  # SYNs with data or cookie that went unanswered in a row; the next success clears it
    rtt: float | None  # smoothed, seconds; None: no connection has ended yet
    rtt_variation: float | None  # seconds
    age: float | None  # seconds since the entry was last touched
    cookie_size: int = 0  # bytes; the cookie itself is kept from those who only look


class Message(NamedTuple):
    """One netlink message: ``kind`` is nlmsg_type, ``body`` what follows its header."""

    kind: int
    sequence: int
    body: bytes


def ask_family(name: str, sequence: int) -> bytes:
    """The request for a generic netlink family's number."""
    return _request(_CONTROL, _GET_FAMILY, 0, sequence, _attribute(_FAMILY_NAME, name.encode() + b"\0"))


def ask_one(family: int, sequence: int, address: IP, source: IP | None = None) -> bytes:
    """The request for one peer's entry; without ``source``, for the first one the kernel finds."""
    wanted = _attribute(_ADDRESS4 if address.version == 4 else _ADDRESS6, address.packed)
    if source is not None:
        wanted += _attribute(_SOURCE4 if source.version == 4 else _SOURCE6, source.packed)
    return _request(family, _GET, 0, sequence, wanted)


def ask_all(family: int, sequence: int) -> bytes:
    """The request for every entry of this network namespace."""
    return _request(family, _GET, _DUMP, sequence, b"")


def split(data: bytes) -> Iterator[Message]:
    """The whole messages in one datagram."""
    while len(data) >= _HEADER.size:
        length, kind, _, sequence, _ = _HEADER.unpack_from(data)
        if not _HEADER.size <= length <= len(data):
            return
        yield Message(kind, sequence, data[_HEADER.size : length])
        data = data[_aligned(length) :]


def read_error(message: Message) -> int:
    """The errno that an ERROR or DONE message brings; 0 where it brings none."""
    if len(message.body) < 4:
        return 0
    code: int = struct.unpack_from("=i", message.body)[0]
    return max(0, -code)


def read_family(message: Message) -> int | None:
    """The family's number, from the answer to `ask_family`."""
    return _number(_attributes(message.body[_GENERIC.size :]).get(_FAMILY_ID))


def read_cookie(message: Message) -> Cookie | None:
    """One entry, from the answer to `ask_one` or `ask_all`; None where the message names no address."""
    found = _attributes(message.body[_GENERIC.size :])
    address = _address(found.get(_ADDRESS4), found.get(_ADDRESS6))
    if address is None:
        return None
    values = _attributes(found.get(_VALUES, b""))
    age = _number(found.get(_AGE))
    return Cookie(
        address=address,
        source=_address(found.get(_SOURCE4), found.get(_SOURCE6)) or "",
        has_cookie=bool(found.get(_COOKIE)),
        mss=_number(found.get(_MSS)),
        syn_drops=_number(found.get(_DROPS)) or 0,
        rtt=_scaled(values, _RTT_US, _RTT, 8),
        rtt_variation=_scaled(values, _VARIATION_US, _VARIATION, 4),
        age=None if age is None else age / 1e3,
        cookie_size=len(found.get(_COOKIE, b"")),
    )


def _request(kind: int, command: int, flags: int, sequence: int, body: bytes) -> bytes:
    size = _HEADER.size + _GENERIC.size + len(body)
    return _HEADER.pack(size, kind, _REQUEST | flags, sequence, 0) + _GENERIC.pack(command, 1) + body


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= length <= len(data):
            break
        found[kind & _TYPE_MASK] = data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]
    return found


def _aligned(length: int) -> int:
    return length + 3 & ~3


def _number(raw: bytes | None) -> int | None:
    formats = {1: "=B", 2: "=H", 4: "=I", 8: "=Q"}
    if raw is None or len(raw) not in formats:
        return None
    number: int = struct.unpack(formats[len(raw)], raw)[0]
    return number


def _address(v4: bytes | None, v6: bytes | None) -> str | None:
    if v4 is not None and len(v4) == 4:
        return str(ipaddress.IPv4Address(v4))
    if v6 is not None and len(v6) == 16:
        return str(ipaddress.IPv6Address(v6))
    return None


def _scaled(values: dict[int, bytes], micro: int, milli: int, scale: int) -> float | None:
    """A time in seconds. The kernel keeps RTTs times 8 and variations times 4, older ones in milliseconds only."""
    fine, coarse = _number(values.get(micro)), _number(values.get(milli))
    if fine is not None:
        return fine / scale / 1e6
    return None if coarse is None else coarse / scale / 1e3
