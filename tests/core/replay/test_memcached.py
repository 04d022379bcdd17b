from __future__ import annotations

import pytest

from proxy.core.protocol import Protocol
from proxy.core.replay import classify

SAFE = [
    b"get a\r\n",
    b"gets a b c\r\n",
    b"get " + b"k" * 250 + b"\r\n",
    b"get a\n",
    b"version\r\n",
    b"stats\r\n",
    b"stats items\r\n",
    b"mn\r\n",
    b"version\r\nget a\r\nget b\r\n",
]
UNSAFE = [
    b"set a 0 0 1\r\nx\r\n",
    b"incr a 1\r\n",
    b"delete a\r\n",
    b"gat 10 a\r\n",
    b"gats 10 a\r\n",
    b"mg a v\r\n",
    b"ms a 1\r\nx\r\n",
    b"touch a 10\r\n",
    b"stats reset\r\n",
    b"stats detail on\r\n",
    b"flush_all\r\n",
    b"verbosity 2\r\n",
    b"get a\0b\r\n",
    b"VERSION\r\n",
    b"get index.html HTTP/1.1\r\n",
]


@pytest.mark.parametrize("reads", SAFE)
@pytest.mark.parametrize("tail", [b"", b"get unfinished", b"set a 0 0 1\r\nx\r\n", b"\x80"])
def test_text_reads(reads: bytes, tail: bytes) -> None:
    assert classify(reads + tail) == (len(reads), Protocol.MEMCACHED)


@pytest.mark.parametrize("flight", UNSAFE)
def test_text_unsafe(flight: bytes) -> None:
    assert not any(classify(flight[:length])[0] for length in range(len(flight) + 1))


@pytest.mark.parametrize("flight", [b"get " + b"k" * 251 + b"\r\n", b"get\r\n"])
def test_what_memcached_refuses_is_left_to_redis(flight: bytes) -> None:
    assert classify(flight) == (len(flight), Protocol.REDIS)


def request(
    opcode: int, key: bytes = b"", value: bytes = b"", *, cas: int = 0, magic: int = 0x80, extras: bytes = b""
) -> bytes:
    header = bytes([magic, opcode]) + len(key).to_bytes(2, "big") + bytes([len(extras), 0, 0, 0])
    body = extras + key + value
    return header + len(body).to_bytes(4, "big") + b"tag!" + cas.to_bytes(8, "big") + body


BINARY_SAFE = [
    request(0x00, b"key"),
    request(0x0C, b"key"),
    request(0x09, b"a") + request(0x0D, b"b") + request(0x0A),
    request(0x0B),
    request(0x10),
    request(0x20),
]
BINARY_UNSAFE = [
    request(0x01, b"key", b"value", extras=b"\0" * 8),
    request(0x04, b"key"),
    request(0x05, b"counter", extras=b"\0" * 20),
    request(0x08),
    request(0x1D, b"key", extras=b"\0\0\0\1"),
    request(0x10, b"reset"),
    request(0x21, b"PLAIN", b"\0user\0pass"),
    request(0x00),
    request(0x00, b"key", b"value"),
    request(0x00, b"key", extras=b"\0\0\0\0"),
    request(0x00, b"key", cas=1),
    request(0x00, b"k" * 251),
    request(0x00, b"key", magic=0x81),
]


@pytest.mark.parametrize("reads", BINARY_SAFE)
@pytest.mark.parametrize("tail", [b"", request(0x00, b"key")[:-1], BINARY_UNSAFE[0]])
def test_binary_reads(reads: bytes, tail: bytes) -> None:
    assert classify(reads + tail) == (len(reads), Protocol.MEMCACHED)


@pytest.mark.parametrize("flight", BINARY_UNSAFE)
def test_binary_unsafe(flight: bytes) -> None:
    assert not any(classify(flight[:length])[0] for length in range(len(flight) + 1))
