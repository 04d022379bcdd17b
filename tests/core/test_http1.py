"""HTTP requests as a proxy hears them: whole, byte by byte, cut off, and broken."""

from __future__ import annotations

import base64
import random
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core import http1
from proxy.core.address import Authority, Endpoint, Target
from proxy.core.outcomes import Reason
from proxy.core.reader import Malformed, NotMine, Reading
from proxy.core.request import Credentials, Opening, OpeningParser, Refused, Request, Turn
from tests.core.reading import in_pieces

PIECES = [1, 5, 1 << 20]
HOST = "Host: a.test"
VIA = "Via: 1.1 tfo-proxy"


def lines(*texts: str) -> bytes:
    return "".join(f"{text}\r\n" for text in (*texts, "")).encode("latin-1")


def read(data: bytes, step: int = 1 << 20, *, login: bool = False) -> tuple[Opening, bytes]:
    parsed = in_pieces(partial(http1.opening, login=login), data, step)
    return parsed.value, data[parsed.consumed :]


def request(data: bytes, step: int = 1 << 20) -> Request:
    value, _ = read(data, step)
    assert isinstance(value, Request)
    return value


@pytest.mark.parametrize("step", PIECES)
@pytest.mark.parametrize(
    ("data", "target"),
    [
        (lines("CONNECT example.org:443 HTTP/1.1", "Host: example.org:443"), Authority("example.org", 443)),
        (lines("CONNECT [2001:db8::1]:443 HTTP/1.1", "Host: [2001:db8::1]"), Endpoint("2001:db8::1", 443)),
        (lines("CONNECT 192.0.2.1:22 HTTP/1.0"), Endpoint("192.0.2.1", 22)),
        (lines("CONNECT a:1 HTTP/1.1", "Host:", "Content-Length: 0", "User-Agent: x y"), Authority("a", 1)),
    ],
)
def test_connect(data: bytes, target: Target, step: int) -> None:
    value, rest = read(data + b"\x16\x03\x01early", step)
    assert isinstance(value, Request)
    assert (value.protocol, value.authority, value.early) == ("connect", target, b"")
    assert value.granted == b"HTTP/1.1 200 Connection established\r\n\r\n"
    assert rest == b"\x16\x03\x01early"


@pytest.mark.parametrize("step", PIECES)
@pytest.mark.parametrize(
    ("data", "target", "early"),
    [
        (
            lines("GET http://Example.org/a?b=c HTTP/1.1", "Host: wrong", "Accept: */*", "Proxy-Connection: x"),
            Authority("example.org", 80),
            lines("GET /a?b=c HTTP/1.1", "Host: Example.org", "Accept: */*", VIA, "Connection: close"),
        ),
        (
            lines("GET http://192.0.2.1:8080 HTTP/1.0"),
            Endpoint("192.0.2.1", 8080),
            lines("GET / HTTP/1.1", "Host: 192.0.2.1:8080", "Via: 1.0 tfo-proxy", "Connection: close"),
        ),
        (
            lines("GET http://[2001:db8::1]?q HTTP/1.1", "Host: x", "Connection: Keep-Alive, X-Private", "x-private: 1",
                  "Keep-Alive: 5", "TE: trailers", "Upgrade: h2c", "X-Kept: \x80yes", "Proxy-Authorization: Basic x"),
            Endpoint("2001:db8::1", 80),
            lines("GET /?q HTTP/1.1", "Host: [2001:db8::1]", "X-Kept: \x80yes", VIA, "Connection: close"),
        ),
        (
            lines("OPTIONS http://a.test HTTP/1.1", "Host: a.test"),
            Authority("a.test", 80),
            lines("OPTIONS * HTTP/1.1", "Host: a.test", VIA, "Connection: close"),
        ),
        (
            lines("POST HTTP://a.test:/x HTTP/1.1", "Host: a.test", "Content-Length: 3"),
            Authority("a.test", 80),
            lines("POST /x HTTP/1.1", "Host: a.test:", "Content-Length: 3", VIA, "Connection: close"),
        ),
        (  # a user and a password in the URL are for nobody
            lines("GET http://user:s3cret@a.test:81/x HTTP/1.1", "Host: a.test", "Authorization: Basic eA=="),
            Authority("a.test", 81),
            lines("GET /x HTTP/1.1", "Host: a.test:81", "Authorization: Basic eA==", VIA, "Connection: close"),
        ),
        (  # raw UTF-8
            lines("GET http://a.test/\xc3\xbc?\xff HTTP/1.1", "Host: a.test"),
            Authority("a.test", 80),
            lines("GET /\xc3\xbc?\xff HTTP/1.1", "Host: a.test", VIA, "Connection: close"),
        ),
        (
            lines("GET http://b\xc3\xbccher.test:8080/ HTTP/1.1", "Host: b\xc3\xbccher.test"),
            Authority("xn--bcher-kva.test", 8080),
            lines("GET / HTTP/1.1", "Host: xn--bcher-kva.test:8080", VIA, "Connection: close"),
        ),
        (
            lines("GET http://-a-.b_c.test/ HTTP/1.1", "Host: -a-.b_c.test"),
            Authority("-a-.b_c.test", 80),
            lines("GET / HTTP/1.1", "Host: -a-.b_c.test", VIA, "Connection: close"),
        ),
        (  # empty lines before it, and a later minor version
            b"\r\n\r\n" + lines("GET http://a.test/ HTTP/1.9", "Host: a.test"),
            Authority("a.test", 80),
            lines("GET / HTTP/1.1", "Host: a.test", VIA, "Connection: close"),
        ),
        (
            lines("GET http://a.test/ws HTTP/1.1", "Host: a.test", "Upgrade: websocket",
                  "Connection: keep-alive, Upgrade", "Sec-WebSocket-Key: x"),
            Authority("a.test", 80),
            lines("GET /ws HTTP/1.1", "Host: a.test", "Upgrade: websocket", "Sec-WebSocket-Key: x", VIA,
                  "Connection: Upgrade"),
        ),
        (  # h2c is not forwarded (RFC 9113, 3.1)
            lines("GET http://a.test/ HTTP/1.1", "Host: a.test", "Upgrade: h2c", "HTTP2-Settings: x",
                  "Connection: Upgrade, HTTP2-Settings"),
            Authority("a.test", 80),
            lines("GET / HTTP/1.1", "Host: a.test", VIA, "Connection: close"),
        ),
        (
            lines("OPTIONS http://a.test/x HTTP/1.1", "Host: a.test", "max-Forwards: 10", "Via: 1.0 a, HTTP/1.1 b (c)"),
            Authority("a.test", 80),
            lines("OPTIONS /x HTTP/1.1", "Host: a.test", "max-Forwards: 9",
                  "Via: 1.0 a, HTTP/1.1 b (c), 1.1 tfo-proxy", "Connection: close"),
        ),
        (
            lines("GET http://a.test/ HTTP/1.0", "Expect: 100-continue", "Max-Forwards: 0"),
            Authority("a.test", 80),
            lines("GET / HTTP/1.1", "Host: a.test", "Max-Forwards: 0", "Via: 1.0 tfo-proxy", "Connection: close"),
        ),
    ],
)  # fmt: skip
def test_a_request_is_rewritten_for_its_server(data: bytes, target: Target, early: bytes, step: int) -> None:
    value = request(data, step)
    assert (value.protocol, value.authority, value.granted) == ("http", target, b"")
    assert value.early == early


@pytest.mark.parametrize(
    ("head", "keep"),
    [
        (("HTTP/1.1", HOST), True),
        (("HTTP/1.1", HOST, "Connection: close"), False),
        (("HTTP/1.1", HOST, "Connection: foo, Close"), False),
        (("HTTP/1.1", HOST, "Proxy-Connection: close"), False),
        (("HTTP/1.0",), False),
        (("HTTP/1.0", "Connection: Keep-Alive"), True),
        (("HTTP/1.0", "Proxy-Connection: keep-alive"), True),
        (("HTTP/1.0", "Proxy-Connection: keep-alive", "Connection: close"), False),
    ],
)
def test_who_wants_its_connection_to_stay(head: tuple[str, ...], keep: bool) -> None:
    http = request(lines(f"GET http://a.test/ {head[0]}", *head[1:])).http
    assert http is not None
    assert http.keep is keep


@pytest.mark.parametrize("framing", ["Content-Length: 4", "Transfer-Encoding: chunked", "X: y"])
def test_what_follows_is_bounded(framing: str) -> None:
    value = request(lines("POST http://a.test/ HTTP/1.1", "Host: a.test", framing))
    assert value.http is not None
    body = b"4\r\nabcd\r\n0\r\n\r\n" if "chunked" in framing else b"abcd" if "4" in framing else b""
    assert value.http.body.take(body + b"GET / HTTP/1.1\r\n\r\n") == (len(body), body)
    assert value.http.body.done
    assert value.http.body.take(b"more")[0] == 0


BAD = [
    lines("GET / HTTP/1.1", HOST),
    lines("GET https://a.test/ HTTP/1.1", HOST),
    lines("CONNECT u:p@a.test:443 HTTP/1.1", HOST),
    lines("GET http://u:p@/ HTTP/1.1", HOST),
    lines("GET http://u:p@a.test:x/ HTTP/1.1", HOST),
    lines("GET http://\xff.test/ HTTP/1.1", HOST),
    lines("TRACE http://a.test/ HTTP/1.1", HOST, "Content-Length: 1"),
    lines("OPTIONS http://a.test/ HTTP/1.1", HOST, "Max-Forwards: x"),
    lines("OPTIONS http://a.test/ HTTP/1.1", HOST, "Max-Forwards: 1", "Max-Forwards: 1"),
    lines("GET http://a.test/ HTTP/1.1", HOST, "X: \x7f"),
    b"\r\n" * 9 + lines("GET http://a.test/ HTTP/1.1", HOST),
    lines("GET http://a.test/#f HTTP/1.1", HOST),
    lines("GET http:///x HTTP/1.1", HOST),
    lines("GET http://a.test:99999/ HTTP/1.1", HOST),
    lines("GET http://a.test:0/ HTTP/1.1", HOST),
    lines("GET http://127.1/ HTTP/1.1", HOST),
    lines(f"GET http://{'a.' * 128}/ HTTP/1.1", HOST),
    lines(f"CONNECT {'a.' * 128}:443 HTTP/1.1", HOST),
    lines("GET http://a.test/ HTTP/1.1", "Host: " + "a" * 300),
    lines("GET http://a.test/ HTTP/1.1"),
    lines("GET http://a.test/ HTTP/1.1", HOST, HOST),
    lines("GET http://a.test/ HTTP/1.1", HOST, "host: b.test"),
    lines("GET http://a.test/ HTTP/1.1", "Host: a b"),
    lines("GET http://a.test/ HTTP/1.1", "Host: a.test/x"),
    lines("GET http://a.test/ HTTP/1.1", HOST, " folded: x"),
    lines("GET http://a.test/ HTTP/1.1", HOST, "X : y"),
    lines("GET http://a.test/ HTTP/1.1", HOST, "X"),
    lines("GET http://a.test/ HTTP/1.1", HOST, "X: a\0b"),
    lines("GET http://a.test/ HTTP/1.1", HOST, "X: a\rb"),
    lines("GET http://a.test/ HTTP/1.1", HOST, "Connection: Content-Length"),
    lines("GET http://a.test/ HTTP/1.10", HOST),
    lines("GET http://a.test/ http/1.1", HOST),
    lines("GET  http://a.test/ HTTP/1.1", HOST),
    lines("GET http://a.test/ HTTP/1.1 ", HOST),
    b"GET http://a.test/ HTTP/1.1\nHost: a.test\n\n",
    lines("POST http://a.test/ HTTP/1.1", HOST, "Content-Length: 1", "Content-Length: 1"),
    lines("POST http://a.test/ HTTP/1.1", HOST, "Content-Length: 1", "Transfer-Encoding: chunked"),
    lines("POST http://a.test/ HTTP/1.1", HOST, "Content-Length: +1"),
    lines("POST http://a.test/ HTTP/1.1", HOST, "Content-Length: 1, 1"),
    lines("POST http://a.test/ HTTP/1.1", HOST, "Transfer-Encoding: chunked, chunked"),
    lines("POST http://a.test/ HTTP/1.1", HOST, "Transfer-Encoding: chunked, gzip"),
    lines("POST http://a.test/ HTTP/1.1", HOST, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    lines("POST http://a.test/ HTTP/1.0", "Transfer-Encoding: chunked"),
    lines("CONNECT a.test HTTP/1.1", HOST),
    lines("CONNECT http://a.test:80 HTTP/1.1", HOST),
    lines("CONNECT a.test:443 HTTP/1.1"),
    lines("CONNECT a.test:443 HTTP/1.1", HOST, "Content-Length: 5"),
    lines("CONNECT a.test:443 HTTP/1.1", HOST, "Transfer-Encoding: chunked"),
    lines("CONNECT [::ffff:1.2.3.4%x]:443 HTTP/1.1", HOST),
    lines("GET http://a.test/ HTTP/1.1", *[f"X{number}: y" for number in range(300)]),
]


@pytest.mark.parametrize("step", [1, 1 << 20])
@pytest.mark.parametrize("data", BAD)
def test_what_is_ambiguous_or_wrong_is_refused(data: bytes, step: int) -> None:
    with pytest.raises(Refused) as caught:
        read(data, step)
    assert caught.value.reason is Reason.BAD_REQUEST
    assert caught.value.reply.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nConnection: close\r\n" in caught.value.reply
    assert b"u:p" not in caught.value.reply
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (lines("GET http://a.test/ HTTP/2.0", HOST), b"505"),
        (lines("PRI * HTTP/2.0"), b"505"),
        (lines("POST http://a.test/ HTTP/1.1", HOST, "Transfer-Encoding: gzip"), b"501"),
        (lines("POST http://a.test/ HTTP/1.1", HOST, "Transfer-Encoding: gzip, chunked"), b"501"),
        (lines("POST http://a.test/ HTTP/1.1", HOST, "Transfer-Encoding: xchunked"), b"501"),
    ],
)
def test_what_is_not_spoken_here(data: bytes, status: bytes) -> None:
    with pytest.raises(Refused) as caught:
        read(data)
    assert caught.value.reply.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize("first", ["GET http://a.test/", "CONNECT a.test:443"])
def test_a_request_that_has_been_here_is_a_loop(first: str) -> None:
    with pytest.raises(Refused) as caught:
        read(lines(f"{first} HTTP/1.1", HOST, "Via: 1.1 other", "via: 1.0 x, 1.1 tfo-proxy, 1.1 y"))
    assert caught.value.reason is Reason.LOOP
    assert caught.value.reply.startswith(b"HTTP/1.1 508 ")


def test_a_trace_that_may_go_no_further_is_answered_here() -> None:
    with pytest.raises(Refused) as caught:
        read(lines("TRACE http://u:p@a.test/x HTTP/1.1", HOST, "Max-Forwards: 0", "Cookie: a=b", "X-Y: z"))
    head, _, body = caught.value.reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: message/http\r\n")
    assert body == lines("TRACE /x HTTP/1.1", HOST, "Max-Forwards: 0", "X-Y: z")
    with pytest.raises(Refused) as caught:
        read(lines("OPTIONS http://a.test/ HTTP/1.1", HOST, "Max-Forwards: 0"))
    assert caught.value.reply.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n")


def test_a_head_without_end_is_refused_in_words() -> None:
    for endless in (b"GET http://a.test/", b"GET http://a.test/ HTTP/1.1\r\nX: "):
        with pytest.raises(Refused) as caught:
            Reading(http1.opening, 3 * http1.LIMIT).feed(endless + b"x" * 2 * http1.LIMIT)
        assert b"too large" in caught.value.reply


def test_a_head_that_is_cut_off_waits_for_more() -> None:
    data = lines("CONNECT example.org:443 HTTP/1.1", "Host: example.org:443")
    for size in range(len(data)):
        assert Reading(http1.opening, 3 * http1.LIMIT).feed(data[:size]) is None


def test_tls_to_a_proxy_that_is_spoken_to_without_is_named() -> None:
    with pytest.raises(NotMine, match="clients speak to this listener without TLS"):
        read(b"\x16\x03\x01\x02\x00\x01")


def test_an_answer_of_our_own_wants_credentials_first() -> None:
    trace = ("TRACE http://a.test/ HTTP/1.1", HOST, "Max-Forwards: 0")
    with pytest.raises(Refused) as caught:
        read(lines(*trace), login=True)
    assert caught.value.reply.startswith(b"HTTP/1.1 407 ")
    turn, _ = read(lines(*trace, basic("alice:x")), login=True)
    assert isinstance(turn, Turn)
    with pytest.raises(Refused) as caught:
        Reading(turn.proceed("alice"), 10).feed(b"")
    assert caught.value.reply.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("data", [b"\x16\x03\x01", b"\x05\x01\x00", b" GET", b"\xff"])
def test_other_protocols_are_not_mine(data: bytes) -> None:
    with pytest.raises(NotMine):
        read(data)


def basic(text: str) -> str:
    return "Proxy-Authorization: Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "data",
    [
        lines("CONNECT a:1 HTTP/1.1", "Host: a", basic("alice:a:b")),
        lines("GET http://a:1/ HTTP/1.1", "Host: a", basic("alice:a:b").replace("Basic", "bASIC")),
    ],
)
def test_a_user_with_a_password(data: bytes) -> None:
    turn, rest = read(data + b"rest", login=True)
    assert isinstance(turn, Turn)
    assert (turn.credentials, turn.reply, rest) == (Credentials("alice", "a:b"), b"", b"rest")
    assert turn.rejected.startswith(b"HTTP/1.1 407 ")
    parser: OpeningParser = turn.proceed("alice")
    parsed = Reading(parser, 10).feed(b"")
    assert parsed is not None
    assert isinstance(parsed.value, Request)
    assert (parsed.value.user, parsed.value.authority, parsed.consumed) == ("alice", Authority("a", 1), 0)


@pytest.mark.parametrize(
    "field",
    [
        "X: y", "Proxy-Authorization: Digest x", "Proxy-Authorization: Basic !", basic("nocolon"),
        basic("a" * 256 + ":b"), basic("a:" + "b" * 5000),
    ],
)  # fmt: skip
def test_a_user_must_say_who_he_is(field: str) -> None:
    with pytest.raises(Refused) as caught:
        read(lines("CONNECT a:1 HTTP/1.1", "Host: a", field), login=True)
    assert caught.value.reason is Reason.NOT_AUTHENTICATED
    assert caught.value.reply.startswith(b"HTTP/1.1 407 ")
    assert b'\r\nProxy-Authenticate: Basic realm="tfo-proxy"' in caught.value.reply


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Reason.DENIED, 403), (Reason.NOT_ALLOWED, 403), (Reason.REFUSED, 502), (Reason.UNREACHABLE, 502),
        (Reason.NO_SUCH_HOST, 502), (Reason.CONNECT_TIMEOUT, 504), (Reason.NO_DESCRIPTORS, 503),
    ],
)  # fmt: skip
def test_what_a_client_is_told(reason: Reason, status: int) -> None:
    reply = request(lines("GET http://a.test/ HTTP/1.1", HOST)).refused(
        reason, "a.test:80: so\r\nit is \u20ac"
    )
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"a.test:80" in body
    alone = request(lines("HEAD http://a.test/ HTTP/1.1", HOST)).refused(reason, "why")
    assert alone.endswith(b"\r\n\r\n")


def test_mutations_end_in_an_answer() -> None:
    rng = random.Random(11)
    samples = [
        *BAD,
        lines("GET http://example.org/a HTTP/1.1", HOST, "X: y"),
        lines("CONNECT a:1 HTTP/1.1", HOST),
    ]
    for _ in range(150):
        data = bytearray(rng.choice(samples))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            data[at : at + rng.randint(0, 2)] = bytes(
                rng.choice(b"\r\n :/@%#[]\0\x80aZ09") for _ in range(rng.randint(0, 2))
            )
        for login in (False, True):
            results: list[object] = []
            for step in (1, 1 << 20):
                reading = Reading(partial(http1.opening, login=login), 3 * http1.LIMIT)
                try:
                    parsed = None
                    for start in range(0, len(data), step):
                        parsed = reading.feed(bytes(data[start : start + step]))
                        if parsed is not None:
                            break
                    results.append(parsed and (parsed.consumed, type(parsed.value)))
                except (Refused, Malformed, NotMine) as error:
                    results.append((type(error), str(error)))
            assert results[0] == results[1], bytes(data)


@settings(max_examples=50)
@given(st.text(alphabet="http:/[]%@?#.a0\x7f é", max_size=30))
def test_any_target_ends_in_an_answer(target: str) -> None:
    data = f"GET http://{target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    try:
        value, _ = read(data)
    except Refused:
        return
    assert isinstance(value, Request)
    assert value.early.startswith(b"GET /")
    assert value.early.endswith(b"\r\n\r\n")
