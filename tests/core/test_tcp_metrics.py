"""The cookie cache's messages: recorded ones read right, cut or spoilt ones never raise."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core import tcp_metrics
from proxy.core.tcp_metrics import Cookie, Message


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def packed(body: bytes, kind: int = 30, sequence: int = 1) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, sequence, 0) + body


GENERIC = struct.pack("=BBxx", 1, 1)
VALUES = attribute(6, struct.pack("=I", 800_000)) + attribute(7, struct.pack("=I", 50_000))
ENTRY = GENERIC + b"".join(
    [
        attribute(1, bytes([10, 77, 2, 1])),
        attribute(11, bytes([10, 77, 1, 1])),
        attribute(3, struct.pack("=Q", 1500)),
        attribute(6 | 0x8000, VALUES),
        attribute(7, struct.pack("=H", 1460)),
        attribute(8, struct.pack("=H", 2)),
        attribute(9, struct.pack("=Q", 300)),
        attribute(10, b"\xa2\x79\x90\xdf\xe5\x84\xdd\xa7"),
    ]
)
COOKIE = Cookie("10.77.2.1", "10.77.1.1", True, 1460, 2, 0.1, 0.0125, 1.5, 8)


def test_an_entry_is_read_whole() -> None:
    (message,) = tcp_metrics.split(packed(ENTRY))
    assert tcp_metrics.read_cookie(message) == COOKIE


def test_an_ipv6_entry_with_nothing_but_its_address() -> None:
    body = GENERIC + attribute(2, ipaddress.ip_address("fd77::1").packed)
    assert tcp_metrics.read_cookie(Message(30, 1, body)) == Cookie(
        "fd77::1", "", False, None, 0, None, None, None
    )


def test_old_kernels_give_milliseconds() -> None:
    values = attribute(1, struct.pack("=I", 800)) + attribute(2, struct.pack("=I", 40))
    body = GENERIC + attribute(1, bytes(4)) + attribute(6, values)
    cookie = tcp_metrics.read_cookie(Message(30, 1, body))
    assert cookie is not None
    assert (cookie.rtt, cookie.rtt_variation) == (0.1, 0.01)


def test_several_messages_in_one_datagram() -> None:
    data = packed(ENTRY) + packed(ENTRY[:12]) + packed(struct.pack("=i", 0), kind=tcp_metrics.DONE)
    assert [message.kind for message in tcp_metrics.split(data)] == [30, 30, tcp_metrics.DONE]


@pytest.mark.parametrize(
    ("body", "code"), [(struct.pack("=i", -3), 3), (b"\0\0\0\0rest", 0), (b"\0", 0), (b"", 0)]
)
def test_errors(body: bytes, code: int) -> None:
    assert tcp_metrics.read_error(Message(tcp_metrics.ERROR, 1, body)) == code


def test_a_family_is_found_by_name() -> None:
    request = tcp_metrics.ask_family("tcp_metrics", 7)
    assert b"tcp_metrics\0" in request
    (own,) = tcp_metrics.split(request)
    assert (own.kind, own.sequence) == (16, 7)
    assert tcp_metrics.read_family(Message(16, 7, GENERIC + attribute(1, struct.pack("=H", 31)))) == 31
    assert tcp_metrics.read_family(Message(16, 7, GENERIC)) is None


@pytest.mark.parametrize("host", ["192.0.2.9", "2001:db8::9"])
def test_what_is_asked_for_is_read_back(host: str) -> None:
    address = ipaddress.ip_address(host)
    (message,) = tcp_metrics.split(tcp_metrics.ask_one(31, 5, address, address))
    cookie = tcp_metrics.read_cookie(message)
    assert cookie is not None
    assert (cookie.address, cookie.source) == (host, host)
    assert message.kind == 31


def test_truncated_everywhere_it_never_raises_and_never_invents() -> None:
    for length in range(len(ENTRY)):
        cookie = tcp_metrics.read_cookie(Message(30, 1, ENTRY[:length]))
        assert cookie is None or (cookie.address == COOKIE.address and cookie.mss in {None, COOKIE.mss})
    whole = packed(ENTRY)
    assert all(list(tcp_metrics.split(whole[:length])) == [] for length in range(len(whole)))


@settings(max_examples=60)
@given(st.binary(max_size=200))
def test_noise_never_raises(data: bytes) -> None:
    for message in tcp_metrics.split(data):
        tcp_metrics.read_error(message)
    for body in (data, GENERIC + data):
        tcp_metrics.read_cookie(Message(30, 1, body))
        tcp_metrics.read_family(Message(30, 1, body))


@settings(max_examples=60)
@given(st.integers(0, len(ENTRY) - 1), st.integers(0, 255))
def test_one_byte_spoilt_never_raises(place: int, value: int) -> None:
    spoilt = ENTRY[:place] + bytes([value]) + ENTRY[place + 1 :]
    tcp_metrics.read_cookie(Message(30, 1, spoilt))


@pytest.mark.parametrize("length", [0, 1, 3, 15])
def test_a_length_that_lies_ends_the_walk(length: int) -> None:
    assert list(tcp_metrics.split(struct.pack("=IHHII", length, 30, 0, 1, 0) + bytes(64))) == []
    lying = GENERIC + struct.pack("=HH", min(length, 3), 1) + bytes(64)
    assert tcp_metrics.read_cookie(Message(30, 1, lying)) is None
