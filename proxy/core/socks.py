"""SOCKS5 (RFC 1928, RFC 1929) and SOCKS4 with 4a, as a server hears them: CONNECT, and no more.

`opening` reads what a client says first. SOCKS5 takes two or three turns; each is a parser of its own. A client that
says everything at once, without waiting for our part of the talk, is understood too.
"""

from __future__ import annotations

import ipaddress
from functools import partial

from proxy.core.address import BadAddress, Target
from proxy.core.outcomes import Reason
from proxy.core.reader import NotMine, Parser, Reader, TooLong
from proxy.core.request import Credentials, Opening, Refused, Request, Turn, target_of

__all__ = ["LIMIT", "opening"]

LIMIT = 1024  # the longest part is SOCKS4a's: nine bytes, a user's name, a host's

_CONNECT = 1
_NO_LOGIN, _PASSWORD, _NO_METHOD = 0, 2, 0xFF
_LONGEST_USER, _LONGEST_NAME = 512, 256

# RFC 1928 section 6. Timeouts are "TTL expired", as in Tor: the one code of the list that says the network was tried.
_CODES = {
    Reason.DENIED: 2,
    Reason.NOT_ALLOWED: 2,
    Reason.LOOP: 2,
    Reason.LIMITED: 2,
    Reason.NOT_PERMITTED: 2,
    Reason.NET_UNREACHABLE: 3,
    Reason.UNREACHABLE: 4,
    Reason.NO_SUCH_HOST: 4,
    Reason.REFUSED: 5,
    Reason.CONNECT_TIMEOUT: 6,
}
_FAILURE, _BAD_COMMAND, _BAD_ADDRESS_KIND = 1, 7, 8
_GRANTED4, _REFUSED4 = 0x5A, 0x5B


def opening(reader: Reader, *, login: bool = False) -> Parser[Opening]:
    """The first turn of either version; ``login``: users must say who they are.

    Raises `NotMine` for other protocols, `Refused` and `Malformed`.
    """
    version = yield from reader.peek(1)
    if version == b"\x05":
        return (yield from _greeting(reader, login))
    if version == b"\x04":
        return (yield from _request4(reader, login))
    raise NotMine("neither SOCKS4 nor SOCKS5")


def _greeting(reader: Reader, login: bool) -> Parser[Opening]:
    """Which ways to authenticate the client knows (RFC 1928, 3)."""
    _, count = yield from reader.read_exactly(2)
    methods = yield from reader.read_exactly(count)
    wanted = _PASSWORD if login else _NO_LOGIN
    if wanted not in methods:
        detail = "the client offers no password" if login else "the client insists on authentication"
        raise Refused(Reason.NOT_AUTHENTICATED, detail, bytes([5, _NO_METHOD]))
    return _TOLD_TO_LOG_IN if login else _TOLD_TO_GO_ON


def _password(reader: Reader) -> Parser[Opening]:
    """A name and a password (RFC 1929, 2)."""
    version = yield from reader.read_byte()
    if version != 1:
        raise Refused(Reason.BAD_REQUEST, f"version {version} of username/password", b"\x01\x01")
    words: list[str] = []
    for _ in range(2):
        size = yield from reader.read_byte()
        word = yield from reader.read_exactly(size)
        words.append(word.decode(errors="replace"))
    credentials = Credentials(*words)
    return Turn(b"\x01\x00", lambda user: partial(_request5, user=user), credentials, rejected=b"\x01\x01")


def _request5(reader: Reader, user: str | None) -> Parser[Opening]:
    """Where to (RFC 1928, 4)."""
    version, command, reserved, kind = yield from reader.read_exactly(4)
    if version != 5 or reserved != 0:
        raise Refused(Reason.BAD_REQUEST, "not a SOCKS5 request", _reply5(_FAILURE))
    if kind == 3:
        size = yield from reader.read_byte()
        host = _name((yield from reader.read_exactly(size)), _reply5(_FAILURE))
    elif kind in {1, 4}:
        host = str(ipaddress.ip_address((yield from reader.read_exactly(4 if kind == 1 else 16))))
    else:
        raise Refused(Reason.BAD_REQUEST, f"address type {kind}", _reply5(_BAD_ADDRESS_KIND))
    port = yield from reader.read_uint16()
    if command != _CONNECT:
        raise Refused(Reason.BAD_REQUEST, f"command {command}; only CONNECT is served", _reply5(_BAD_COMMAND))
    target = _target(host, port, _reply5(_FAILURE))
    return Request("socks5", target, granted=_reply5(0), refused=_refused5, user=user)


def _request4(reader: Reader, login: bool) -> Parser[Opening]:
    """All of SOCKS4, and of 4a, whose address 0.0.0.x says that a name follows."""
    _, command = yield from reader.read_exactly(2)
    port = yield from reader.read_uint16()
    address = yield from reader.read_exactly(4)
    host = str(ipaddress.IPv4Address(address))
    try:
        yield from reader.read_until(b"\0", _LONGEST_USER)
        if address[:3] == b"\0\0\0" and address[3]:
            host = _name((yield from reader.read_until(b"\0", _LONGEST_NAME)), _reply4(_REFUSED4))
    except TooLong as error:
        raise Refused(Reason.BAD_REQUEST, str(error), _reply4(_REFUSED4)) from None
    if command != _CONNECT:
        raise Refused(Reason.BAD_REQUEST, f"command {command}; only CONNECT is served", _reply4(_REFUSED4))
    if login:
        raise Refused(Reason.NOT_AUTHENTICATED, "SOCKS4 has no passwords", _reply4(_REFUSED4))
    target = _target(host, port, _reply4(_REFUSED4))
    return Request("socks4", target, granted=_reply4(_GRANTED4), refused=_refused4)


_of_anybody = partial(_request5, user=None)
_TOLD_TO_LOG_IN = Turn(bytes([5, _PASSWORD]), lambda _: _password)
_TOLD_TO_GO_ON = Turn(bytes([5, _NO_LOGIN]), lambda _: _of_anybody)


def _name(name: bytes, reply: bytes) -> str:
    """A host name in ASCII or UTF-8; others are refused with ``reply``."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise Refused(Reason.BAD_REQUEST, "a host name that is not UTF-8", reply) from None


def _target(host: str, port: int, reply: bytes) -> Target:
    try:
        return target_of(host, port)
    except BadAddress as error:
        raise Refused(Reason.BAD_REQUEST, str(error), reply) from None


def _reply5(code: int) -> bytes:
    """RFC 1928, 6. The address we are bound to is nobody's business; most servers say 0.0.0.0:0."""
    return bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0])


def _reply4(code: int) -> bytes:
    return bytes([0, code, 0, 0, 0, 0, 0, 0])


def _refused5(reason: Reason, detail: str) -> bytes:  # noqa: ARG001  # the shape of `Request.refused`
    return _reply5(_CODES.get(reason, _FAILURE))


def _refused4(reason: Reason, detail: str) -> bytes:  # noqa: ARG001  # as above
    return _reply4(_REFUSED4)
