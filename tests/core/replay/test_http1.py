from __future__ import annotations

import pytest

from proxy.core.protocol import Protocol
from proxy.core.replay import classify

HEAD = b"GET /a?b=c HTTP/1.1\r\nHost: example.org\r\nUser-Agent: curl/8.5\r\nAccept: */*\r\n\r\n"

SAFE = {
    "GET": HEAD,
    "HEAD": b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS": b"OPTIONS /a HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS of the server": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "TRACE": b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/1.0 without a header": b"GET / HTTP/1.0\r\n\r\n",
    "absolute form": b"GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "an empty value": b"GET / HTTP/1.1\r\nHost:\r\nX-Empty: \r\n\r\n",
    "Latin-1 in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: caf\xe9\r\n\r\n",
    "no body, said so": b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "h2c offered": b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n\r\n",
    "a header that only sounds dangerous": b"GET / HTTP/1.1\r\nX-Content-Length: 5\r\nExpectation: 1\r\n\r\n",
    "a danger in a value": b"GET / HTTP/1.1\r\nX: Upgrade: websocket\r\n\r\n",
}

UNSAFE = {
    "POST": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "PUT": b"PUT / HTTP/1.1\r\nHost: a\r\n\r\n",
    "DELETE": b"DELETE /a HTTP/1.1\r\nHost: a\r\n\r\n",
    "PATCH": b"PATCH /a HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT": b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n",
    "another method": b"PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a body": b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "a body, in other letters": b"GET / HTTP/1.1\r\nHost: a\r\ncONTENT-lENGTH:5\r\n\r\nhello",
    "two lengths": b"GET / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": b"GET / HTTP/1.1\r\nContent-Length: 0, 5\r\n\r\nhello",
    "a signed length": b"GET / HTTP/1.1\r\nContent-Length: +0\r\n\r\n",
    "chunked": b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "WebSocket": b"GET /chat HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "Expect": b"GET / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n",
    "another method in a header": b"GET / HTTP/1.1\r\nX-HTTP-Method-Override: DELETE\r\n\r\n",
    "folded": b"GET / HTTP/1.1\r\nX: a\r\n Content-Length: 5\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\nContent-Length : 5\r\n\r\nhello",
    "no name": b"GET / HTTP/1.1\r\n: a\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\r\nHost: a\nContent-Length: 5\r\n\r\nhello",
    "bare CR": b"GET / HTTP/1.1\r\nHost: a\rContent-Length: 5\r\n\r\nhello",
    "NUL": b"GET / HTTP/1.1\r\nHost: a\0\r\n\r\n",
    "a Redis command where a header should be": b"GET /a HTTP/1.1\r\nINCR b:c\r\n\r\n",
}

UNKNOWN = {
    "lower case": b"get / HTTP/1.1\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\n\r\n",
    "LF only": b"GET / HTTP/1.1\nHost: a\n\n",
    "two spaces": b"GET  / HTTP/1.1\r\n\r\n",
    "tab": b"GET\t/ HTTP/1.1\r\n\r\n",
    "an empty line first": b"\r\nGET / HTTP/1.1\r\n\r\n",
    "raw UTF-8 in the target": "GET /bücher HTTP/1.1\r\n\r\n".encode(),
    "half a method": b"OPTIO",
    "a method alone": b"GET",
    "no target yet": b"GET ",
    "half a scheme": b"GET htt",
}


@pytest.mark.parametrize("head", SAFE.values(), ids=SAFE.keys())
@pytest.mark.parametrize("tail", [b"", HEAD, b"POST / HTTP/1.1\r\n\r\n", b"\x16\3\1"])
def test_safe_is_the_first_head_alone(head: bytes, tail: bytes) -> None:
    assert classify(head + tail) == (len(head), Protocol.HTTP1)


@pytest.mark.parametrize("flight", UNSAFE.values(), ids=UNSAFE.keys())
def test_unsafe(flight: bytes) -> None:
    assert classify(flight) == (0, Protocol.HTTP1)


@pytest.mark.parametrize("flight", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_not_clearly_http(flight: bytes) -> None:
    assert classify(flight)[0] == 0


@pytest.mark.parametrize("head", SAFE.values(), ids=SAFE.keys())
def test_an_unfinished_head_counts_from_its_target_on(head: bytes) -> None:
    target = head.index(b" ") + (len(b" http://e") if b" http" in head else len(b" /"))
    for length in range(len(head)):
        expected = length if length >= target else 0
        assert classify(head[:length])[0] == expected, head[:length]


@pytest.mark.parametrize("flight", [UNSAFE[name] for name in ("POST", "PUT", "DELETE", "CONNECT")])
def test_an_unsafe_method_is_never_safe_however_short(flight: bytes) -> None:
    assert not any(classify(flight[:length])[0] for length in range(len(flight)))


def test_a_body_announced_in_an_unfinished_head() -> None:
    flight = UNSAFE["a body"]
    announced = flight.index(b"5", flight.index(b"Content-Length")) + 1
    assert [classify(flight[:length])[0] for length in range(announced, len(flight))] == [0] * (
        len(flight) - announced
    )


def test_a_long_head_takes_linear_time() -> None:
    head = b"GET /" + b"a" * 30_000 + b" HTTP/1.1\r\n" + b"X: " + b" " * 30_000
    assert classify(head) == (len(head), Protocol.HTTP1)
    assert classify(head + b"\0") == (0, Protocol.HTTP1)
