"""One client at its worst, in every way at once: the others are served as before, and /livez answers."""

from __future__ import annotations

import base64
import hashlib
import http.client
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import count

import pytest

from proxy.lab.behaviours import echoes
from proxy.lab.servers import Server
from proxy.lab.wan import Wan
from tests.trust.loris import Loris
from tests.trust.test_slow_clients import says, sends_much
from tests.wire.program import Program

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.0)]

RATE = 10.0  # connections a second, of each kind
SECONDS = 6.0
LIVE_WITHIN, LATER_BY = 0.1, 0.05  # seconds
MIXED, FORWARD, MUCH, FULL = (("127.0.0.1", port) for port in (17101, 17102, 17103, 17104))
ADMIN = ("127.0.0.1", 17105)
ABUSER, OTHER = "127.0.0.9", "127.0.0.2"
PASSWORD = "correct horse battery"  # of a test


class Abuse(threading.Thread):
    """Says something on a new connection, so many times a second, and keeps the last two hundred of them."""

    def __init__(self, to: tuple[str, int], said: Callable[[int], bytes]) -> None:
        super().__init__(daemon=True)
        self._to, self._said = to, said
        self._over = threading.Event()
        self.made = 0

    def run(self) -> None:
        kept: list[socket.socket] = []
        for number in count():
            if self._over.wait(1 / RATE):
                break
            with suppress(OSError):
                sock = socket.create_connection(self._to, 5, (ABUSER, 0))
                kept.append(sock)
                sock.setblocking(False)
                sock.send(self._said(number))
                self.made += 1
            while len(kept) > 200:
                kept.pop(0).close()
        for sock in kept:
            sock.close()

    def end(self) -> None:
        self._over.set()
        self.join(10)


def socks(host: str, port: int) -> bytes:
    """A SOCKS5 greeting and a request, in one breath, as user "abuser"."""
    login = b"\x05\x01\x02" + b"\x01\x06abuser" + bytes([len(PASSWORD)]) + PASSWORD.encode()
    return login + b"\x05\x01\0\x03" + bytes([len(host)]) + host.encode() + port.to_bytes(2, "big")


def guess(number: int) -> bytes:
    """A wrong password, for one user after the other."""
    name = f"user{number % 7}".encode()
    return b"\x05\x01\x02\x01" + bytes([len(name)]) + name + b"\x08" + b"%08d" % number


def kinds() -> Iterator[threading.Thread]:
    """Half-finished openings, slow reads, a full listener, the admin, dials into nothing, guesses, look-ups."""
    yield Loris(MIXED, b"GET http://example.com/ HTTP/1.1\r\n", RATE)
    yield Loris(MIXED, b"\x05\xff" + b"\0" * 200, RATE)
    yield Loris(ADMIN, b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n", RATE)
    yield Abuse(MUCH, lambda _: b"all of it")
    yield Abuse(FULL, lambda _: b"")
    yield Abuse(ADMIN, lambda _: b"GET /api/v1/sessions?limit=10000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    yield Abuse(ADMIN, lambda _: b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    yield Abuse(ADMIN, lambda _: b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    yield Abuse(MIXED, lambda number: socks(f"10.77.2.{number % 200 + 20}", 9))
    yield Abuse(MIXED, guess)
    yield Abuse(MIXED, lambda number: socks(f"name-{number}.silent.example", 80))


def live() -> float:
    """Seconds until /livez has answered."""
    started = time.monotonic()
    connection = http.client.HTTPConnection(*ADMIN, timeout=10)
    connection.request("GET", "/livez")
    assert connection.getresponse().status == 200
    connection.close()
    return time.monotonic() - started


def logged_in(name: str, port: int) -> float:
    """Seconds until a client with the right password, from elsewhere, hears an echo of a named host."""
    started = time.monotonic()
    with socket.create_connection(MIXED, 10, (OTHER, 0)) as sock:
        login = b"\x05\x01\x02" + b"\x01\x05other" + bytes([len(PASSWORD)]) + PASSWORD.encode()
        sock.sendall(
            login
            + b"\x05\x01\0\x03"
            + bytes([len(name)])
            + name.encode()
            + port.to_bytes(2, "big")
            + b"hello"
        )
        heard = b""
        while not heard.endswith(b"hello"):
            data = sock.recv(100)
            assert data, heard
            heard += data
    return time.monotonic() - started


def hashed(password: str) -> str:
    """As the configuration has it: the PHC string format."""
    salt = b"0123456789abcdef"
    found = hashlib.scrypt(password.encode(), salt=salt, n=1 << 14, r=8, p=1, maxmem=64 << 20)
    text = [base64.b64encode(one).decode().rstrip("=") for one in (salt, found)]
    return f"$scrypt$ln=14,r=8,p=1${text[0]}${text[1]}".replace("$", "$$")


def high(times: list[float]) -> float:
    """What nine of ten took at most."""
    return statistics.quantiles(times, n=10)[-1]


@pytest.mark.slow
def test_one_client_at_its_worst_keeps_no_other_waiting(wan: Wan) -> None:
    with ExitStack() as stack:
        echo = stack.enter_context(Server(wan.client, ("127.0.0.1", 0), echoes()))
        much = stack.enter_context(Server(wan.client, ("127.0.0.1", 0), sends_much))
        silent = stack.enter_context(wan.client.socket(socket.AF_INET, socket.SOCK_DGRAM))
        silent.bind(("127.0.0.1", 17153))
        to = f"127.0.0.1:{echo.address[1]}"
        users = {"abuser": PASSWORD, "other": PASSWORD, **{f"user{n}": hashed(f"{n}") for n in range(7)}}
        document = {
            "listeners": {
                "mixed": {"bind": "127.0.0.1:17101", "mode": "mixed", "users": users},
                "forward": {"bind": "127.0.0.1:17102", "mode": "forward", "to": to},
                "much": {"bind": "127.0.0.1:17103", "mode": "forward", "to": f"127.0.0.1:{much.address[1]}"},
                "full": {
                    "bind": "127.0.0.1:17104",
                    "mode": "forward",
                    "to": to,
                    "limits": {"connections": 5},
                },
            },
            "admin": {"bind": "127.0.0.1:17105"},
            "direct": {"deny": ["metadata"]},
            "dns": {"servers": ["127.0.0.1:17153"]},
            "defaults": {"warm_up": False},
        }
        stack.enter_context(Program(wan.client, document=document))
        abuses = list(kinds())
        for abuse in abuses:
            abuse.start()
        try:
            time.sleep(1.0)
            plain, proxied, alive, others = list[float](), list[float](), list[float](), list[float]()
            until = time.monotonic() + SECONDS
            while time.monotonic() < until:
                plain.append(says(echo.address))
                proxied.append(says(FORWARD))
                alive.append(live())
                others.append(logged_in("localhost", echo.address[1]))
                time.sleep(0.02)
        finally:
            for abuse in abuses:
                abuse.end()  # type: ignore[attr-defined]  # both kinds have it
        assert all(abuse.made > RATE for abuse in abuses if isinstance(abuse, Abuse))
        assert high(alive) < LIVE_WITHIN, sorted(alive)[-5:]
        assert high(proxied) < high(plain) + LATER_BY, sorted(proxied)[-5:]
        assert high(others) < high(plain) + LATER_BY, sorted(others)[-5:]
