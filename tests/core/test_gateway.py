from __future__ import annotations

import pytest

from proxy.core.address import Authority, Endpoint, Target
from proxy.core.clusters import Via
from proxy.core.gateway import MOST_REPLY, Declined, Step, steps
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
    assert request.say == f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode()
    (request,) = steps(Via("http", GATEWAY, "user", "pass"), destination)
    assert b"\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n" in request.say


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
    "head", [b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n", b"HTTP/1.0 200\r\n\r\n", b"HTTP/1.1 204 \r\n\r\n"]
)
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
        ("http", 0, b"x" * 20000),
    ],
)
def test_what_is_no_answer(via: str, number: int, answer: bytes) -> None:
    with pytest.raises(Malformed):
        hear(steps(Via(via, GATEWAY), NAME)[number], answer, 100)
