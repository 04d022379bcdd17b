"""Thousands of malformed openings: each ends in a refusal or a close, in time, and costs nothing that stays."""

from __future__ import annotations

import random
import selectors
import socket
import time
from contextlib import suppress

import pytest

from proxy.core.address import Endpoint
from proxy.core.proxy_header import version1, version2
from proxy.lab.servers import Address
from proxy.lab.wan import Wan
from tests.core import hellos
from tests.wire.program import Line, Program, until

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.001), pytest.mark.slow]

HANDSHAKE = 0.4
MARGIN = 20.0  # a busy machine, and the second that a refused client has to hear it
AT_ONCE = 200
EXPECTED = {"bad_request", "not_authenticated", "denied", "handshake_timeout", "no_request", "reset"}

ENDS = Endpoint("192.0.2.1", 1), Endpoint("192.0.2.2", 2)
SOCKS = [
    b"\5\1\0\5\1\0\1\x7f\0\0\1\0\x50",
    b"\5\1\2\1\5alice\6secret\5\1\0\3\4host\0\x50",
    b"\4\1\0\x50\0\0\0\1me\0host\0",
]
HTTP = [
    b"CONNECT host.test:443 HTTP/1.1\r\nHost: host.test:443\r\n\r\n",
    b"GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    b"POST http://[::1]/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: y\r\n\r\nhello",
]
TLS = [
    hellos.record(hellos.message(hellos.TYPICAL)),
    hellos.records(hellos.message(hellos.TYPICAL), 1, 9, 50),
]
HEADERS = [version1(*ENDS), version2(*ENDS, [(3, b""), (2, b"name")])]


def broken(rng: random.Random, samples: list[bytes]) -> bytes:
    data = bytearray(rng.choice(samples))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                data.insert(at, rng.randrange(256))
            case 2:
                del data[at]
            case _:
                del data[at:]
                data += rng.randbytes(rng.randint(1, 4))
        data = data or bytearray(b"\0")
    return bytes(data)


def ends_of(address: Address, openings: list[bytes]) -> list[float]:
    """Say them all at once; how long each took to be ended."""
    selector = selectors.DefaultSelector()
    started: dict[socket.socket, float] = {}
    took: list[float] = []
    for opening in openings:
        sock = socket.create_connection(address, timeout=10)
        with suppress(ConnectionError):  # it may be too late already: then that is what is read
            sock.sendall(opening)
        sock.setblocking(False)
        started[sock] = time.monotonic()
        selector.register(sock, selectors.EVENT_READ)
    while started and (ready := selector.select(HANDSHAKE + MARGIN)):
        for key, _ in ready:
            assert isinstance(key.fileobj, socket.socket)
            sock = key.fileobj
            try:
                if sock.recv(65536):
                    continue
            except ConnectionResetError:
                pass
            took.append(time.monotonic() - started.pop(sock))
            selector.unregister(sock)
            sock.close()
    assert not started, f"{len(started)} were never ended"
    return took


@pytest.mark.parametrize(
    ("name", "keys", "samples"),
    [
        ("socks", {}, SOCKS),
        ("http", {}, HTTP),
        ("mixed", {"users": {"alice": "secret"}}, SOCKS + HTTP),
        ("sni", {}, TLS),
        (
            "mixed",
            {"proxy_protocol": "require", "trust": ["loopback"]},
            [head + SOCKS[0] for head in HEADERS],
        ),
    ],
)
def test_malformed_openings(wan: Wan, name: str, keys: Line, samples: list[bytes]) -> None:
    rng = random.Random(name)
    document: Line = {
        "listeners": {
            "a": {"bind": "127.0.0.1:0", "mode": name, "timeouts": {"handshake": f"{HANDSHAKE}s"}, **keys}
        },
        "routes": [{"refuse": "nowhere to go"}],
    }
    with Program(wan.client, None, document=document) as proxy:
        openings = [broken(rng, samples) for _ in range(5 * AT_ONCE)]
        memory = 0
        for at in range(0, len(openings), AT_ONCE):
            took = ends_of(proxy.address(), openings[at : at + AT_ONCE])
            assert max(took) < HANDSHAKE + MARGIN
            memory = memory or proxy.memory()
        until(lambda: proxy.open_sessions() == 0)
        reasons = {line["reason"] for line in proxy.events("session")}
        assert reasons <= {
            "bad_request",
            "not_authenticated",
            "denied",
            "handshake_timeout",
            "no_request",
            "reset",
        }, reasons
        assert {"bad_request", "handshake_timeout"} <= reasons
        assert proxy.memory() < memory + 6 * 1024 * 1024
