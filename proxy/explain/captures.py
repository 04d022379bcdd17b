"""Packets of a pcap or pcapng file (draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from proxy.lab.packets import Packet, decode

_SECOND_COPY = 0.0005  # seconds; a capture of all interfaces has packets on lo twice


class BadCapture(Exception):
    """Not a capture, or one that cannot be read; says why."""


def read_capture(data: bytes) -> list[tuple[float, Packet]]:
    """IP packets with their times (seconds since 1970), from a pcap or pcapng file; raises `BadCapture`."""
    magic = data[:4]
    if magic == b"\x0a\x0d\x0d\x0a":
        found = _pcapng(data)
    elif magic in _PCAP:
        found = _pcap(data, *_PCAP[magic])
    else:
        raise BadCapture("it is neither a pcap nor a pcapng file; write one with tcpdump -w FILE")
    packets: list[tuple[float, Packet]] = []
    latest: dict[bytes, float] = {}
    for when, link, length, raw in found:
        start = _ip_offset(link, raw)
        packet = None if start is None else decode(raw[start:], length - start)
        if packet is None or not (packet.is_tcp or packet.icmp):
            continue
        if when - latest.get(packet.raw, -1.0) > _SECOND_COPY:
            packets.append((when, packet))
        latest[packet.raw] = when
    packets.sort(key=lambda item: item[0])
    return packets


_PCAP = {  # magic → byte order, fractions of a second
    b"\xd4\xc3\xb2\xa1": ("<", 1e6), b"\xa1\xb2\xc3\xd4": (">", 1e6),
    b"\x4d\x3c\xb2\xa1": ("<", 1e9), b"\xa1\xb2\x3c\x4d": (">", 1e9),
}  # fmt: skip


def _pcap(data: bytes, order: str, unit: float) -> Iterator[tuple[float, int, int, bytes]]:
    if len(data) < 24:
        raise BadCapture("it ends within its header")
    (link,) = struct.unpack_from(order + "I", data, 20)
    at = 24
    while at + 16 <= len(data):
        seconds, fraction, size, length = struct.unpack_from(order + "IIII", data, at)
        yield seconds + fraction / unit, link & 0xFFFF, length, data[at + 16 : at + 16 + size]
        at += 16 + size


def _pcapng(data: bytes) -> Iterator[tuple[float, int, int, bytes]]:
    order, at = "<", 0
    links: list[tuple[int, float]] = []
    while at + 12 <= len(data):
        if data[at : at + 4] == b"\x0a\x0d\x0d\x0a":  # a section: its byte order, its own interfaces
            order = "<" if data[at + 8 : at + 12] == b"\x4d\x3c\x2b\x1a" else ">"
            links.clear()
        kind, size = struct.unpack_from(order + "II", data, at)
        if size < 12 or at + size > len(data):
            return  # the capture was stopped within a block
        body = data[at + 8 : at + size - 4]
        if kind == 1:
            (link,) = struct.unpack_from(order + "H", body)
            links.append((link, _resolution(body[8:], order)))
        elif kind == 6:
            number, high, low, kept, length = struct.unpack_from(order + "IIIII", body)
            if number < len(links):
                link, unit = links[int(number)]
                yield (high << 32 | low) / unit, link, length, body[20 : 20 + kept]
        at += size


def _resolution(options: bytes, order: str) -> float:
    """Units a second of an interface's times (option if_tsresol)."""
    at = 0
    while at + 4 <= len(options):
        code, size = struct.unpack_from(order + "HH", options, at)
        if code == 9 and size:
            value = options[at + 4]
            return float(2 ** (value & 127) if value & 128 else 10**value)
        at += 4 + (size + 3) // 4 * 4
    return 1e6


def _ip_offset(link: int, raw: bytes) -> int | None:
    """Where the IP header begins; None where there is none. Link types are those of tcpdump.org/linktypes.html."""
    if link in {101, 228, 229, 12, 14}:  # RAW, IPV4, IPV6
        return 0
    if link in {0, 108}:  # NULL, LOOP
        return 4
    if link == 1:
        at = 16 if raw[12:14] == b"\x81\x00" else 12
        return at + 2 if raw[at : at + 2] in _IP_TYPES else None
    if link == 113:
        return 16 if raw[14:16] in _IP_TYPES else None
    if link == 276:
        return 20 if raw[:2] in _IP_TYPES else None
    raise BadCapture(f"link type {link} is not known here; capture with tcpdump -i any, or on one interface")


_IP_TYPES = frozenset({b"\x08\x00", b"\x86\xdd"})
