"""A TLS ClientHello (RFC 8446, 4.1.2), read out of as many records as it comes in.

`client_hello` waits for the whole hello and says what is in it. `hello_span` answers at once how many of the
bytes at hand belong to a hello, whole or not. Both check every bound; both refuse a hello above `MAX_HELLO`.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from proxy.core.reader import Malformed, NotMine, Parser, Reader, TooLong

__all__ = ["MAX_HELLO", "ClientHello", "HelloSpan", "client_hello", "hello_span"]

MAX_HELLO = 65_536
"""Bytes of handshake message. Hellos with post-quantum shares are near 2,000; OpenSSL stops at 131,396."""

_MAX_RECORD = 16_384
_MIN_HELLO = 45  # everything that has no extensions and the shortest vectors
_HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME, _ALPN, _PRE_SHARED_KEY, _EARLY_DATA, _ECH = 0, 16, 41, 42, 0xFE0D
_HOST_NAME = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_.:")

_record_header = Struct("!BBBH").unpack_from
_uint16 = Struct("!H").unpack_from
_two_uint16 = Struct("!HH").unpack_from


class ClientHello(NamedTuple):
    """What of a ClientHello matters to a relay."""

    server_name: str | None
    """Lower case, as sent otherwise; under ECH it is the outer, public name."""
    alpn: tuple[bytes, ...]
    """Protocol names in the client's order."""
    has_early_data: bool
    """0-RTT application data follows the hello. It must never be sent twice."""
    has_ech: bool
    """An encrypted_client_hello extension is there; clients also send random ones (GREASE ECH)."""


class HelloSpan(NamedTuple):
    """How many leading bytes are a ClientHello with its record headers, and whether that is all of it."""

    length: int
    complete: bool


class _Short(Exception):
    """The hello goes on past the bytes at hand."""


def client_hello(reader: Reader) -> Parser[ClientHello]:
    """Read one ClientHello; consumes its records and nothing behind them.

    Raises `NotMine` if the first two bytes are not a TLS handshake record, else `Malformed` or `TooLong`.
    """
    first = yield from reader.peek(1)
    if first[0] != _HANDSHAKE:
        raise NotMine("not a TLS handshake record")
    message = bytearray()
    size = 4
    wrong: type[Exception] = NotMine
    while len(message) < size:
        header = yield from reader.read_exactly(5)
        length = _record_length(header, 0, wrong)
        wrong = Malformed
        message += yield from reader.read_exactly(length)
        size = _message_size(message)
    return _parse(bytes(message), size)


def hello_span(data: bytes) -> HelloSpan:
    """Measure the ClientHello at the start of `data`, in one pass and without waiting.

    Where the hello goes on past the end of `data`, all of `data` belongs to it, as far as one can see.
    Raises as `client_hello` does, and for a wrong hello as soon as the wrong byte is there.
    """
    message = b""
    position, announced, size = 0, 0, 4
    end = len(data)
    while announced < size and position + 5 <= end:
        length = _record_length(data, position, Malformed if position else NotMine)
        message += data[position + 5 : position + 5 + length]
        position += 5 + length
        announced += length
        size = _message_size(message)
    if announced < size and position < end:
        _check_partial_header(data[position:])
    if len(message) < 4:
        return HelloSpan(end, complete=False)
    if announced > size:
        raise Malformed("bytes behind the ClientHello in its record")
    try:
        _parse(message, size)
    except _Short:
        return HelloSpan(end, complete=False)
    return HelloSpan(position, complete=True)


def _record_length(data: bytes, position: int, wrong: type[Exception]) -> int:
    kind, major, minor, length = _record_header(data, position)
    if major != 3 or minor > 4 or kind != _HANDSHAKE:
        raise wrong("not a TLS handshake record")
    if not 0 < length <= _MAX_RECORD:
        raise Malformed(f"a handshake record of {length} bytes")
    return int(length)


def _check_partial_header(header: bytes) -> None:
    if not b"\x16\x03".startswith(header[:2]) or header[2:3] > b"\x04":
        raise Malformed("not a TLS handshake record")


def _message_size(message: bytes | bytearray) -> int:
    """The size of the handshake message, its own header included; 4 while that header is still to come."""
    if message and message[0] != _CLIENT_HELLO:
        raise Malformed("a handshake that does not begin with a ClientHello")
    if len(message) < 4:
        return 4
    size = 4 + int.from_bytes(message[1:4], "big")
    if size < _MIN_HELLO:
        raise Malformed(f"a ClientHello of {size} bytes")
    if size > MAX_HELLO:
        raise TooLong(f"a ClientHello of {size} bytes")
    return size


def _parse(message: bytes, size: int) -> ClientHello:
    """Parse a handshake message of `size` bytes; `_Short` if some are still to come and all fits so far."""
    if len(message) > size:
        raise Malformed("bytes behind the ClientHello in its record")
    if len(message) > 4 and message[4] != 3:
        raise Malformed("a ClientHello of an unknown version")
    session, ciphers = _vector(message, 38, size, 1)
    if ciphers - session > 32:
        raise Malformed("a session id longer than 32 bytes")
    ciphers, compressions = _vector(message, ciphers, size, 2)
    if compressions == ciphers or (compressions - ciphers) % 2:
        raise Malformed("no cipher suites, or half a one")
    compressions, extensions = _vector(message, compressions, size, 1)
    if extensions == compressions:
        raise Malformed("no compression methods")
    if extensions < size:
        extensions, end = _vector(message, extensions, size, 2)
        if end != size:
            raise Malformed("the extensions do not end where the ClientHello ends")
    elif len(message) < size:
        raise _Short
    return _parse_extensions(message, extensions, size)


def _vector(message: bytes, position: int, size: int, width: int) -> tuple[int, int]:
    """Where the vector with a length of `width` bytes at `position` begins and ends, come or to come."""
    start = position + width
    if start > len(message):
        raise _past_the_end(start, size)
    end = start + int.from_bytes(message[position:start], "big")
    if end > size:
        raise Malformed("a vector longer than the ClientHello it is in")
    return start, end


def _parse_extensions(message: bytes, position: int, size: int) -> ClientHello:
    have = len(message)
    seen: dict[int, bytes] = {}
    kind = -1
    while position < size:
        start = position + 4
        if start > have:
            raise _past_the_end(start, size)
        kind, length = _two_uint16(message, position)
        position = start + length
        if kind in seen:
            raise Malformed(f"extension {kind} twice")
        if position > have:
            raise _past_the_end(position, size)
        seen[kind] = message[start:position]
    if _PRE_SHARED_KEY in seen and kind != _PRE_SHARED_KEY:
        raise Malformed("pre_shared_key is not the last extension")
    name, names = seen.get(_SERVER_NAME), seen.get(_ALPN)
    return ClientHello(
        None if name is None else _server_name(name),
        () if names is None else _protocol_names(names),
        _EARLY_DATA in seen,
        _ECH in seen,
    )


def _past_the_end(position: int, size: int) -> Exception:
    """What it means that the bytes end before `position`."""
    return (
        _Short() if position <= size else Malformed("a field that goes on behind the end of the ClientHello")
    )


def _server_name(body: bytes) -> str:
    """The one host_name of a ServerNameList (RFC 6066, 3)."""
    if len(body) < 5:
        raise Malformed("a server_name too short to hold a name")
    listed, kind, length = int.from_bytes(body[:2], "big"), body[2], int.from_bytes(body[3:5], "big")
    name = body[5:].lower()
    if kind != 0 or listed != len(body) - 2 or length != len(name):
        raise Malformed("a server_name that is not one host name")
    if not 0 < length <= 255 or not _HOST_NAME.issuperset(name):
        raise Malformed("a server name that is no host name")
    return name.decode("ascii")


def _protocol_names(body: bytes) -> tuple[bytes, ...]:
    """A ProtocolNameList (RFC 7301, 3.1)."""
    if len(body) < 4 or _uint16(body)[0] != len(body) - 2:
        raise Malformed("an ALPN list of the wrong length")
    names: list[bytes] = []
    position = 2
    while position < len(body):
        start = position + 1
        position = start + body[position]
        if position == start or position > len(body):
            raise Malformed("an ALPN name of the wrong length")
        names.append(body[start:position])
    return tuple(names)
