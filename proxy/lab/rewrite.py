"""Packets changed on their way, and packets a middlebox invents; lengths and checksums are made right."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Collection

from proxy.lab.packets import ACK, EXPERIMENTAL, FAST_OPEN_MAGIC, ICMP, ICMPV6, RST, SYN, TCP, Packet, decode

ROUTER = {4: "10.77.0.1", 6: "fd77::1"}
UNREACHABLE = {4: (3, 13), 6: (1, 1)}  # administratively prohibited: RFC 1812 5.2.7.1, RFC 4443 3.1
TOO_BIG = {4: (3, 4), 6: (2, 0)}  # RFC 1191, RFC 8201


def checksum(data: bytes) -> int:
    """The Internet checksum, RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def without_options(packet: Packet, kinds: Collection[int]) -> Packet:
    """The TCP segment with these options overwritten by NOPs, as iptables' TCPOPTSTRIP does.

    Of the experimental kind 254 only Fast Open's (magic 0xF989) goes.
    """
    start = packet.ip_header + 20
    raw = bytearray(packet.raw)
    for kind, value in packet.options:
        size = 1 if kind == 1 else 2 + len(value)
        if kind in kinds and (kind != EXPERIMENTAL or value[:2] == FAST_OPEN_MAGIC):
            raw[start : start + size] = b"\x01" * size
        start += size
    return _finished(raw, packet.ip_header)


def with_payload(packet: Packet, payload: bytes) -> Packet:
    """The same segment header with another payload."""
    end = packet.ip_header + (packet.raw[packet.ip_header + 12] >> 4) * 4
    return _finished(bytearray(packet.raw[:end] + payload), packet.ip_header)


def with_addresses(packet: Packet, *, src: str | None = None, dst: str | None = None) -> Packet:
    """The same packet from or to another address, as NAT does."""
    size, at = (4, 12) if packet.version == 4 else (16, 8)
    raw = bytearray(packet.raw)
    if src is not None:
        raw[at : at + size] = ipaddress.ip_address(src).packed
    if dst is not None:
        raw[at + size : at + 2 * size] = ipaddress.ip_address(dst).packed
    return _finished(raw, packet.ip_header)


def reset_to(packet: Packet) -> Packet:
    """The RST that refuses this segment, as RFC 9293 section 3.10.7.1 says."""
    seq, ack, flags = (
        0,
        (packet.seq + packet.payload_length + bool(packet.flags & SYN)) & 0xFFFFFFFF,
        RST | ACK,
    )
    if packet.flags & ACK:
        seq, ack, flags = packet.ack, 0, RST
    header = struct.pack("!HHIIBBHHH", packet.dport, packet.sport, seq, ack, 5 << 4, flags, 0, 0, 0)
    return _packet(packet.dst, packet.src, TCP, header)


def end_of(packet: Packet, flags: int) -> Packet:
    """The sender's own end, RST or FIN, in place of this segment."""
    header = struct.pack(
        "!HHIIBBHHH", packet.sport, packet.dport, packet.seq, packet.ack, 5 << 4, flags | ACK, 0, 0, 0
    )
    return _packet(packet.src, packet.dst, TCP, header)


def unreachable(packet: Packet) -> Packet:
    """The ICMP message of a firewall: administratively prohibited (3/13, for IPv6 1/1)."""
    return _icmp(packet, UNREACHABLE[packet.version], 0)


def too_big(packet: Packet, mtu: int) -> Packet:
    """The ICMP message of a router whose next link has this MTU (3/4, for IPv6 2/0)."""
    return _icmp(packet, TOO_BIG[packet.version], mtu)


def _icmp(packet: Packet, kind: tuple[int, int], word: int) -> Packet:
    quoted = packet.raw[: packet.ip_header + 60]
    message = struct.pack("!BBHI", *kind, 0, word) + quoted
    return _packet(ROUTER[packet.version], packet.src, ICMP if packet.version == 4 else ICMPV6, message)


def _packet(src: str, dst: str, protocol: int, body: bytes) -> Packet:
    source, destination = ipaddress.ip_address(src).packed, ipaddress.ip_address(dst).packed
    if len(source) == 4:
        header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0x4000, 64, protocol, 0, source, destination)
    else:
        header = struct.pack("!IHBB16s16s", 6 << 28, 0, protocol, 64, source, destination)
    return _finished(bytearray(header + body), len(header))


def _finished(raw: bytearray, header: int) -> Packet:
    """Set lengths and checksums, and decode."""
    if raw[0] >> 4 == 4:
        raw[2:4] = len(raw).to_bytes(2, "big")
        raw[10:12] = b"\0\0"
        raw[10:12] = checksum(bytes(raw[:header])).to_bytes(2, "big")
        protocol, addresses = raw[9], bytes(raw[12:20])
    else:
        raw[4:6] = (len(raw) - 40).to_bytes(2, "big")
        protocol, addresses = raw[6], bytes(raw[8:40])
    field = header + (16 if protocol == TCP else 2)
    raw[field : field + 2] = b"\0\0"
    body = bytes(raw[header:])
    pseudo = addresses + struct.pack("!II", len(body), protocol) if protocol != ICMP else b""
    raw[field : field + 2] = checksum(pseudo + body).to_bytes(2, "big")
    packet = decode(bytes(raw))
    if packet is None:
        raise ValueError("a rewritten packet must still be one")
    return packet
