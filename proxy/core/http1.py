"""HTTP/1.1 as a proxy hears it (RFC 9110, RFC 9112): CONNECT, and requests for ``http://`` that it forwards.

One request for each connection: a forwarded one leaves in origin form with ``Connection: close``, so nothing that
comes behind it can be taken for a part of it. Strict where leniency smuggles: a message that two readers might read
differently is refused with 400. There is no ``Via``: servers answer such requests differently (nginx would no longer
compress), and a proxy must not be worse than none.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple

from proxy.core.address import BadAddress, split_host_port
from proxy.core.framing import Chunked, Sized
from proxy.core.outcomes import Reason
from proxy.core.reader import NotMine, Parser, Reader, TooLong
from proxy.core.request import Body, Credentials, Opening, OpeningParser, Refused, Request, Turn, target_of

__all__ = ["LIMIT", "opening", "response"]

LIMIT = 65_536  # bytes of a request's head
_MOST_FIELDS = 200

# Lines are taken apart with `bytes.partition` and checked with `bytes.translate`: in linear time, whatever they hold.
# A regular expression with two neighbouring repeats over the same bytes would try every way to divide them.
_METHOD = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"  # token (RFC 9110, 5.6.2)
_VISIBLE = bytes(range(0x21, 0x7F))
_VALUE = b"\t " + _VISIBLE + bytes(range(0x80, 0x100))  # field-value (RFC 9110, 5.5)
_VERSIONS = {b"HTTP/1.0\r": 0, b"HTTP/1.1\r": 1}
_LONGEST_METHOD = 32
_LONGEST_TARGET = 32_768
_LONGEST_AUTHORITY = 255 + len(":65535")  # bytes; a host name has at most 255 (RFC 1035, 2.3.4)
_LONGEST_USER, _LONGEST_PASSWORD = 255, 4096  # characters
_host = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~%!$&'()*+,;=-]*)(?::[0-9]{0,5})?\Z").match

# Meant for the next hop only (RFC 9110, 7.6.1), and those of old that browsers still send.
_HOP_BY_HOP = frozenset({
    b"connection", b"proxy-connection", b"keep-alive", b"proxy-authorization", b"proxy-authenticate", b"te",
    b"upgrade", b"http2-settings", b"host",
})  # fmt: skip
_NEVER_HOP_BY_HOP = frozenset({b"host", b"content-length", b"transfer-encoding"})

_STATUS = {
    Reason.BAD_REQUEST: "400 Bad Request",
    Reason.DENIED: "403 Forbidden",
    Reason.NOT_ALLOWED: "403 Forbidden",
    Reason.LOOP: "403 Forbidden",
    Reason.NOT_AUTHENTICATED: "407 Proxy Authentication Required",
    Reason.LIMITED: "429 Too Many Requests",
    Reason.HANDSHAKE_TIMEOUT: "408 Request Timeout",
    Reason.CONNECT_TIMEOUT: "504 Gateway Timeout",
    Reason.NO_PORTS: "503 Service Unavailable",
    Reason.NO_SOURCE: "503 Service Unavailable",
    Reason.NO_DESCRIPTORS: "503 Service Unavailable",
    Reason.NO_MEMORY: "503 Service Unavailable",
}
_GRANTED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class _Head(NamedTuple):
    method: bytes
    target: str
    minor: int
    fields: list[tuple[bytes, bytes]]  # names in lower case
    written: list[tuple[bytes, bytes]]  # names as they came

    def values(self, name: bytes) -> list[bytes]:
        return [value for known, value in self.fields if known == name]


_TLS = "a TLS hello: clients speak to this listener without TLS (a proxy http://..., not https://...)"


def opening(reader: Reader, *, login: bool = False) -> Parser[Opening]:
    """One request's head; ``login``: users must say who they are.

    Raises `NotMine` where the first byte cannot begin one, and `Refused`.
    """
    first = yield from reader.peek(1)
    if first[0] not in _METHOD:
        raise NotMine(_TLS if first[0] == 0x16 else "not an HTTP request")
    try:
        head = yield from _read_head(reader)
    except TooLong:
        detail = "the head of the request is too large"
        raise Refused(Reason.BAD_REQUEST, detail, response(Reason.BAD_REQUEST, detail)) from None
    request = _connect(head) if head.method == b"CONNECT" else _forward(head)
    if not login:
        return request
    credentials = _credentials(head)
    rejected = request.refused(Reason.NOT_AUTHENTICATED, "a user's name and password are wanted")
    if credentials is None:
        raise Refused(Reason.NOT_AUTHENTICATED, "no Proxy-Authorization", rejected)
    return Turn(b"", lambda user: _granted(request, user), credentials, rejected)


def response(reason: Reason, detail: str, *, body: bool = True) -> bytes:
    """The response that says why not, in plain text."""
    text = f"tfo-proxy: {detail or reason}\n".encode("ascii", "backslashreplace")
    lines = [
        f"HTTP/1.1 {_STATUS.get(reason, '502 Bad Gateway')}",
        "Content-Type: text/plain",
        f"Content-Length: {len(text)}",
        "Connection: close",
    ]
    if reason is Reason.NOT_AUTHENTICATED:
        lines.append('Proxy-Authenticate: Basic realm="tfo-proxy", charset="UTF-8"')
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode() + (text if body else b"")


def _granted(request: Request, user: str | None) -> OpeningParser:
    """A parser that has read all already."""
    known = Request(
        request.protocol,
        request.authority,
        request.early,
        request.granted,
        request.refused,
        user,
        body=request.body,
    )

    def parser(reader: Reader) -> Parser[Opening]:
        yield from reader.peek(0)
        return known

    return parser


def _read_head(reader: Reader) -> Parser[_Head]:
    line = yield from _line(reader)
    method, target, minor = _request_line(line)
    fields: list[tuple[bytes, bytes]] = []
    while (line := (yield from _line(reader))) != b"\r":
        if len(fields) >= _MOST_FIELDS or reader.position > LIMIT:
            raise _bad("the head of the request is too large")
        fields.append(_field(line))
    lower = [(name.lower(), value) for name, value in fields]
    head = _Head(method, target.decode("ascii"), minor, lower, fields)
    _check_host(head)
    return head


def _line(reader: Reader) -> Parser[bytes]:
    """The next line with its CR, without its LF."""
    return (yield from reader.read_until(b"\n", LIMIT))


def _request_line(line: bytes) -> tuple[bytes, bytes, int]:
    """Method, target and minor version (RFC 9112, 3)."""
    method, _, rest = line.partition(b" ")
    target, _, version = rest.partition(b" ")
    minor = _VERSIONS.get(version)
    if minor is None or not 0 < len(method) <= _LONGEST_METHOD or not 0 < len(target) <= _LONGEST_TARGET:
        raise _bad("this is not a line of HTTP/1.1")
    if method.translate(None, _METHOD) or target.translate(None, _VISIBLE):
        raise _bad("this is not a line of HTTP/1.1")
    return method, target, minor


def _field(line: bytes) -> tuple[bytes, bytes]:
    """Name and value of a header line (RFC 9112, 5)."""
    name, colon, value = line.partition(b":")
    content = value[:-1].strip(b" \t")
    if not name or not colon or value[-1:] != b"\r":
        raise _bad("a header line is not `name: value`")
    if name.translate(None, _METHOD) or content.translate(None, _VALUE):
        raise _bad("a header line is not `name: value`")
    return name, content


def _check_host(head: _Head) -> None:
    """RFC 9112, 3.2: exactly one, and sound, in HTTP/1.1."""
    hosts = head.values(b"host")
    if len(hosts) > 1 or (not hosts and head.minor):
        raise _bad("there must be one Host header")
    if hosts and (len(hosts[0]) > _LONGEST_AUTHORITY or _host(hosts[0]) is None):
        raise _bad("the Host header is not a host")


def _connect(head: _Head) -> Request:
    """A tunnel (RFC 9110, 9.3.6). It has no body: what follows is the tunnel's."""
    if head.values(b"transfer-encoding") or any(value != b"0" for value in head.values(b"content-length")):
        raise _bad("CONNECT has no body")
    if len(head.target) > _LONGEST_AUTHORITY:
        raise _bad("the host name is longer than 255 bytes")
    try:
        host, port = split_host_port(head.target)
        target = target_of(host, port)
    except BadAddress as error:
        raise _bad(f"CONNECT wants host:port; {error}") from None
    return Request("connect", target, granted=_GRANTED, refused=response)


def _forward(head: _Head) -> Request:
    """A request in absolute form (RFC 9112, 3.2.2), rewritten for the server it names."""
    authority, path = _absolute(head.target)
    _, colon, port = authority.rpartition(":")
    has_port = colon and port.isdigit()
    try:
        target = target_of(*split_host_port(authority if has_port else f"{authority.removesuffix(':')}:80"))
    except BadAddress as error:
        raise _bad(f"the URL's host is not one; {error}") from None
    body = _body(head)
    early = _origin_form(head, authority, path)
    if head.method == b"HEAD":
        return Request("http", target, early, refused=_without_body, body=body)
    return Request("http", target, early, refused=response, body=body)


def _absolute(target: str) -> tuple[str, str]:
    """The authority of an ``http://`` URL, and what follows it."""
    if target[:7].lower() != "http://" or "#" in target:
        raise _bad("this is a proxy: it takes CONNECT host:port, or a URL that begins with http://")
    rest = target[7:]
    size = min(rest.find(mark) if mark in rest else len(rest) for mark in "/?")
    if size > _LONGEST_AUTHORITY:
        raise _bad("the host name is longer than 255 bytes")
    return rest[:size], rest[size:]


def _body(head: _Head) -> Body:
    """What follows the head; refuses what two readers may measure differently (RFC 9112, 6.3)."""
    sizes, codings = head.values(b"content-length"), head.values(b"transfer-encoding")
    if codings:
        if sizes or not head.minor or len(codings) > 1 or codings[0].lower() != b"chunked":
            raise _bad("the request's length is ambiguous")
        return Chunked()
    if len(sizes) > 1 or (sizes and not (sizes[0].isdigit() and len(sizes[0]) < 19)):
        raise _bad("the request's length is ambiguous")
    return Sized(int(sizes[0]) if sizes else 0)


def _origin_form(head: _Head, authority: str, path: str) -> bytes:
    """The head as the server should get it: its own Host (RFC 9112, 3.2.2), nothing meant for us."""
    dropped = _HOP_BY_HOP | _named_in_connection(head)
    if not path.startswith("/"):
        path = "*" if head.method == b"OPTIONS" and not path else f"/{path}"
    lines = [head.method + f" {path} HTTP/1.{head.minor}".encode(), b"Host: " + authority.encode()]
    for (name, _), (written, value) in zip(head.fields, head.written, strict=True):
        if name not in dropped:
            lines.append(written + b": " + value)
    return b"\r\n".join((*lines, b"Connection: close", b"", b""))


def _named_in_connection(head: _Head) -> set[bytes]:
    values = (*head.values(b"connection"), *head.values(b"proxy-connection"))
    named = {word.strip().lower() for value in values for word in value.split(b",")}
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


def _bad(detail: str) -> Refused:
    return Refused(Reason.BAD_REQUEST, detail, response(Reason.BAD_REQUEST, detail))
