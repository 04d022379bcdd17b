"""The PROXY protocol, versions 1 and 2 (HAProxy's doc/proxy-protocol.txt): the addresses of the original connection.

`header` reads either version, `version1` and `version2` write them. Only TCP addresses are used; valid headers of other
families count as "unspecified", which the specification asks of receivers that do not support them (section 2.2).
An IPv4-mapped IPv6 address is read as the IPv4 address. A CRC32C extension (TLV) is verified.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

from proxy.core.address import Endpoint
from proxy.core.reader import Malformed, NotMine, Parser, Reader, TooLong

__all__ = [
    "LIMIT", "MOST_EXTENSIONS", "SIGNATURE", "Proxied", "crc32c", "header", "summed", "unsummed", "version1",
    "version2",
]  # fmt: skip

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LIMIT = 4096 + 16  # bytes of a header; the longest that are seen carry a certificate's name or two
MOST_EXTENSIONS = 256  # senders add fewer than 20; zeros as padding count as one for each three bytes
PP2_CRC32C = 0x03

_LONGEST_LINE = 107
_FIXED = Struct("!12sBBH")
_TWO = Struct("!HH")
_MAPPED = bytes(10) + b"\xff\xff"
_line = re.compile(
    r"TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\Z"
).match


# Address bytes of each family that a PROXY command may carry (section 2.2); unspecified ones may be of any size.
_ADDRESSES = {0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36, 0x31: 216, 0x32: 216}


class Proxied(NamedTuple):
    """What a header says. Without ``source`` the connection's own addresses count: LOCAL, UNKNOWN, or not TCP."""

    source: Endpoint | None = None
    destination: Endpoint | None = None
    extensions: tuple[tuple[int, bytes], ...] = ()


def header(reader: Reader, most: int = LIMIT) -> Parser[Proxied]:
    """Read one header of at most ``most`` bytes.

    Raises `NotMine` at the first byte that cannot belong to a header, `TooLong` as soon as its size is known, else
    `Malformed`. The work is linear in the header's bytes: the checksum is computed once, after all other checks.
    """
    first = yield from reader.peek(1)
    if first == b"P":
        yield from _expect(reader, b"PROXY ")
        line = yield from reader.read_until(b"\r\n", _LONGEST_LINE - 6)
        return _parse_line(line)
    yield from _expect(reader, SIGNATURE)
    version, family, size = Struct("!BBH").unpack((yield from reader.read_exactly(4)))
    if version not in {0x20, 0x21}:
        raise Malformed(f"version and command {version:#x}")
    if size > most - 16:
        raise TooLong(f"a header of {size + 16} bytes; at most {most} are read")
    body = yield from reader.read_exactly(size)
    if version == 0x20:
        return Proxied()  # LOCAL: the family and the whole block are ignored (section 2.2)
    whole = bytes(reader.data[reader.position - size - 16 : reader.position])
    return _parse_body(family, body, whole)


def version1(source: Endpoint | None, destination: Endpoint | None) -> bytes:
    """The line with both addresses; ``UNKNOWN`` where one is missing.

    Addresses of two families are both written as IPv6 (IPv4-mapped), as HAProxy does.
    """
    packed = _packed(source, destination)
    if packed is None:
        return b"PROXY UNKNOWN\r\n"
    assert source is not None
    assert destination is not None
    family = 4 if len(packed[0]) == 4 else 6
    texts = " ".join(_text_of(one) for one in packed)
    return f"PROXY TCP{family} {texts} {source.port} {destination.port}\r\n".encode()


def version2(
    source: Endpoint | None, destination: Endpoint | None, extensions: Iterable[tuple[int, bytes]] = ()
) -> bytes:
    """The binary header; family "unspecified" where an address is missing (the receiver keeps what it sees).

    Addresses of two families are both written as IPv6. The value of a PP2_TYPE_CRC32C among ``extensions`` is
    computed here, whatever was given.
    """
    return summed(*unsummed(source, destination, extensions))


def unsummed(
    source: Endpoint | None, destination: Endpoint | None, extensions: Iterable[tuple[int, bytes]] = ()
) -> tuple[bytearray, int]:
    """A `version2` header with zeros for its checksum, and where the checksum belongs (-1: nowhere)."""
    packed = _packed(source, destination)
    family, body, crc_at = 0, bytearray(), -1
    if packed is not None:
        assert source is not None
        assert destination is not None
        family = 0x11 if len(packed[0]) == 4 else 0x21
        body += packed[0] + packed[1] + _TWO.pack(source.port, destination.port)
    for kind, value in extensions:
        if kind == PP2_CRC32C:
            crc_at, value = 16 + len(body) + 3, bytes(4)  # noqa: PLW2901  # what is summed holds zeros there
        body += bytes([kind]) + len(value).to_bytes(2, "big") + value
    return bytearray(_FIXED.pack(SIGNATURE, 0x21, family, len(body)) + body), crc_at


def summed(whole: bytearray, crc_at: int) -> bytes:
    """The header that `unsummed` returned, with its checksum filled in."""
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
        source, destination = _normal(kind(match[2]).packed), _normal(kind(match[3]).packed)
    except ValueError:
        raise Malformed("an address in a PROXY line that is none") from None
    if int(match[4]) > 65535 or int(match[5]) > 65535:
        raise Malformed("a port in a PROXY line that is none")
    return Proxied(Endpoint(source, int(match[4])), Endpoint(destination, int(match[5])))


def _parse_body(family: int, body: bytes, whole: bytes) -> Proxied:
    if family >> 4 > 3 or family & 15 > 2:
        raise Malformed(f"family and protocol {family:#x}")
    if family not in _ADDRESSES:
        return Proxied(extensions=_unspecified(body, whole))
    size = _ADDRESSES[family]
    if len(body) < size:
        raise Malformed("a header too short for its addresses")
    extensions = _extensions(body[size:])
    _verify_sum(extensions, whole)
    if family not in {0x11, 0x21}:
        return Proxied(extensions=extensions)
    width = (size - _TWO.size) // 2
    source_port, destination_port = _TWO.unpack(body[size - _TWO.size : size])
    source, destination = _normal(body[:width]), _normal(body[width : 2 * width])
    return Proxied(Endpoint(source, source_port), Endpoint(destination, destination_port), extensions)


def _unspecified(body: bytes, whole: bytes) -> tuple[tuple[int, bytes], ...]:
    """The extensions behind an unspecified address; none where the block holds something else, which is skipped."""
    try:
        extensions = _extensions(body)
    except Malformed:
        return ()
    _verify_sum(extensions, whole)
    return extensions


def _extensions(data: bytes) -> tuple[tuple[int, bytes], ...]:
    """The type and value of each TLV; raises `Malformed`."""
    found: list[tuple[int, bytes]] = []
    position, sums = 0, 0
    while position < len(data):
        if len(found) == MOST_EXTENSIONS:
            raise Malformed(f"more than {MOST_EXTENSIONS} extensions")
        if position + 3 > len(data):
            raise Malformed("an extension that is cut off")
        kind, size = data[position], int.from_bytes(data[position + 1 : position + 3], "big")
        value = data[position + 3 : position + 3 + size]
        if len(value) < size:
            raise Malformed("an extension that is cut off")
        if kind == PP2_CRC32C:
            sums += 1
            if sums > 1 or size != 4:
                raise Malformed("a second checksum, or one that is not 4 bytes long")
        found.append((kind, value))
        position += 3 + size
    return tuple(found)


def _verify_sum(extensions: tuple[tuple[int, bytes], ...], whole: bytes) -> None:
    """Check the CRC32C among the ``extensions`` at the end of ``whole`` (section 2.2.3); raises `Malformed`."""
    end = len(whole)
    for kind, value in reversed(extensions):
        if kind == PP2_CRC32C:
            if crc32c(whole[: end - 4] + bytes(4) + whole[end:]).to_bytes(4, "big") != value:
                raise Malformed("a checksum that is wrong")
            return
        end -= 3 + len(value)


def _packed(source: Endpoint | None, destination: Endpoint | None) -> tuple[bytes, bytes] | None:
    """Both addresses in bytes of one family; None where one is missing or no IP."""
    if source is None or destination is None or source.is_unix or destination.is_unix:
        return None
    first, second = (ipaddress.ip_address(end.host.partition("%")[0]).packed for end in (source, destination))
    if len(first) != len(second):
        first, second = (_MAPPED + one if len(one) == 4 else one for one in (first, second))
    return first, second


def _normal(packed: bytes) -> str:
    """The text of an address; that of the IPv4 address where it is IPv4-mapped (RFC 4291, 2.5.5.2)."""
    return str(ipaddress.ip_address(packed[12:] if packed[:12] == _MAPPED else packed))


def _text_of(packed: bytes) -> str:
    if packed[:12] == _MAPPED:
        high, low = _TWO.unpack(packed[12:])
        return f"::ffff:{high:x}:{low:x}"  # version 1 has no dots in IPv6 addresses (section 2.1)
    return str(ipaddress.ip_address(packed))


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
