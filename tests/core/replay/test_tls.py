from __future__ import annotations

import pytest

from proxy.core.protocol import Protocol
from proxy.core.replay import classify
from tests.core.hellos import TYPICAL, extension, message, record, records

EARLY_DATA = extension(42) + extension(41, b"psk")
CHANGE_CIPHER_SPEC = record(b"\1", kind=20, version=b"\3\3")
APPLICATION_DATA = record(b"POST /pay HTTP/1.1 encrypted", kind=23, version=b"\3\3")


@pytest.mark.parametrize("extensions", [TYPICAL, TYPICAL + EARLY_DATA, extension(51, b"k" * 1_216)])
@pytest.mark.parametrize("sizes", [(), (1,), (5, 5, 5), (100,)])
@pytest.mark.parametrize(
    "tail",
    [b"", CHANGE_CIPHER_SPEC, CHANGE_CIPHER_SPEC + APPLICATION_DATA, APPLICATION_DATA, b"\x17", b"GET /"],
)
def test_the_hello_and_never_what_is_behind_it(
    extensions: bytes, sizes: tuple[int, ...], tail: bytes
) -> None:
    hello = records(message(extensions), *sizes)
    assert classify(hello + tail) == (len(hello), Protocol.TLS)


def test_a_hello_larger_than_what_has_arrived() -> None:
    hello = records(message(TYPICAL), 30, 30)
    for length in range(len(hello)):
        assert classify(hello[:length]) == ((length, Protocol.TLS) if length > 1 else (0, Protocol.UNKNOWN))


@pytest.mark.parametrize(
    "flight",
    [
        record(message(TYPICAL)[:-1] + b"xx"),
        record(message(TYPICAL, kind=2)),
        record(message(TYPICAL) + b"more"),
        record(message(TYPICAL)[:60]) + APPLICATION_DATA,
    ],
    ids=["too long", "a ServerHello", "more in its record", "cut short by application data"],
)
def test_a_broken_hello_is_unsafe(flight: bytes) -> None:
    assert classify(flight) == (0, Protocol.TLS)


@pytest.mark.parametrize("flight", [b"\x16", b"\x16\0\0\0", b"\x16\2\0\0\1\1", b"\x16\3\x09\0\5hello"])
def test_not_tls(flight: bytes) -> None:
    assert classify(flight) == (0, Protocol.UNKNOWN)
