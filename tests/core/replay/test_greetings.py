from __future__ import annotations

import pytest

from proxy.core.protocol import Protocol
from proxy.core.replay import classify


@pytest.mark.parametrize(
    "line",
    [
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n",
        b"SSH-2.0-JSCH-0.1.54\r\n",
        b"SSH-2.0-Go\r\n",
        b"SSH-1.99-old\n",
        b"SSH-2.0-" + b"x" * 245 + b"\r\n",
    ],
)
@pytest.mark.parametrize("tail", [b"", b"\0\0\5\x14\6\x14" + b"c" * 16])
def test_ssh_identification(line: bytes, tail: bytes) -> None:
    assert classify(line + tail) == (len(line), Protocol.SSH)
    assert not any(classify(line[:length])[0] for length in range(len(line)))


@pytest.mark.parametrize(
    "flight",
    [
        b"SSH-1.5-ancient\r\n",
        b"SSH-2.0-\r\n",
        b"SSH-2.0-a\0b\r\n",
        b"SSH-2.0-" + b"x" * 246 + b"\r\n",
        b"SSH-2.0-" + b"x" * 300,
        b"SSH-2.0-unfinished",
    ],
)
def test_ssh_unsafe(flight: bytes) -> None:
    assert classify(flight) == (0, Protocol.SSH)


AUTHENTICATION = b"\1\5alice\6secret"
REQUEST = b"\5\1\0\3\x0bexample.org\x01\xbb"


@pytest.mark.parametrize("greeting", [b"\5\1\0", b"\5\2\0\2", b"\5\3\0\1\2", b"\5\1\x80"])
@pytest.mark.parametrize("tail", [b"", REQUEST, AUTHENTICATION + REQUEST])
def test_socks_method_list(greeting: bytes, tail: bytes) -> None:
    assert classify(greeting + tail) == (len(greeting), Protocol.SOCKS)
    assert not any(classify(greeting[:length])[0] for length in range(len(greeting)))


def test_socks_4_asks_to_dial_at_once() -> None:
    assert classify(b"\4\1\x01\xbb\xc0\0\2\1user\0") == (0, Protocol.SOCKS)


@pytest.mark.parametrize(
    "flight",
    [
        b"\4",
        b"\4\7aaaaaaaaaaa",
        b"\5\0",
        b"\5\0\x0b\3\x10\0\0\0",
        b"\5\2\0",
        b"\5\2\0\0",
        b"\5\1\x44",
        b"\5\1\xff",
        b"\5\1\0\x77",
    ],
    ids=["4 alone", "no command", "no method", "DCE/RPC", "cut", "twice", "odd", "none of them", "odd tail"],
)
def test_not_socks(flight: bytes) -> None:
    assert classify(flight) == (0, Protocol.UNKNOWN)
