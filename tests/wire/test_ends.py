"""How either side ends, at each stage of a session of each kind: passed on as what it was, at once, and told so.

The oracle is the same two sockets without a proxy between them: what the other side sees of a FIN or a RST. Every case
is run plainly and with Fast Open. Where the proxy knows more than a cable does, the table says so: a client that is not
heard out has no server to be told, and HTTP requests end where their bodies do.
"""

from __future__ import annotations

import itertools
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import NamedTuple

import pytest

from proxy.lab.servers import Address
from proxy.lab.wan import Wan
from tests.core.hellos import TYPICAL, message, record
from tests.wire.program import GET, Line, Program
from tests.wire.ways import ask_for

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.001)]

KEY = "5d1f0c6b3a2e4f8897a6b5c4d3e2f101"
AT_ONCE = 0.05
GATEWAYS = {"via_http": "http", "via_socks": "socks", "tunnel": "tunnel"}
ASKED = ("socks4", "socks5", "connect", "http", "sni")
WAYS = ("forward", "headed", *GATEWAYS, *ASKED)
MODES = {"socks4": "socks", "socks5": "socks", "connect": "http", "http": "http", "sni": "sni"}
HELLO = record(message(TYPICAL))
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\npart"
RESET = struct.pack("ii", 1, 0)

SILENT, HANDSHAKE, DIALLING, AWAITED, RELAYING = "silent", "handshake", "dialling", "awaited", "relaying"
CLIENT_ENDED, SERVER_ENDED = "client ended", "server ended"
STAGES = (SILENT, HANDSHAKE, DIALLING, AWAITED, RELAYING, CLIENT_ENDED, SERVER_ENDED)


class Case(NamedTuple):
    way: str
    stage: str
    side: str  # which ends: client | server
    how: str  # fin | rst

    @property
    def is_possible(self) -> bool:
        """Whether there is such a case, and a server that could be told."""
        if self.stage == HANDSHAKE and self.way not in ASKED:
            return False
        if self.side == "server" and (
            self.stage in {HANDSHAKE, DIALLING} or (self.is_asked and self.stage == SILENT)
        ):
            return False
        # A HTTP request is over when its body is: the client's FIN says nothing to the server.
        client_fin = (self.side, self.how) == ("client", "fin") or self.stage in {CLIENT_ENDED, SERVER_ENDED}
        if self.way == "http" and self.stage != HANDSHAKE and client_fin:
            return False
        return not (self.how == "fin" and self.stage == f"{self.side} ended")

    @property
    def is_asked(self) -> bool:
        """Whether the client has to say where it wants to go."""
        return self.way in ASKED

    @property
    def has_server(self) -> bool:
        return self.stage not in {HANDSHAKE, DIALLING} and not (self.is_asked and self.stage == SILENT)


class Told(NamedTuple):
    """What the session's line says."""

    ended_by: str
    during: str
    reason: str


def expected(case: Case) -> Told:
    ended_by = "downstream" if case.side == "client" else "upstream"
    reason = "closed" if case.how == "fin" else "reset"
    if case.stage != DIALLING and not case.has_server:
        return Told("downstream", "sniff", "no_request" if case.how == "fin" else "reset")
    if case.stage == DIALLING:
        # A FIN is only half an end: the dial goes on, and the server will be told.
        return (
            Told("timeout", "dial", "connect_timeout")
            if case.how == "fin"
            else Told("downstream", "dial", "reset")
        )
    if case.how == "fin" and case.stage in {CLIENT_ENDED, SERVER_ENDED}:
        ended_by = "downstream" if case.stage == CLIENT_ENDED else "upstream"
    return Told(ended_by, "relay", reason)


# Before its answer is whole a HTTP client is told 502, and what was cut off is reset.
OF_HTTP = {
    (AWAITED, "server", "fin"): ("fin", "bad_response"),
    (AWAITED, "server", "rst"): ("fin", "reset"),
    (RELAYING, "server", "fin"): ("rst", "bad_response"),
}


def cases() -> Iterator[Case]:
    possible = itertools.starmap(Case, itertools.product(WAYS, STAGES, ("client", "server"), ("fin", "rst")))
    return (case for case in possible if case.is_possible)


def listen(backlog: int = 64) -> socket.socket:
    sock = socket.create_server(("127.0.0.1", 0), backlog=backlog)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 64)
    sock.settimeout(5)
    return sock


@contextmanager
def full_listener() -> Iterator[Address]:
    """An address that lets SYNs go unanswered: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as held:
        for _ in range(3):
            sock = held.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        yield full.getsockname()


class Stage:
    """Two programs, one of them the gateway, and the servers of each way."""

    def __init__(self, wan: Wan, fast_open: str, undo: ExitStack) -> None:
        self.servers = {way: undo.enter_context(listen()) for way in WAYS}
        self.full = undo.enter_context(full_listener())
        free = undo.enter_context(ExitStack())
        far_document = {
            "listeners": {
                "mixed": {"bind": "127.0.0.1:0", "mode": "mixed", "reply": "dialed"},
                "tunnel": {"bind": "127.0.0.1:0", "mode": "tunnel", "key": KEY},
            },
            "direct": {"deny": []},
            "log": {"format": "json"},
        }
        self.far = free.enter_context(Program(wan.client, document=far_document))
        listeners: Line = {}
        clusters: Line = {}
        for way, kind in itertools.product(WAYS, ("", "-first", "-full")):
            name = way + kind
            settings: Line = {"endpoints": [self._place(way)], "warm_up": False, "fast_open": fast_open}
            settings["connect"] = {"timeout": "300ms"}
            if kind == "-first":
                settings["server_first"] = "yes"
            if way == "headed":
                settings["proxy_protocol"] = "v2"
            if way in GATEWAYS:
                settings["via"] = self._via(GATEWAYS[way], full=kind == "-full")
            elif kind == "-full":
                settings["endpoints"] = ["{}:{}".format(*self.full)]
            listeners[name] = {"bind": "127.0.0.1:0", "mode": MODES.get(way, "forward")}
            if way in {"socks4", "socks5", "connect"}:
                listeners[name]["reply"] = "dialed"
            if MODES.get(way, "forward") in {"forward", "sni"}:
                listeners[name]["to"] = name
            clusters[name] = settings
        routes = [
            {"match": {"listener": name}, "to": name} for name in listeners if "to" not in listeners[name]
        ]
        document = {"listeners": listeners, "clusters": clusters, "routes": routes, "log": {"format": "json"}}
        self.near = free.enter_context(Program(wan.client, document=document))

    def _place(self, way: str) -> str:
        return "{}:{}".format(*self.servers[way].getsockname())

    def _via(self, kind: str, *, full: bool) -> Line:
        host, port = self.full if full else self.far.address("tunnel" if kind == "tunnel" else "mixed")
        return {kind: f"{host}:{port}"} | ({"key": KEY} if kind == "tunnel" else {})


def first_words(way: str) -> bytes:
    return {"sni": HELLO, "http": GET.replace(b"GET /", b"GET http://127.0.0.1/")}.get(way, GET)


HALVES = {
    "socks4": b"\x04\x01\x00\x50\x7f",
    "socks5": b"\x05\x01",
    "connect": b"CONNECT 127.0.",
    "http": b"GET http://127.0.",
    "sni": HELLO[:30],
}
WHOLE = {
    "socks4": b"\x04\x01\x00\x50\x7f\0\0\1\0",
    "connect": b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n",
    "socks5": b"\x05\x01\x00\x05\x01\x00\x01\x7f\0\0\1\x00\x50",
}


def end(sock: socket.socket, how: str) -> None:
    if how == "rst":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()
    else:
        sock.shutdown(socket.SHUT_WR)


def seen(sock: socket.socket, *, half: bool, again: Callable[[], None] | None = None) -> tuple[str, float]:
    """How the other side's end shows, and when; ``half``: a FIN has come before. ``again`` is called meanwhile."""
    poll, deadline = select.poll(), time.monotonic() + 0.5
    poll.register(sock, 0 if half else select.POLLIN | select.POLLRDHUP)
    while time.monotonic() < deadline:
        if again is not None:
            again()
        for _, events in poll.poll(1 if again is not None else 500):
            if events & select.POLLERR:
                return "rst", time.monotonic()
            if half and events & select.POLLHUP:
                return "fin", time.monotonic()
            try:
                if not half and not sock.recv(65536):
                    return "fin", time.monotonic()
            except OSError:
                return "rst", time.monotonic()
    return "nothing", time.monotonic()


def bring_to(case: Case, client: socket.socket, server: socket.socket) -> None:
    """From first words said to the case's stage."""
    if case.stage == AWAITED:
        return
    server.sendall(ANSWER)
    got = b""
    while len(got) < len(ANSWER):
        got += client.recv(65536)
    if case.stage == CLIENT_ENDED:
        client.shutdown(socket.SHUT_WR)
        assert server.recv(1) == b""
    elif case.stage == SERVER_ENDED:
        server.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


def connected(stage: Stage, case: Case) -> tuple[socket.socket, socket.socket | None]:
    """The client's socket and the server's, at the case's stage."""
    way = case.way
    name = way + {SILENT: "-first", DIALLING: "-full"}.get(case.stage, "")
    client = socket.create_connection(stage.near.address(name), timeout=5)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if case.stage == HANDSHAKE:
        client.sendall(HALVES[way])
    elif case.stage == DIALLING:
        client.sendall(WHOLE.get(way, b"") or first_words(way))
    elif case.stage != SILENT:
        ask_for(client, way if way in {"socks4", "socks5", "connect"} else "forward", ("127.0.0.1", 80))
        client.sendall(first_words(way))
    if not case.has_server:
        time.sleep(0.01)  # until the program has heard it
        return client, None
    server, _ = stage.servers[way].accept()
    server.settimeout(5)
    if case.stage != SILENT:
        wanted = first_words(way)[-4:]
        got = b""
        while not got.endswith(wanted):
            got += server.recv(65536)
        bring_to(case, client, server)
    elif way == "headed":
        server.recv(100)
    if way in GATEWAYS:
        time.sleep(0.02)  # until the gateway has told that it is connected
    return client, server


def run(stage: Stage, case: Case) -> tuple[str, float, Told]:
    number = len(stage.near.events("session")) + 1
    client, server = connected(stage, case)
    with client, server or socket.socket():
        ending, other = (client, server) if case.side == "client" else (server, client)
        assert ending is not None
        started = time.monotonic()
        end(ending, case.how)
        what, at = "nothing", started
        if other is not None:
            again = partial(end_also, stage.servers[case.way], case) if case.side == "server" else None
            what, at = seen(other, half=case.stage == f"{case.side} ended", again=again)
        elif case.how == "fin" and case.stage == DIALLING:
            with suppress(OSError):
                client.recv(100)
        if what == case.how == "fin":
            with suppress(OSError):  # the end of the other direction, and then both are over
                other.shutdown(socket.SHUT_WR)  # type: ignore[union-attr]
                seen(ending, half=case.stage in {CLIENT_ENDED, SERVER_ENDED})
    line = {"ended_by": "no line", "during": "", "reason": ""}
    with suppress(TimeoutError):
        line = stage.near.wait_for("session", number, 3.0)
    return what, at - started, Told(line["ended_by"], line["during"], line["reason"])


def end_also(listener: socket.socket, case: Case) -> None:
    """Where a fast open is ended without an answer a plain connection follows: end it in the same way."""
    listener.settimeout(0)
    with suppress(OSError):
        sock, _ = listener.accept()
        sock.settimeout(1)
        with sock:
            if case.stage != SILENT or case.way == "headed":
                sock.recv(65536)
            end(sock, case.how)
            time.sleep(0.002)
    listener.settimeout(5)


def direct(case: Case) -> str:
    """What the other side sees without a proxy."""
    with listen() as listener, socket.create_connection(listener.getsockname(), timeout=5) as client:
        server, _ = listener.accept()
        with server:
            if case.stage != SILENT:
                client.sendall(GET)
                server.recv(100)
                bring_to(case, client, server)
            ending, other = (client, server) if case.side == "client" else (server, client)
            end(ending, case.how)
            return seen(other, half=case.stage == f"{case.side} ended")[0]


@pytest.mark.parametrize("fast_open", ["off", "auto", "always"])
def test_each_end_at_each_stage_of_each_kind(wan: Wan, fast_open: str) -> None:
    wan.client.sysctl("net.ipv4.tcp_fastopen", 3)
    wrong: list[object] = []
    with ExitStack() as undo:
        stage = Stage(wan, fast_open, undo)
        for case in cases():
            what, took, told = run(stage, case)
            for _ in range(2):  # a busy machine is late now and then, the program each time
                if took > AT_ONCE:
                    what, took, told = run(stage, case)
            wanted, should = direct(case) if case.has_server else "nothing", expected(case)
            if case.way == "http" and case[1:] in OF_HTTP:
                wanted, reason = OF_HTTP[case[1:]]
                should = should._replace(reason=reason)
            if case[1:] in {(SILENT, "client", "rst"), (AWAITED, "client", "rst")} and told.during == "dial":
                should = should._replace(
                    during="dial"
                )  # the server has accepted what the program has yet to notice
            if what != wanted or told != should or (wanted != "nothing" and took > AT_ONCE):
                wrong.append((case, what, wanted, round(took, 3), told, should))
    assert not wrong, "\n".join(map(str, wrong))
