"""The PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt): who a connection really comes from.

`header` reads either; `version1` and `version2` write them. Only streams are known. In version 2 all extensions
(TLVs) are kept as they came, and a checksum among them is checked.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

from proxy.core.address import Endpoint
from proxy.core.reader import Malformed, NotMine, Parser, Reader, TooLong

__all__ = ["LIMIT", "SIGNATURE", "Proxied", "crc32c", "header", "summed", "unsummed", "version1", "version2"]

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LIMIT = 4096 + 16  # bytes of a header; the longest that are seen carry a certificate's name or two
PP2_CRC32C = 0x03

_LONGEST_LINE = 107
_FIXED = Struct("!12sBBH")
_PORTS = Struct("!HH")
_line = re.compile(
    r"TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\Z"
).match


class Proxied(NamedTuple):
    """What a header says; without ``source`` the connection is the proxy's own, or it does not know."""

    source: Endpoint | None = None
    destination: Endpoint | None = None
    extensions: tuple[tuple[int, bytes], ...] = ()


def header(reader: Reader) -> Parser[Proxied]:
    """Read one header; raises `NotMine` at the first byte that cannot belong to one, else `Malformed`."""
    first = yield from reader.peek(1)
    if first == b"P":
        yield from _expect(reader, b"PROXY ")
        line = yield from reader.read_until(b"\r\n", _LONGEST_LINE - 6)
        return _parse_line(line)
    yield from _expect(reader, SIGNATURE)
    version, family, size = Struct("!BBH").unpack((yield from reader.read_exactly(4)))
    if version not in {0x20, 0x21}:
        raise Malformed(f"version and command {version:#x}")
    if size > LIMIT - 16:
        raise TooLong(f"a header of {size} bytes")
    body = yield from reader.read_exactly(size)
    whole = bytes(reader.data[reader.position - size - 16 : reader.position])
    return _parse_body(version & 1, family, body, whole)


def version1(source: Endpoint | None, destination: Endpoint | None) -> bytes:
    """The line that says where a connection comes from and went to; ``UNKNOWN`` where that is not known."""
    if source is None or destination is None or source.is_ipv6 is not destination.is_ipv6:
        return b"PROXY UNKNOWN\r\n"
    family = 6 if source.is_ipv6 else 4
    return f"PROXY TCP{family} {source[0]} {destination[0]} {source[1]} {destination[1]}\r\n".encode()


def version2(
    source: Endpoint | None, destination: Endpoint | None, extensions: Iterable[tuple[int, bytes]] = ()
) -> bytes:
    """The same in binary; without addresses it is the family "unspecified" (the receiver keeps what it sees).

    A PP2_TYPE_CRC32C among the extensions is computed, whatever its value.
    """
    return summed(*unsummed(source, destination, extensions))


def unsummed(
    source: Endpoint | None, destination: Endpoint | None, extensions: Iterable[tuple[int, bytes]] = ()
) -> tuple[bytearray, int]:
    """The same with zeros for a checksum, and where the checksum belongs; -1: nowhere."""
    if source is None or destination is None or source.is_ipv6 is not destination.is_ipv6:
        family, addresses = 0, b""
    else:
        family = 0x21 if source.is_ipv6 else 0x11
        packed = ipaddress.ip_address(source[0]).packed + ipaddress.ip_address(destination[0]).packed
        addresses = packed + _PORTS.pack(source[1], destination[1])
    body, crc_at = bytearray(addresses), -1
    for kind, value in extensions:
        if kind == PP2_CRC32C:
            crc_at, value = 16 + len(body) + 3, bytes(4)  # noqa: PLW2901  # what is summed holds zeros there
        body += bytes([kind]) + len(value).to_bytes(2, "big") + value
    return bytearray(_FIXED.pack(SIGNATURE, 0x21, family, len(body)) + body), crc_at


def summed(whole: bytearray, crc_at: int) -> bytes:
    """What `unsummed` gave, with its checksum."""
    if crc_at >= 0:
        whole[crc_at : crc_at + 4] = crc32c(bytes(whole)).to_bytes(4, "big")
    return bytes(whole)


def _expect(reader: Reader, words: bytes) -> Parser[None]:
    for size in range(1, len(words) + 1):
        seen = yield from reader.peek(size)
        if seen != words[:size]:
            raise NotMine("not a PROXY protocol header")
    reader.position += len(words)


def _parse_line(line: bytes) -> Proxied:
    text = line.decode("ascii", "replace")
    if text == "UNKNOWN" or text.startswith("UNKNOWN "):
        return Proxied()
    match = _line(text)
    if match is None:
        raise Malformed("a PROXY line that is not one")
    kind = ipaddress.IPv4Address if match[1] == "4" else ipaddress.IPv6Address
    try:
        source, destination = str(kind(match[2])), str(kind(match[3]))
    except ValueError:
        raise Malformed("an address in a PROXY line that is none") from None
    if int(match[4]) > 65535 or int(match[5]) > 65535:
        raise Malformed("a port in a PROXY line that is none")
    return Proxied(Endpoint(source, int(match[4])), Endpoint(destination, int(match[5])))


def _parse_body(command: int, family: int, body: bytes, whole: bytes) -> Proxied:
    sizes = {0x00: 0, 0x11: 4, 0x21: 16, 0x31: 108}
    if family not in sizes:
        raise Malformed(f"family {family:#x}, which is no stream's")
    width = sizes[family]
    skipped = 2 * width + (4 if family in {0x11, 0x21} else 0)
    if len(body) < skipped:
        raise Malformed("a header too short for its addresses")
    if not command:
        return Proxied()  # LOCAL: the rest is to be skipped, whatever it is (proxy-protocol.txt, 2.2)
    extensions = _extensions(body[skipped:], whole)
    if family not in {0x11, 0x21}:
        return Proxied(extensions=extensions)
    source_port, destination_port = _PORTS.unpack(body[2 * width : skipped])
    source = str(ipaddress.ip_address(body[:width]))
    destination = str(ipaddress.ip_address(body[width : 2 * width]))
    return Proxied(Endpoint(source, source_port), Endpoint(destination, destination_port), extensions)


def _extensions(data: bytes, whole: bytes) -> tuple[tuple[int, bytes], ...]:
    found: list[tuple[int, bytes]] = []
    position = 0
    while position < len(data):
        if position + 3 > len(data):
            raise Malformed("an extension that is cut off")
        kind, size = data[position], int.from_bytes(data[position + 1 : position + 3], "big")
        value = data[position + 3 : position + 3 + size]
        if len(value) < size:
            raise Malformed("an extension that is cut off")
        if kind == PP2_CRC32C:
            _check_sum(value, whole, len(whole) - len(data) + position + 3)
        found.append((kind, value))
        position += 3 + size
    return tuple(found)


def _check_sum(value: bytes, whole: bytes, at: int) -> None:
    if len(value) != 4 or crc32c(whole[:at] + bytes(4) + whole[at + 4 :]).to_bytes(4, "big") != value:
        raise Malformed("a checksum that is wrong")


def _crc_row(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_CRC = tuple(map(_crc_row, range(256)))


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli; RFC 3720, appendix B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF
