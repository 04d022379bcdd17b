"""The laws of `safe_prefix`, whatever the protocol; what each protocol's bytes mean is tested in replay/."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.protocol import Protocol
from proxy.core.replay import classify, safe_prefix
from tests.core.hellos import TYPICAL, message, record, records

HELLO = record(message(TYPICAL))
WHOLE = {
    "tls": HELLO,
    "tls in three records": records(message(TYPICAL), 10, 60),
    "http1": b"GET /a HTTP/1.1\r\nHost: example.org\r\nContent-Length: 0\r\n\r\n",
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\6\4\0\0\0\0\0\0\3\0\0\0\x64\0\0\4\x08\0\0\0\0\0\0\1\0\0",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "socks": b"\5\2\0\2",
    "postgres": b"\0\0\0\x08\x04\xd2\x16\x2f",
    "dns": b"\0\x1d\x12\x34\1\0\0\1\0\0\0\0\0\0\7example\3org\0\0\1\0\1",
    "redis": b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
    "redis inline": b"EXISTS a\r\nPING\r\n",
    "memcached": b"get a b\r\nversion\r\n",
    "memcached binary": b"\x80\x0c\0\1\0\0\0\0\0\0\0\1tag!\0\0\0\0\0\0\0\0k",
}
"""Each safe from its first byte to its last."""

OPEN_ENDED = {"tls", "tls in three records", "http1"}
"""Protocols whose unfinished first unit counts as far as it has come."""


@pytest.mark.parametrize(("name", "flight"), WHOLE.items(), ids=WHOLE.keys())
def test_whole(name: str, flight: bytes) -> None:
    assert classify(flight) == (len(flight), Protocol(name.split(maxsplit=1)[0]))


@pytest.mark.parametrize(("name", "flight"), WHOLE.items(), ids=WHOLE.keys())
def test_truncated_it_grows_with_what_is_there(name: str, flight: bytes) -> None:
    """More bytes of a safe flight never make fewer of them safe, and byte by byte it ends up all safe."""
    lengths = [safe_prefix(flight[:length]) for length in range(len(flight) + 1)]
    assert lengths == sorted(lengths)
    assert all(safe <= length for length, safe in enumerate(lengths))
    if name in OPEN_ENDED:
        assert all(safe in (0, length) for length, safe in enumerate(lengths))


@pytest.mark.parametrize("flight", WHOLE.values(), ids=WHOLE.keys())
@settings(max_examples=10)
@given(tail=st.binary(max_size=40))
def test_what_is_safe_by_itself_never_shrinks_behind_a_tail(flight: bytes, tail: bytes) -> None:
    followed = safe_prefix(flight + tail)
    assert followed >= len(flight) or (flight[0] == 5 and followed == 0)  # SOCKS doubts an odd tail


@settings(max_examples=60)
@given(st.data())
def test_the_safe_prefix_of_anything_is_safe_by_itself(data: st.DataObject) -> None:
    flight = bytearray(data.draw(st.sampled_from(sorted(WHOLE.values()))))
    flight += data.draw(st.sampled_from([b"", *sorted(WHOLE.values())]))
    for _ in range(data.draw(st.integers(0, 3))):
        flight[data.draw(st.integers(0, len(flight) - 1))] = data.draw(st.integers(0, 255))
    early = bytes(flight)
    length, protocol = classify(early)
    assert 0 <= length <= len(early)
    assert length == 0 or classify(early[:length]) == (length, protocol)


@settings(max_examples=40)
@given(st.integers(0, 255), st.binary(max_size=200))
def test_anything_is_answered(first: int, rest: bytes) -> None:
    length = safe_prefix(bytes([first]) + rest)
    assert 0 <= length <= 1 + len(rest)


def test_nothing_is_unknown() -> None:
    assert classify(b"") == (0, Protocol.UNKNOWN)


_METHODS = ("POST", "PUT", "DELETE", "PATCH", "CONNECT", "PROPPATCH", "MKCOL", "LOCK")
_WRITES = (
    "INCR",
    "SET",
    "DEL",
    "LPUSH",
    "GETDEL",
    "EVAL",
    "PUBLISH",
    "EXPIRE",
    "SPOP",
    "HINCRBY",
    "FLUSHALL",
)
_STORES = ("set", "add", "incr", "decr", "delete", "append", "touch", "gat", "ms", "md", "ma")


def _request(rng: random.Random) -> bytes:
    target = "/" + "".join(rng.choices("abc/?=&", k=rng.randrange(40)))
    body = rng.randbytes(rng.randrange(200))
    head = f"{rng.choice(_METHODS)} {target} HTTP/1.1\r\nHost: example.org\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _announcing(rng: random.Random) -> bytes:
    body = rng.randbytes(rng.randrange(1, 200))
    field = rng.choice((f"Content-Length: {len(body)}", "Transfer-Encoding: chunked", "Upgrade: websocket"))
    return f"GET /{rng.randrange(99)} HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n".encode() + body


def _redis_write(rng: random.Random) -> bytes:
    words = [rng.choice(_WRITES), *(str(rng.randrange(10**6)) for _ in range(rng.randrange(1, 4)))]
    if rng.random() < 0.5:
        return (" ".join(words) + "\r\n").encode()
    return f"*{len(words)}\r\n".encode() + b"".join(f"${len(w)}\r\n{w}\r\n".encode() for w in words)


def _memcached_write(rng: random.Random) -> bytes:
    return f"{rng.choice(_STORES)} key{rng.randrange(99)} 0 0 1\r\nx\r\n".encode()


def _update(rng: random.Random) -> bytes:
    flags = rng.choice((0x2800, 0x2000, 0x8180))
    body = rng.randbytes(2) + flags.to_bytes(2, "big") + b"\0\1\0\0\0\0\0\0\7example\3org\0\0\6\0\1"
    return len(body).to_bytes(2, "big") + body


def _cancel(rng: random.Random) -> bytes:
    return b"\0\0\0\x10\x04\xd2\x16\x2e" + rng.randbytes(8)


def _application_data(rng: random.Random) -> bytes:
    return b"\x17\3\3" + record(rng.randbytes(rng.randrange(1, 300)))[3:]


def _noise(rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(1, 600))


def _letters(rng: random.Random) -> bytes:
    return "".join(rng.choices("abcdefghijKLMNOPQRST 0123456789:/\r\n", k=rng.randrange(1, 300))).encode()


def _broken_hello(rng: random.Random) -> bytes:
    """A hello whose lengths disagree: some byte too many or too few in its extensions."""
    extensions = TYPICAL + bytes(rng.randrange(1, 4))
    return record(message(extensions)) + rng.randbytes(rng.randrange(20))


UNSAFE = (
    _request,
    _announcing,
    _redis_write,
    _memcached_write,
    _update,
    _cancel,
    _application_data,
    _noise,
    _letters,
    _broken_hello,
)


def test_a_thousand_unsafe_first_flights_are_unsafe() -> None:
    rng = random.Random(7413)
    for number in range(1_000):
        flight = UNSAFE[number % len(UNSAFE)](rng)
        assert safe_prefix(flight) == 0, flight
