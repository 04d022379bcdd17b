"""Responses of servers, as they are and as they should not be, and what the client gets for them."""

from __future__ import annotations

import pytest

from proxy.core.framing import Sized
from proxy.core.http_response import Response
from proxy.core.reader import Malformed
from proxy.core.request import Forwarded

VIA = "Via: 1.1 me"


def lines(*texts: str) -> bytes:
    return "".join(f"{text}\r\n" for text in (*texts, "")).encode("latin-1")


def response(method: bytes = b"GET", minor: int = 1, *, keep: bool = True, upgrade: bool = False) -> Response:
    return Response(Forwarded(method, minor, keep, upgrade, Sized(0)), b"me")


def given(to: Response, data: bytes, step: int = 1 << 20, *, may_stay: bool = True) -> bytes:
    return b"".join(
        bytes(to.take(memoryview(data[at : at + step]), may_stay=may_stay))
        for at in range(0, len(data), step)
    )


OK = "HTTP/1.1 200 OK"
SIZED = lines(OK, "Content-Length: 2", VIA) + b"ab"


@pytest.mark.parametrize("step", [1, 3, 1 << 20])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (lines(OK, "Content-Length: 2") + b"ab", SIZED),
        (lines("HTTP/1.0 200 OK", "Content-Length: 2") + b"abc", SIZED),  # a byte too many is dropped
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nab", SIZED),
        (b"\r\n" + lines(OK, "Content-Length: 2") + b"ab", SIZED),
        (lines(OK, "Content-Length: 2, 2", "content-length: 2") + b"ab", SIZED),
        (lines(OK, "Content-Length : 2") + b"ab", SIZED),
        (lines("HTTP/1.1  200  OK", "no field", ": none", "a b: c", "Content-Length: 2") + b"ab", SIZED),
        (
            lines(OK, "X-A: a\0b\rc\x7f", "X-B: one", "\ttwo", "   three ", "X-c:  \xe9 ", "Content-Length: 2") + b"ab",
            lines(OK, "X-A: a b c", "X-B: one two three", "X-c: \xe9", "Content-Length: 2", VIA) + b"ab",
        ),
        (
            lines(OK, "Connection: X-Private, close", "X-Private: 1", "Keep-Alive: timeout=5", "Proxy-Connection: x",
                  "Proxy-Authenticate: Basic", "Via: 1.0 other", "Set-Cookie: a", "Set-Cookie: b",
                  "Transfer-Encoding: chunked", "Content-Length: 7") + b"2\r\nab\r\n0\r\nT: u\r\n\r\n",
            lines(OK, "Via: 1.0 other", "Set-Cookie: a", "Set-Cookie: b", "Transfer-Encoding: chunked", VIA)
            + b"2\r\nab\r\n0\r\nT: u\r\n\r\n",
        ),
        (lines(OK, "Transfer-Encoding: identity", "Content-Length: 2") + b"ab", SIZED),
        (lines("HTTP/1.1 204 No Content", "Content-Length: 2"), lines("HTTP/1.1 204 No Content", VIA)),
        (
            lines("HTTP/1.1 304 Not Modified", "Content-Length: 5", "ETag: x"),
            lines("HTTP/1.1 304 Not Modified", "ETag: x", "Content-Length: 5", VIA),
        ),
        (
            lines("HTTP/1.1 100 Continue") + lines("HTTP/1.1 103", "Link: x") + lines(OK, "Content-Length: 2") + b"ab",
            lines("HTTP/1.1 100 Continue", VIA) + lines("HTTP/1.1 103 ", "Link: x", VIA) + SIZED,
        ),
        (lines("HTTP/1.1 999 \x01odd", "Content-Length: 0"), lines("HTTP/1.1 999 odd", "Content-Length: 0", VIA)),
    ],
)  # fmt: skip
def test_a_response_is_composed_anew(data: bytes, expected: bytes, step: int) -> None:
    to = response()
    said = given(to, data, step)
    if b"chunked" in expected and step < 100:
        said = said.replace(b"1\r\na\r\n1\r\nb\r\n", b"2\r\nab\r\n")
    assert said == expected
    assert (to.done, to.stays) == (True, True)
    to.end()


@pytest.mark.parametrize(
    ("method", "minor", "keep", "may_stay", "answer", "connection", "body"),
    [
        (b"GET", 1, True, True, lines(OK, "Content-Length: 1") + b"a", None, b"a"),
        (b"GET", 1, False, True, lines(OK, "Content-Length: 1") + b"a", "close", b"a"),
        (b"GET", 1, True, False, lines(OK, "Content-Length: 1") + b"a", "close", b"a"),
        (b"GET", 1, True, True, lines(OK) + b"abc", "close", b"abc"),
        (b"GET", 0, True, True, lines(OK, "Content-Length: 1") + b"a", "keep-alive", b"a"),
        (b"GET", 0, False, True, lines(OK, "Content-Length: 1") + b"a", "close", b"a"),
        (
            b"GET",
            0,
            True,
            True,
            lines(OK, "Transfer-Encoding: chunked") + b"1;x\r\na\r\n0\r\nT: u\r\n\r\n",
            "close",
            b"a",
        ),
        (
            b"GET",
            0,
            True,
            True,
            lines("HTTP/1.1 100 Continue") + lines(OK, "Content-Length: 0"),
            "keep-alive",
            b"",
        ),
        (b"GET", 1, True, True, lines(OK, "Transfer-Encoding: gzip") + b"abc", "close", b"abc"),
        (b"HEAD", 1, True, True, lines(OK, "Content-Length: 100"), None, b""),
        (b"HEAD", 1, True, True, lines(OK, "Transfer-Encoding: chunked"), None, b""),
        (b"HEAD", 1, True, True, lines(OK), None, b""),
    ],
)
def test_every_response_says_whether_the_connection_goes_on(
    *,
    method: bytes,
    minor: int,
    keep: bool,
    may_stay: bool,
    answer: bytes,
    connection: str | None,
    body: bytes,
) -> None:
    to = response(method, minor, keep=keep)
    head, _, rest = given(to, answer, may_stay=may_stay).partition(b"\r\n\r\n")
    fields = [line for line in head.decode().split("\r\n") if line.startswith("Connection:")]
    assert fields == ([f"Connection: {connection}"] if connection else [])
    assert rest == body
    assert to.stays is (connection != "close")
    to.end()


@pytest.mark.parametrize("step", [1, 1 << 20])
@pytest.mark.parametrize(
    ("minor", "data"),
    [
        (1, b"hello, this is no HTTP\r\n\r\n"),
        (1, lines("ICY 200 OK")),
        (1, lines("HTTP/2 200 OK")),
        (1, lines("HTTP/1.1 20 OK")),
        (1, lines("HTTP/1.1 099 OK")),
        (1, lines("HTTP/1.1 2000 OK")),
        (1, lines("HTTP/1.1 OK")),
        (1, lines(OK, "Content-Length: 1, 2")),
        (1, lines(OK, "Content-Length: 1", "Content-Length: 2")),
        (1, lines(OK, "Content-Length: +1")),
        (1, lines(OK, "Content-Length: -1")),
        (1, lines(OK, "Content-Length: ")),
        (1, lines(OK, "Content-Length: 1 1")),
        (1, lines(OK, "Content-Length: \xb2")),
        (1, lines(OK, "Content-Length: " + "1" * 19)),
        (1, lines(OK, "Transfer-Encoding: chunked, chunked")),
        (1, lines(OK, "Transfer-Encoding: chunked, gzip")),
        (0, lines(OK, "Transfer-Encoding: gzip, chunked")),
        (1, lines(OK, "Transfer-Encoding: chunked") + b"0x5\r\n"),
        (1, lines(OK, "Transfer-Encoding: chunked") + b"5\r\nabcdefgh\r\n"),
        (1, lines("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: upgrade")),
        (1, lines("HTTP/1.1 100 Continue") * 40),
        (1, lines(OK, *["X-Y: z"] * 20_000)),
        (1, b"HTTP/1.1 200 " + b"x" * 70_000),
    ],
)
def test_what_no_client_may_see(minor: int, data: bytes, step: int) -> None:
    if step == 1 and len(data) > 10_000:
        step = 4000
    with pytest.raises(Malformed):
        given(response(minor=minor), data, step)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"HTTP/1.1 2", lines(OK)[:-2], lines("HTTP/1.1 100 Continue"), lines(OK, "Content-Length: 2") + b"a",
        lines(OK, "Transfer-Encoding: chunked") + b"1\r\na\r\n",
    ],
)  # fmt: skip
def test_a_response_that_is_cut_short_is_not_complete(data: bytes) -> None:
    to = response()
    given(to, data)
    with pytest.raises(Malformed, match="closed the connection"):
        to.end()


def test_another_protocol_begins_where_the_head_ends() -> None:
    to = response(upgrade=True)
    data = lines("HTTP/1.1 101 Switching Protocols", "upgrade: websocket", "Connection: Upgrade", "X: y")
    assert given(to, data + b"\x81\x00") == (
        lines("HTTP/1.1 101 Switching Protocols", "X: y", "Connection: Upgrade", "upgrade: websocket", VIA)
        + b"\x81\x00"
    )
    assert to.switched
