"""A lab, a proxy with an admin in it, and a browser beside the proxy; each test has a page of its own."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.lab.behaviours import answers, speaks_first
from proxy.lab.servers import Address, Behaviour, Server
from proxy.lab.wan import Wan
from tests.admin.chromium import Browser, Page
from tests.wire.program import Program

RTT = 0.05
GET = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HOSTILE = "<img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def lab() -> Iterator[Wan]:
    with Wan(rtt=RTT) as wan, wan.client.entered():
        yield wan


@pytest.fixture(scope="module")
def browser(lab: Wan) -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


class Proxied:
    """The program with a `mixed` listener, and what one does with it."""

    def __init__(self, wan: Wan, **document: Any) -> None:
        self.wan = wan
        self.admin_port = free_port()
        self.document: dict[str, Any] = {
            "listeners": {"web": {"bind": f"127.0.0.1:{free_port()}", "mode": "mixed"}},
            "defaults": {"warm_up": False},
            "direct": {"allow": ["private"]},
            "admin": {"bind": f"127.0.0.1:{self.admin_port}"},
            **document,
        }
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}/"

    def start(self) -> None:
        self.program = Program(self.wan.client, None, document=self.document)

    def stop(self) -> None:
        self.program.close()

    def ask(self, to: str, request: bytes = GET, expect: int = 2) -> bytes:
        """One CONNECT session to `to`; what came back after the reply."""
        with socket.create_connection(self.program.address("web"), timeout=10) as sock:
            sock.sendall(f"CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n".encode())
            reply = b""
            while b"\r\n\r\n" not in reply and (data := sock.recv(4096)):
                reply += data
            if not reply.startswith(b"HTTP/1.1 200"):
                return reply
            answer = reply.partition(b"\r\n\r\n")[2]
            sock.sendall(request)
            while len(answer) < expect and (data := sock.recv(4096)):
                answer += data
            return answer

    def socks(self, host: bytes, port: int = 80) -> None:
        """A SOCKS5 request for any name at all."""
        with socket.create_connection(self.program.address("web"), timeout=10) as sock:
            sock.sendall(b"\5\1\0")
            sock.recv(2)
            sock.sendall(b"\5\1\0\3" + bytes([len(host)]) + host + port.to_bytes(2, "big"))
            sock.recv(100)

    def get(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=30)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def status(self) -> Any:
        return self.get("/api/v1/status")

    def settled(self, sessions: int) -> Any:
        """The status once so many sessions have ended."""
        end = time.monotonic() + 60
        while (now := self.status())["total"]["sessions"] < sessions:
            assert time.monotonic() < end, now
            time.sleep(0.05)
        return now


class Life(Proxied):
    """A proxy that has seen something: one server that takes SYN data, one behind a box that drops it, one that
    speaks first, a port that is closed, and a client that would rather be a web page.
    """

    def __init__(self, wan: Wan) -> None:
        super().__init__(wan)
        self.fast = self.serve(answers(ANSWER, request=len(GET)))
        self.banner = self.serve(speaks_first(b"220 ready\r\n"))
        self.dropped = self.serve(answers(ANSWER, request=len(GET)))
        for _ in range(8):
            self.ask(text(self.fast.address), expect=len(ANSWER))
        with wan.through("drops-syn-data"):
            for _ in range(4):
                self.ask(text(self.dropped.address), expect=len(ANSWER))
        self.ask(text(self.banner.address), b"QUIT\r\n", expect=11)
        self.ask(f"{self.fast.address[0]}:81")
        self.socks(HOSTILE.encode())
        self.sessions = 15
        self.settled(self.sessions)

    def serve(self, behaviour: Behaviour) -> Server:
        return self.wan.serve(behaviour)


def text(address: Address) -> str:
    return f"{address[0]}:{address[1]}"


@pytest.fixture(scope="module")
def life(lab: Wan) -> Iterator[Life]:
    proxied = Life(lab)
    yield proxied
    proxied.stop()


def opened(browser: Browser, url: str, **settings: Any) -> Page:
    """The page, with numbers on it."""
    page = browser.page(**settings)
    page.open(url)
    page.until("!document.getElementById('content').hidden")
    return page


@pytest.fixture
def page(browser: Browser, life: Life) -> Iterator[Page]:
    page = opened(browser, life.url)
    page.until("document.querySelectorAll('.session:not(.sessions-head)').length > 0")
    yield page
    assert not page.complaints
    page.close()
