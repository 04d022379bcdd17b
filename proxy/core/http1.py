"""HTTP/1.1 requests to a proxy (RFC 9110, RFC 9112): CONNECT, and requests for ``http://`` URLs, which are forwarded.

A forwarded request leaves in origin form, as HTTP/1.1, with ``Connection: close``: each goes to its server on a
connection of its own. Strict where leniency smuggles: a message that two readers might read differently is refused with
400, and what is sent on is composed anew from what was understood.

``Via`` names this process (RFC 9110, 7.6.3), so that a request that comes back to it is seen, and refused with 508.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import replace
from typing import NamedTuple

from proxy.core.address import BadAddress, join_host_port, split_host_port
from proxy.core.framing import TOKEN, VALUE, Body, Chunked, Sized
from proxy.core.outcomes import Reason
from proxy.core.reader import NotMine, Parser, Reader, TooLong
from proxy.core.request import (
    Credentials,
    Forwarded,
    Opening,
    OpeningParser,
    Refused,
    Request,
    Turn,
    target_of,
)

__all__ = ["LIMIT", "VIA", "opening", "response"]

LIMIT = 65_536  # bytes of a request's head
VIA = b"tfo-proxy"  # the pseudonym in `Via`; a process adds something of its own
_MOST_FIELDS = 200
_MOST_EMPTY_LINES = 8

# Lines are taken apart with `bytes.partition` and checked with `bytes.translate`: in linear time, whatever they hold.
# A regular expression with two neighbouring repeats over the same bytes would try every way to divide them.
_TARGET = bytes(range(0x21, 0x7F)) + bytes(range(0x80, 0x100))  # raw UTF-8 is sent on as it came
_LONGEST_METHOD = 32
_LONGEST_TARGET = 32_768
_LONGEST_AUTHORITY = 255 + len(":65535")  # bytes; a host name has at most 255 (RFC 1035, 2.3.4)
_LONGEST_USER, _LONGEST_PASSWORD = 255, 4096  # characters
_host = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~%!$&'()*+,;=\x80-\xff-]*)(?::[0-9]{0,5})?\Z").match

# Meant for the next hop only (RFC 9110, 7.6.1), and those of old that browsers still send.
_HOP_BY_HOP = frozenset({
    b"connection", b"proxy-connection", b"keep-alive", b"proxy-authorization", b"proxy-authenticate", b"te",
    b"upgrade", b"http2-settings", b"host", b"via",
})  # fmt: skip
_NEVER_HOP_BY_HOP = frozenset({b"host", b"content-length", b"transfer-encoding"})

_STATUS = {
    Reason.BAD_REQUEST: "400 Bad Request",
    Reason.DENIED: "403 Forbidden",
    Reason.NOT_ALLOWED: "403 Forbidden",
    Reason.LOOP: "508 Loop Detected",
    Reason.NOT_AUTHENTICATED: "407 Proxy Authentication Required",
    Reason.LIMITED: "429 Too Many Requests",
    Reason.HANDSHAKE_TIMEOUT: "408 Request Timeout",
    Reason.CONNECT_TIMEOUT: "504 Gateway Timeout",
    Reason.NO_PORTS: "503 Service Unavailable",
    Reason.NO_SOURCE: "503 Service Unavailable",
    Reason.NO_DESCRIPTORS: "503 Service Unavailable",
    Reason.NO_MEMORY: "503 Service Unavailable",
}
_VERSION_NOT_SUPPORTED, _NOT_IMPLEMENTED = "505 HTTP Version Not Supported", "501 Not Implemented"
_GRANTED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_SECRET = frozenset({b"authorization", b"cookie", b"proxy-authorization"})  # not echoed (RFC 9110, 9.3.8)


class _Head(NamedTuple):
    method: bytes
    target: bytes
    minor: int  # 0 or 1
    fields: list[tuple[bytes, bytes]]  # names in lower case
    written: list[tuple[bytes, bytes]]  # names as they came

    def values(self, name: bytes) -> list[bytes]:
        return [value for known, value in self.fields if known == name]

    def words(self, *names: bytes) -> set[bytes]:
        """The comma-separated parts of these fields, in lower case."""
        values = [value for name in names for value in self.values(name)]
        return {word.strip(b" \t").lower() for value in values for word in value.split(b",")} - {b""}


_TLS = "a TLS hello: clients speak to this listener without TLS (a proxy http://..., not https://...)"


def opening(reader: Reader, *, login: bool = False, via: bytes = VIA) -> Parser[Opening]:
    """Read one request's head.

    ``login``: users must say who they are. ``via``: what this process calls itself in ``Via`` fields.
    Raises `NotMine` where the first byte cannot begin a request, and `Refused`.
    """
    first = yield from reader.peek(1)
    if first[0] not in TOKEN and first[0] not in b"\r\n":
        raise NotMine(_TLS if first[0] == 0x16 else "not an HTTP request")
    try:
        head = yield from _read_head(reader)
    except TooLong:
        detail = "the head of the request is too large"
        raise Refused(Reason.BAD_REQUEST, detail, response(Reason.BAD_REQUEST, detail)) from None
    if not login:
        return _opening(head, via)
    rejected = response(
        Reason.NOT_AUTHENTICATED, "a user's name and password are wanted", body=head.method != b"HEAD"
    )
    credentials = _credentials(head)
    if credentials is None:
        raise Refused(Reason.NOT_AUTHENTICATED, "no Proxy-Authorization", rejected)
    return Turn(b"", lambda user: _known(head, via, user), credentials, rejected)


def response(reason: Reason, detail: str, *, body: bool = True, status: str = "") -> bytes:
    """The response that says why not, in plain text. ``status`` replaces the one that ``reason`` has."""
    text = f"tfo-proxy: {detail or reason}\n".encode("ascii", "backslashreplace")
    lines = [
        f"HTTP/1.1 {status or _STATUS.get(reason, '502 Bad Gateway')}",
        "Content-Type: text/plain",
        f"Content-Length: {len(text)}",
        "Connection: close",
    ]
    if reason is Reason.NOT_AUTHENTICATED:
        lines.append('Proxy-Authenticate: Basic realm="tfo-proxy", charset="UTF-8"')
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode() + (text if body else b"")


def _opening(head: _Head, via: bytes) -> Request:
    if any(via in value for value in head.values(b"via")):
        detail = "the request has come through this proxy already"
        raise Refused(Reason.LOOP, detail, response(Reason.LOOP, detail))
    return _connect(head, via) if head.method == b"CONNECT" else _forward(head, via)


def _known(head: _Head, via: bytes, user: str | None) -> OpeningParser:
    """A parser that has read the head already, of a user whose credentials hold."""

    def parser(reader: Reader) -> Parser[Opening]:
        yield from reader.peek(0)
        return replace(_opening(head, via), user=user)

    return parser


def _read_head(reader: Reader) -> Parser[_Head]:
    line = b"\r"
    for _ in range(_MOST_EMPTY_LINES):  # some clients send one behind a body (RFC 9112, 2.2)
        if line not in {b"\r", b""}:
            break
        line = yield from _line(reader)
    method, target, minor = _request_line(line)
    fields: list[tuple[bytes, bytes]] = []
    while (line := (yield from _line(reader))) != b"\r":
        if len(fields) >= _MOST_FIELDS or reader.position > LIMIT:
            raise _bad("the head of the request is too large")
        fields.append(_field(line))
    lower = [(name.lower(), value) for name, value in fields]
    head = _Head(method, target, minor, lower, fields)
    _check_host(head)
    return head


def _line(reader: Reader) -> Parser[bytes]:
    """The next line with its CR, without its LF."""
    return (yield from reader.read_until(b"\n", LIMIT))


def _request_line(line: bytes) -> tuple[bytes, bytes, int]:
    """Method, target and minor version (RFC 9112, 3). A later minor version is read as 1 (RFC 9110, 2.5)."""
    method, _, rest = line.partition(b" ")
    target, _, version = rest.partition(b" ")
    name, _, numbers = version.partition(b"/")
    if not 0 < len(method) <= _LONGEST_METHOD or not 0 < len(target) <= _LONGEST_TARGET:
        raise _bad("this is not a line of HTTP/1.1")
    if method.translate(None, TOKEN) or target.translate(None, _TARGET) or name != b"HTTP":
        raise _bad("this is not a line of HTTP/1.1")
    if (
        len(numbers) != 4
        or not (numbers[:1] + numbers[2:3]).isdigit()
        or (numbers[1:2], numbers[3:]) != (b".", b"\r")
    ):
        raise _bad("this is not a line of HTTP/1.1")
    if numbers[:1] != b"1":
        raise _bad("only HTTP/1.1 is spoken here", _VERSION_NOT_SUPPORTED)
    return method, target, int(numbers[2:3] != b"0")


def _field(line: bytes) -> tuple[bytes, bytes]:
    """Name and value of a header line (RFC 9112, 5)."""
    name, colon, value = line.partition(b":")
    content = value[:-1].strip(b" \t")
    if not name or not colon or value[-1:] != b"\r":
        raise _bad("a header line is not `name: value`")
    if name.translate(None, TOKEN) or content.translate(None, VALUE):
        raise _bad("a header line is not `name: value`")
    return name, content


def _check_host(head: _Head) -> None:
    """RFC 9112, 3.2: exactly one, and sound, in HTTP/1.1."""
    hosts = head.values(b"host")
    if len(hosts) > 1 or (not hosts and head.minor):
        raise _bad("there must be one Host header")
    if hosts and (len(hosts[0]) > _LONGEST_AUTHORITY or _host(hosts[0]) is None):
        raise _bad("the Host header is not a host")


def _connect(head: _Head, via: bytes) -> Request:
    """A tunnel (RFC 9110, 9.3.6). It has no body: what follows is the tunnel's."""
    if head.values(b"transfer-encoding") or any(value != b"0" for value in head.values(b"content-length")):
        raise _bad("CONNECT has no body")
    if len(head.target) > _LONGEST_AUTHORITY:
        raise _bad("the host name is longer than 255 bytes")
    try:
        if b"@" in head.target:
            raise BadAddress("there must be no user in it")
        target = target_of(*split_host_port(_text(head.target)))
    except BadAddress as error:
        raise _bad(f"CONNECT wants host:port; {error}") from None
    return Request("connect", target, granted=_GRANTED, refused=response, via=_via(head, via))


def _forward(head: _Head, via: bytes) -> Request:
    """A request in absolute form (RFC 9112, 3.2.2), rewritten for the server it names."""
    host, port, path = _absolute(head)
    try:
        target = target_of(*split_host_port(_text(host + (port if len(port) > 1 else b":80"))))
    except BadAddress as error:
        raise _bad(f"the URL's host is not one; {error}") from None
    body = _body(head)
    if head.method == b"TRACE" and not body.done:
        raise _bad("TRACE has no body")
    if _max_forwards(head) == 0:
        raise _answered_here(head)
    upgrade = body.done and _wants_upgrade(head)
    authority = host + port if host.isascii() else join_host_port(*target).encode()
    early = _origin_form(head, authority, path, upgrade=upgrade, via=via)
    asked = head.words(b"connection", b"proxy-connection")
    keep = b"close" not in asked and (bool(head.minor) or b"keep-alive" in asked)
    refused = _without_body if head.method == b"HEAD" else response
    return Request(
        "http", target, early, refused=refused, http=Forwarded(head.method, head.minor, keep, upgrade, body)
    )


def _wants_upgrade(head: _Head) -> bool:
    """Whether it asks for another protocol. Not for h2c: it is obsolete (RFC 9113, 3.1), and bypasses HTTP proxies."""
    wanted = head.words(b"upgrade")
    return bool(head.minor and wanted) and b"upgrade" in head.words(b"connection") and b"h2c" not in wanted


def _absolute(head: _Head) -> tuple[bytes, bytes, bytes]:
    """Host, port with its colon, and path of an ``http://`` URL. A user and password in it go no further."""
    target = head.target
    if target[:7].lower() != b"http://" or b"#" in target:
        raise _bad("this is a proxy: it takes CONNECT host:port, or a URL that begins with http://")
    rest = target[7:]
    size = min(rest.find(mark) if mark in rest else len(rest) for mark in (b"/", b"?"))
    authority, path = rest[:size].rpartition(b"@")[2], rest[size:]
    if len(authority) > _LONGEST_AUTHORITY:
        raise _bad("the host name is longer than 255 bytes")
    if not path.startswith(b"/"):
        path = b"*" if head.method == b"OPTIONS" and not path else b"/" + path
    host, colon, port = authority.rpartition(b":")
    if not colon or (port and not port.isdigit()):
        return authority, b"", path
    return host, colon + port, path


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise BadAddress("it is not UTF-8") from None


def _body(head: _Head) -> Body:
    """The body that follows; refuses what two readers may measure differently (RFC 9112, 6.3)."""
    sizes, codings = head.values(b"content-length"), head.values(b"transfer-encoding")
    if codings:
        words = [word.strip(b" \t").lower() for value in codings for word in value.split(b",")]
        if sizes or not head.minor or b"chunked" in words[:-1]:
            raise _bad("the request's length is ambiguous")
        if words != [b"chunked"]:
            raise _bad("the request's coding is not known here; send it in chunks", _NOT_IMPLEMENTED)
        return Chunked()
    if len(sizes) > 1 or (sizes and not (sizes[0].isdigit() and len(sizes[0]) < 19)):
        raise _bad("the request's length is ambiguous")
    return Sized(int(sizes[0]) if sizes else 0)


def _max_forwards(head: _Head) -> int | None:
    """How many proxies may still forward a TRACE or OPTIONS (RFC 9110, 7.6.2); None: any number, or another method."""
    values = head.values(b"max-forwards")
    if not values or head.method not in {b"TRACE", b"OPTIONS"}:
        return None
    if len(values) > 1 or not (values[0].isdigit() and len(values[0]) < 10):
        raise _bad("Max-Forwards is not a number")
    return int(values[0])


def _answered_here(head: _Head) -> Refused:
    """The answer to a TRACE or OPTIONS that may go no further (RFC 9110, 9.3.7 and 9.3.8)."""
    detail = "Max-Forwards is 0: answered by this proxy"
    if head.method == b"OPTIONS":
        lines = [b"HTTP/1.1 200 OK", b"Content-Length: 0", b"Connection: close"]
        return Refused(Reason.CLOSED, detail, b"\r\n".join((*lines, b"", b"")))
    fields = [name + b": " + value for name, value in head.written if name.lower() not in _SECRET]
    target = _absolute(head)[2] if b"@" in head.target else head.target
    echo = b"\r\n".join((b"TRACE %b HTTP/1.%d" % (target, head.minor), *fields, b"", b""))
    lines = [
        b"HTTP/1.1 200 OK",
        b"Content-Type: message/http",
        b"Content-Length: %d" % len(echo),
        b"Connection: close",
    ]
    return Refused(Reason.CLOSED, detail, b"\r\n".join((*lines, b"", echo)))


def _origin_form(head: _Head, authority: bytes, path: bytes, *, upgrade: bool, via: bytes) -> bytes:
    """The head for the server, with its own Host (RFC 9112, 3.2.2) and without what is meant for this proxy."""
    dropped = _HOP_BY_HOP | _named_in_connection(head)
    if upgrade:
        dropped -= {b"upgrade"}
    if not head.minor:
        dropped |= {b"expect"}  # RFC 9110, 10.1.1
    left = _max_forwards(head)
    lines = [head.method + b" " + path + b" HTTP/1.1", b"Host: " + authority]
    for (name, value), (written, _) in zip(head.fields, head.written, strict=True):
        if left is not None and name == b"max-forwards":
            lines.append(written + b": %d" % (left - 1))
        elif name not in dropped:
            lines.append(written + b": " + value)
    connection = b"Connection: Upgrade" if upgrade else b"Connection: close"
    return b"\r\n".join((*lines, b"Via: " + _via(head, via), connection, b"", b""))


def _via(head: _Head, via: bytes) -> bytes:
    """The proxies that the request came through, and this one (RFC 9110, 7.6.3)."""
    return b", ".join((*head.values(b"via"), b"1.%d %b" % (head.minor, via)))


def _named_in_connection(head: _Head) -> set[bytes]:
    named = head.words(b"connection", b"proxy-connection")
    if named & _NEVER_HOP_BY_HOP:
        raise _bad("Connection names a header that must not be dropped")
    return named


def _credentials(head: _Head) -> Credentials | None:
    """Basic authentication (RFC 7617)."""
    values = head.values(b"proxy-authorization")
    scheme, _, encoded = values[0].partition(b" ") if len(values) == 1 else (b"", b"", b"")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, password = (
            base64.b64decode(encoded.strip(), validate=True).decode(errors="replace").partition(":")
        )
    except binascii.Error:
        return None
    if not colon or len(user) > _LONGEST_USER or len(password) > _LONGEST_PASSWORD:
        return None
    return Credentials(user, password)


def _without_body(reason: Reason, detail: str) -> bytes:
    """The answer to HEAD."""
    return response(reason, detail, body=False)


def _bad(detail: str, status: str = "") -> Refused:
    return Refused(Reason.BAD_REQUEST, detail, response(Reason.BAD_REQUEST, detail, status=status))
