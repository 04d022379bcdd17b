"""The response to a forwarded HTTP/1 request, rewritten for the client (RFC 9110, RFC 9112).

Read leniently, as browsers do, and written strictly: the head is composed anew from what was understood, so a client
sees no line end, folded line or framing that it could read in another way.
"""

from __future__ import annotations

from typing import NamedTuple

from proxy.core.framing import TOKEN, VALUE, Body, Chunked, Piece, Sized, UntilClose
from proxy.core.reader import Malformed
from proxy.core.request import Forwarded

__all__ = ["LIMIT", "Response"]

LIMIT = 65_536  # bytes of a head
_MOST_INTERIM = 32  # 1xx responses before the final one
_BLANKS = bytes(set(range(256)) - set(VALUE))
_TO_BLANKS = bytes.maketrans(_BLANKS, b" " * len(_BLANKS))  # RFC 9110, 5.5: CR, LF and NUL become SP
_DROPPED = frozenset({
    b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"content-length", b"upgrade", b"te",
    b"proxy-authenticate", b"proxy-authentication-info",
})  # fmt: skip


class _Head(NamedTuple):
    status: int
    reason: bytes
    fields: list[tuple[bytes, bytes]]

    def values(self, name: bytes) -> list[bytes]:
        """The parts of all fields of that name, in lower case (RFC 9110, 5.6.1)."""
        lists = [value.lower().split(b",") for known, value in self.fields if known.lower() == name]
        return [part.strip(b" \t") for parts in lists for part in parts]


class Response:
    """One request's response: interim ones (1xx) first, then the final one."""

    __slots__ = (
        "_head", "_interim", "_request", "_searched", "_via", "began", "body", "stays", "switched",
    )  # fmt: skip

    def __init__(self, request: Forwarded, via: bytes) -> None:
        """``via`` is what this proxy calls itself in a ``Via`` field."""
        self._request = request
        self._via = via
        self._head = bytearray()  # an unfinished one
        self._searched = 0
        self._interim = 0
        self.body: Body | None = None  # of the final response, once its head has been read
        self.began = False  # the final head has been given out
        self.stays = False  # the client's connection goes on after this response
        self.switched = False  # 101: what follows is another protocol's

    @property
    def done(self) -> bool:
        """Whether the final response is complete."""
        return self.body is not None and self.body.done

    def take(self, data: Piece, *, may_stay: bool) -> Piece:
        """What the client gets for ``data``; raises `Malformed`. Bytes behind the response are dropped.

        ``may_stay``: the request has been read to its end, and nothing else is against another one.
        """
        if self.body is not None:
            return self.body.take(data)[1]
        self._head += data
        given: list[Piece] = []
        while size := self._head_size():
            if size > LIMIT:
                break
            head = _parsed(bytes(self._head[:size]))
            del self._head[:size]
            self._searched = 0
            given.append(self._interim_head(head) if head.status < 200 else self._final_head(head, may_stay))
            if head.status >= 200 or self.switched:
                break
        if self.switched:
            given.append(bytes(self._head))
            self._head.clear()
        elif self.began:
            given.append(self._first_of_body())
        elif len(self._head) > LIMIT:
            raise Malformed("the head of the response is too large")
        return b"".join(given)

    def _first_of_body(self) -> Piece:
        rest = bytes(self._head)
        self._head.clear()
        return b"" if self.body is None else self.body.take(rest)[1]

    def end(self) -> None:
        """The server has ended its connection; raises `Malformed` where the response is not complete by that."""
        body = self.body
        if body is None:
            raise Malformed("the server closed the connection without a response")
        if not (body.done or isinstance(body, UntilClose)):
            raise Malformed("the server closed the connection amid the response")

    def _head_size(self) -> int:
        """Bytes of the head with the empty line behind it; 0: it is not all there. Each byte is searched once."""
        if not self._searched:
            stripped = self._head.lstrip(b"\r\n")  # empty lines before it
            del self._head[: len(self._head) - len(stripped)]
        start = max(self._searched - 2, 0)
        self._searched = len(self._head)
        ends = [at + len(mark) for mark in (b"\n\r\n", b"\n\n") if (at := self._head.find(mark, start)) >= 0]
        return min(ends, default=0)

    def _interim_head(self, head: _Head) -> bytes:
        self._interim += 1
        if head.status == 101:
            if not self._request.upgrade or not head.values(b"upgrade"):
                raise Malformed("the server switches to a protocol that was not asked for")
            self.switched = True
            upgrade = [(b"Connection", b"Upgrade"), *_named(head, b"upgrade")]
            return self._composed(head, upgrade)
        if self._interim > _MOST_INTERIM:
            raise Malformed("the server sends interim responses without end")
        return self._composed(head, []) if self._request.minor else b""

    def _final_head(self, head: _Head, may_stay: bool) -> bytes:
        framing: list[tuple[bytes, bytes]] = []
        body = self.body = self._framed(head, framing)
        self.began = True
        self.stays = may_stay and self._request.keep and body.delimited
        if not self.stays:
            framing.append((b"Connection", b"close"))
        elif not self._request.minor:
            framing.append((b"Connection", b"keep-alive"))
        return self._composed(head, framing)

    def _framed(self, head: _Head, framing: list[tuple[bytes, bytes]]) -> Body:
        """The body, by RFC 9112, 6.3; adds the fields that say so to ``framing``."""
        codings = [coding for coding in head.values(b"transfer-encoding") if coding not in {b"", b"identity"}]
        size = None if codings else _content_length(head)
        if head.status == 204:
            return Sized(0)
        if self._request.method == b"HEAD" or head.status == 304:
            if size is not None:
                framing.append((b"Content-Length", b"%d" % size))
            return Sized(0)
        if codings:
            return self._coded(codings, framing)
        if size is None:
            return UntilClose()
        framing.append((b"Content-Length", b"%d" % size))
        return Sized(size)

    def _coded(self, codings: list[bytes], framing: list[tuple[bytes, bytes]]) -> Body:
        if b"chunked" in codings[:-1]:
            raise Malformed("the response's length is ambiguous")
        if codings != [b"chunked"] and not self._request.minor:
            raise Malformed("the response has a coding that an HTTP/1.0 client does not know")
        if self._request.minor:
            framing.append((b"Transfer-Encoding", b", ".join(codings)))
        return (
            Chunked(lenient=True, encode=bool(self._request.minor))
            if codings[-1] == b"chunked"
            else UntilClose()
        )

    def _composed(self, head: _Head, own: list[tuple[bytes, bytes]]) -> bytes:
        dropped = _DROPPED.union(head.values(b"connection"))
        lines = [b"HTTP/1.1 %d %b" % (head.status, head.reason)]
        lines += [name + b": " + value for name, value in head.fields if name.lower() not in dropped]
        lines += [name + b": " + value for name, value in (*own, (b"Via", b"1.1 " + self._via))]
        return b"\r\n".join((*lines, b"", b""))


def _parsed(head: bytes) -> _Head:
    """A head; lines that are no fields are left out, folded ones are put together (RFC 9112, 5.2)."""
    first, *lines = head.split(b"\n")
    version, _, rest = first.rstrip(b"\r").partition(b" ")
    status, _, reason = rest.lstrip(b" ").partition(b" ")
    if not (version[:7].upper() == b"HTTP/1." and version[7:].isdigit() and len(version) == 8):
        raise Malformed("the server does not speak HTTP/1")
    if not (len(status) == 3 and status.isdigit() and status >= b"100"):
        raise Malformed("the server's status is not a number from 100 to 999")
    fields: list[list[bytes]] = []
    for line in lines:
        text = line.rstrip(b"\r").translate(_TO_BLANKS)
        if text[:1] in {b" ", b"\t"}:
            if fields and text.strip(b" \t"):
                fields[-1].append(text.strip(b" \t"))
            continue
        name, colon, value = text.partition(b":")
        name = name.rstrip(b" \t")  # RFC 9112, 5.1
        fields.append([name if colon and not name.translate(None, TOKEN) else b"", value.strip(b" \t")])
    known = [(name, b" ".join(value)) for name, *value in fields if name]
    return _Head(int(status), reason.translate(_TO_BLANKS).strip(b" \t"), known)


def _named(head: _Head, wanted: bytes) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in head.fields if name.lower() == wanted]


def _content_length(head: _Head) -> int | None:
    """RFC 9112, 6.3, rule 5: several that agree are one."""
    sizes = set(head.values(b"content-length"))
    if not sizes:
        return None
    size = sizes.pop()
    if sizes or not size.isdigit() or len(size) > 18:
        raise Malformed("the response's length is ambiguous")
    return int(size)
