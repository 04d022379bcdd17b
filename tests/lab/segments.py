"""Packets for tests: a SYN as Linux sends it, and whether a packet's checksums hold."""

from __future__ import annotations

import struct

from proxy.lab.packets import SYN, Packet, decode
from proxy.lab.rewrite import checksum, with_payload

# A SYN as tcpdump saw it leave Linux 6.18, with a cookie and 4 bytes of data; checksums as the kernel made them.
COOKIE = bytes.fromhex("a27990dfe584dda7")
OPTIONS = (
    bytes.fromhex("020405b4 0402 080a 0102030405060708 01 03030a") + bytes([34, 10]) + COOKIE + bytes([1, 1])
)


def segment(version: int = 4, options: bytes = OPTIONS, payload: bytes = b"ping", flags: int = SYN) -> Packet:
    offset = (20 + len(options)) // 4 << 4
    tcp = struct.pack("!HHIIBBHHH", 40000, 80, 1000, 0, offset, flags, 64240, 0, 0) + options
    if version == 4:
        header = bytes.fromhex("4500000012344000400600000a4d01010a4d0201")
    else:
        header = bytes.fromhex(
            "6000000000000640" + "fd770001" + 22 * "0" + "01" + "fd770002" + 22 * "0" + "01"
        )
    packet = decode(header + tcp)
    assert packet is not None
    return with_payload(packet, payload)


def checksums_hold(packet: Packet) -> bool:
    """A checksum over data that includes its checksum is zero."""
    body = packet.raw[packet.ip_header :]
    if packet.version == 4 and checksum(packet.raw[: packet.ip_header]):
        return False
    addresses = packet.raw[12:20] if packet.version == 4 else packet.raw[8:40]
    pseudo = b"" if packet.protocol == 1 else addresses + struct.pack("!II", len(body), packet.protocol)
    return checksum(pseudo + body) == 0
