"""How another proxy is asked for a connection: what is said to it and what must be heard, step by step.

SOCKS5 (RFC 1928, RFC 1929) and HTTP CONNECT (RFC 9110 section 9.3.6). What is said never depends on what is heard, so
all steps may be said at once. Behind a CONNECT only bytes that begin no HTTP request may go before the gateway has
agreed: a gateway that refuses and reads on would take them for a request of ours (RFC 9931, section 5).
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from typing import NamedTuple

from proxy.core.address import Authority, Target, join_host_port
from proxy.core.clusters import Via
from proxy.core.networks import numeric
from proxy.core.outcomes import Reason
from proxy.core.reader import Malformed, Parser, Reader

MOST_REPLY = 64 * 1024  # bytes of all heads that answer a CONNECT
_STATUS = re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})(?: [\x20-\x7e\x80-\xff\t]*)?\Z")
_TLS_HANDSHAKE = b"\x16\x03"  # a record's type and major version (RFC 8446, 5.1); no HTTP method begins so
_SOCKS_REASONS = {
    1: (Reason.UNREACHABLE, "general failure"),
    2: (Reason.NOT_PERMITTED, "not allowed by its rules"),
    3: (Reason.NET_UNREACHABLE, "network unreachable"),
    4: (Reason.UNREACHABLE, "host unreachable"),
    5: (Reason.REFUSED, "connection refused"),
    6: (Reason.CONNECT_TIMEOUT, "TTL expired"),
    7: (Reason.NOT_PERMITTED, "command not supported"),
    8: (Reason.UNREACHABLE, "address type not supported"),
}
_HTTP_REASONS = {403: Reason.NOT_PERMITTED, 407: Reason.NOT_PERMITTED, 504: Reason.CONNECT_TIMEOUT}


class Declined(Exception):
    """The gateway says no; nothing has been delivered through it."""

    def __init__(self, reason: Reason, why: str) -> None:
        super().__init__(why)
        self.reason = reason


class Step(NamedTuple):
    """``hear`` reads the whole answer to ``say``; it raises `Declined` and `Malformed`."""

    say: bytes
    hear: Callable[[Reader], Parser[None]]


def steps(via: Via, destination: Target, came_through: bytes = b"") -> tuple[Step, ...]:
    """What has to be said and heard until the connection to ``destination`` stands.

    ``came_through`` are the proxies before the gateway, as a ``Via`` field names them (RFC 9110, 7.6.3).
    """
    if via.kind == "http":
        return (Step(_connect_request(via, destination, came_through), _hear_status),)
    request = Step(b"\x05\x01\x00" + _socks_address(destination), _hear_reply)
    if via.user is None:
        return (Step(b"\x05\x01\x00", _hear_method), request)
    user, password = via.user.encode(), (via.password or "").encode()
    login = b"\x01" + bytes([len(user)]) + user + bytes([len(password)]) + password
    return (Step(b"\x05\x01\x02", _hear_login_method), Step(login, _hear_login), request)


def may_follow(via: Via, data: bytes) -> bool:
    """Whether ``data`` may be sent behind the steps before the gateway has answered them."""
    return via.kind != "http" or not data or data.startswith(_TLS_HANDSHAKE)


def _connect_request(via: Via, destination: Target, came_through: bytes) -> bytes:
    """A CONNECT. ``Connection: close`` asks the gateway to read nothing more where it refuses (RFC 9931, section 5)."""
    authority = join_host_port(*destination)
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", "Connection: close"]
    if via.user is not None:
        credentials = b64encode(f"{via.user}:{via.password or ''}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {credentials}")
    if came_through:
        lines.append(f"Via: {came_through.decode('latin-1')}")
    return "\r\n".join((*lines, "", "")).encode("latin-1")


def _socks_address(destination: Target) -> bytes:
    port = destination.port.to_bytes(2, "big")
    if isinstance(destination, Authority):
        name = destination.host.encode()
        return b"\x03" + bytes([len(name)]) + name + port
    version, number = numeric(destination.host)
    if version == 4:
        return b"\x01" + number.to_bytes(4, "big") + port
    return b"\x04" + number.to_bytes(16, "big") + port


def _hear_method(reader: Reader) -> Parser[None]:
    yield from _method(reader, 0)


def _hear_login_method(reader: Reader) -> Parser[None]:
    yield from _method(reader, 2)


def _method(reader: Reader, wanted: int) -> Parser[None]:
    version, method = yield from reader.read_exactly(2)
    if version != 5:
        raise Malformed("the gateway does not speak SOCKS5")
    if method != wanted:
        needs = {0xFF: "accepts no method that we offer", 2: "wants a user and a password"}
        raise Declined(Reason.NOT_PERMITTED, f"the gateway {needs.get(method, f'chose method {method}')}")


def _hear_login(reader: Reader) -> Parser[None]:
    _, status = yield from reader.read_exactly(2)
    if status != 0:
        raise Declined(Reason.NOT_PERMITTED, "the gateway does not accept the user and password")


def _hear_reply(reader: Reader) -> Parser[None]:
    version, reply, _, kind = yield from reader.read_exactly(4)
    if version != 5:
        raise Malformed("the gateway does not speak SOCKS5")
    if reply != 0:
        reason, words = _SOCKS_REASONS.get(reply, (Reason.UNREACHABLE, f"reply {reply}"))
        raise Declined(reason, f"the gateway says: {words}")
    if kind == 3:
        size = yield from reader.read_byte()
    elif kind in {1, 4}:
        size = 4 if kind == 1 else 16
    else:
        raise Malformed(f"the gateway's reply has an address of type {kind}")
    yield from reader.read_exactly(size + 2)


def _hear_status(reader: Reader) -> Parser[None]:
    """The final answer to a CONNECT, after any number of interim ones (RFC 9110, 15.2)."""
    while True:
        line = yield from _read_line(reader)
        match = _STATUS.match(line)
        if match is None:
            raise Malformed("the gateway does not speak HTTP/1")
        while (yield from _read_line(reader)):
            pass  # a 2xx to CONNECT has no body, whatever its headers say (RFC 9110, 9.3.6)
        status = int(match.group(1))
        if 200 <= status < 300:
            return
        if status == 101 or not 100 <= status < 200:
            words = line.partition(b" ")[2].decode("latin-1")
            raise Declined(_HTTP_REASONS.get(status, Reason.UNREACHABLE), f"the gateway says: {words}")


def _read_line(reader: Reader) -> Parser[bytes]:
    """A line without its end: CRLF, or a bare LF (RFC 9112, 2.2)."""
    line = yield from reader.read_until(b"\n", MOST_REPLY)
    return line.removesuffix(b"\r")
