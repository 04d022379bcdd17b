from __future__ import annotations

import pytest

from proxy.core.address import Authority, Endpoint, Target
from proxy.core.clusters import Via
from proxy.core.gateway import MOST_REPLY, Declined, Step, may_follow, steps
from proxy.core.outcomes import Reason
from proxy.core.reader import Malformed, Reading

GATEWAY = Endpoint("192.0.2.1", 1080)
NAME = Authority("api.example.com", 443)


def hear(step: Step, data: bytes, piece: int) -> int | None:
    """How many bytes the answer had; None: it is not all there."""
    reading = Reading(step.hear, MOST_REPLY)
    for at in range(0, len(data), piece):
        parsed = reading.feed(data[at : at + piece])
        if parsed is not None:
            return parsed.consumed
    return None


@pytest.mark.parametrize(
    ("destination", "address"),
    [
        (NAME, b"\x03\x0fapi.example.com\x01\xbb"),
        (Endpoint("192.0.2.9", 80), b"\x01\xc0\x00\x02\x09\x00\x50"),
        (
            Endpoint("2001:db8::1", 80),
            b"\x04" + bytes.fromhex("20010db8000000000000000000000001") + b"\x00\x50",
        ),
    ],
)
def test_socks_says(destination: Target, address: bytes) -> None:
    greeting, request = steps(Via("socks", GATEWAY), destination)
    assert (greeting.say, request.say) == (b"\x05\x01\x00", b"\x05\x01\x00" + address)
    greeting, login, request = steps(Via("socks", GATEWAY, "user", "secret"), destination)
    assert (greeting.say, login.say) == (b"\x05\x01\x02", b"\x01\x04user\x06secret")
    assert request.say == b"\x05\x01\x00" + address


@pytest.mark.parametrize(
    ("destination", "authority"), [(NAME, "api.example.com:443"), (Endpoint("::1", 80), "[::1]:80")]
)
def test_http_says(destination: Target, authority: str) -> None:
    (request,) = steps(Via("http", GATEWAY), destination)
    head = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n"
    assert request.say == head.encode()
    (request,) = steps(Via("http", GATEWAY, "user", "pass"), destination)
    assert b"\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n" in request.say
    (request,) = steps(Via("http", GATEWAY), destination, b"1.0 \xe9, 1.1 me")
    assert request.say == head.encode()[:-2] + b"Via: 1.0 \xe9, 1.1 me\r\n\r\n"


REPLIES = [
    (0, b"\x05\x00"),
    (1, b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"),
    (1, b"\x05\x00\x00\x04" + bytes(18)),
    (1, b"\x05\x00\x00\x03\x03abc\x00\x50"),
]


@pytest.mark.parametrize(("number", "answer"), REPLIES)
@pytest.mark.parametrize("piece", [1, 2, 1000])
def test_socks_hears_all_and_not_a_byte_more(number: int, answer: bytes, piece: int) -> None:
    step = steps(Via("socks", GATEWAY), NAME)[number]
    assert hear(step, answer + b"SSH-2.0", piece) == len(answer)
    for cut in range(len(answer)):
        assert hear(step, answer[:cut], piece) is None


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n", b"HTTP/1.0 200\r\n\r\n", b"HTTP/1.1 204 \r\n\r\n", b"HTTP/1.0 200 OK\n\n",
        b"HTTP/1.1 200 OK\nX: y\r\n\n", b"HTTP/1.2 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\nLink: </>\n\nHTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Long: y\r\n" * 3000 + b"\r\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("piece", [1, 1000])
def test_http_hears_the_head(head: bytes, piece: int) -> None:
    (step,) = steps(Via("http", GATEWAY), NAME)
    assert hear(step, head + b"body", piece) == len(head)


@pytest.mark.parametrize(
    ("via", "number", "answer", "reason"),
    [
        ("socks", 0, b"\x05\xff", Reason.NOT_PERMITTED),
        ("socks", 0, b"\x05\x02", Reason.NOT_PERMITTED),
        ("socks", 1, b"\x05\x05\x00\x01", Reason.REFUSED),
        ("socks", 1, b"\x05\x04\x00\x01", Reason.UNREACHABLE),
        ("socks", 1, b"\x05\x02\x00\x01", Reason.NOT_PERMITTED),
        ("socks", 1, b"\x05\x63\x00\x01", Reason.UNREACHABLE),
        ("http", 0, b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", Reason.NOT_PERMITTED),
        ("http", 0, b"HTTP/1.1 502 Bad Gateway\r\n\r\n", Reason.UNREACHABLE),
        ("http", 0, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\n\n", Reason.NOT_PERMITTED),
        ("http", 0, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", Reason.UNREACHABLE),
        ("http", 0, b"HTTP/1.1 504 Gateway Timeout\r\n\r\n", Reason.CONNECT_TIMEOUT),
    ],
)
def test_a_gateway_that_says_no(via: str, number: int, answer: bytes, reason: Reason) -> None:
    with pytest.raises(Declined, match="the gateway") as caught:
        hear(steps(Via(via, GATEWAY), NAME)[number], answer, 1)
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("via", "number", "answer"),
    [
        ("socks", 0, b"HTTP/1.1 400"),
        ("socks", 1, b"\x04\x00\x00\x01"),
        ("socks", 1, b"\x05\x00\x00\x02"),
        ("http", 0, b"\x05\x00\r\n\r\n"),
        ("http", 0, b"HTTP/2 200\r\n\r\n"),
        ("http", 0, b"x" * 70_000),
        ("http", 0, b"HTTP/1.1 100 Continue\r\n\r\n" * 3000),
        ("http", 0, b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 12_000),
        ("http", 0, b"\r\nHTTP/1.1 200 OK\r\n\r\n"),
    ],
)
def test_what_is_no_answer(via: str, number: int, answer: bytes) -> None:
    with pytest.raises(Malformed):
        hear(steps(Via(via, GATEWAY), NAME)[number], answer, 100)


@pytest.mark.parametrize(
    ("kind", "data", "may"),
    [
        ("http", b"", True),
        ("http", b"\x16\x03\x01\x02\x00", True),
        ("http", b"GET / HTTP/1.1\r\n\r\n", False),
        ("http", b"\r\nGET / HTTP/1.1\r\n\r\n", False),
        ("http", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", False),
        ("http", b"SSH-2.0-x\r\n", False),
        ("http", b"\x00\x00\x00\x08\x04\xd2\x16\x2f", False),
        ("http", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n\x16\x03", False),
        ("socks", b"GET / HTTP/1.1\r\n\r\n", True),
    ],
)
def test_only_tls_is_sent_behind_an_unanswered_connect(kind: str, data: bytes, may: bool) -> None:
    assert may_follow(Via(kind, GATEWAY), data) is may
