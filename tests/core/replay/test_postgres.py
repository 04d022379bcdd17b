from __future__ import annotations

import pytest

from proxy.core.protocol import Protocol
from proxy.core.replay import classify


def packet(code: int, body: bytes = b"") -> bytes:
    return (8 + len(body)).to_bytes(4, "big") + code.to_bytes(4, "big") + body


SSL_REQUEST, GSSENC_REQUEST = packet(80877103), packet(80877104)
STARTUP = packet(196608, b"user\0alice\0database\0shop\0application_name\0psql\0\0")
SAFE = {
    "SSLRequest": SSL_REQUEST,
    "GSSENCRequest": GSSENC_REQUEST,
    "StartupMessage": STARTUP,
    "3.2": packet(196610, b"user\0a\0_pq_.x\0on\0\0"),
    "custom parameter": packet(196608, b"database\0\0user\0a\0my.setting\0on\0\0"),
}


@pytest.mark.parametrize("opening", SAFE.values(), ids=SAFE.keys())
@pytest.mark.parametrize("tail", [b"", b"Q\0\0\0\x14DELETE FROM t;\0", STARTUP])
def test_the_opening_packet_alone(opening: bytes, tail: bytes) -> None:
    assert classify(opening + tail) == (len(opening), Protocol.POSTGRES)
    assert not any(classify(opening[:length])[0] for length in range(len(opening)))


def test_cancelling_ends_another_session_s_query() -> None:
    assert classify(packet(80877102, b"\0\0\1\1secr")) == (0, Protocol.POSTGRES)


@pytest.mark.parametrize(
    "flight",
    [
        packet(131072, b"user\0alice\0\0"),
        packet(80877103, b"more"),
        packet(196608),
        packet(196608, b"\0"),
        packet(196608, b"database\0shop\0\0"),
        packet(196608, b"user\0alice\0"),
        packet(196608, b"user\0alice\0database\0\0"),
        packet(196608, b"us er\0x\0user\0alice\0\0"),
        packet(196608, b"\0\0user\0alice\0\0"),
        packet(196608, b"user\0" + b"a" * 10_000 + b"\0\0"),
        packet(0x00030009, b"\0\0\0\1\0\x07rdkafka\0\0\0\1"),
    ],
    ids=[
        "protocol 2",
        "SSLRequest too long",
        "no parameters",
        "empty",
        "no user",
        "no end",
        "name without value",
        "odd name",
        "empty name",
        "too long",
        "Kafka",
    ],
)
def test_unknown(flight: bytes) -> None:
    assert classify(flight) == (0, Protocol.UNKNOWN)
