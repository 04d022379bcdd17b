"""What runs out on this machine is said as what it is, and keeps nobody waiting who does not need it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from proxy.lab.behaviours import echoes
from proxy.lab.servers import Server
from proxy.lab.wan import Wan
from tests.wire.program import Program, forward

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.0)]

PORTS = 10


@pytest.fixture
def servers(wan: Wan) -> Iterator[list[Server]]:
    with (
        Server(wan.client, ("127.0.0.1", 0), echoes()) as one,
        Server(wan.client, ("127.0.0.1", 0), echoes()) as other,
    ):
        yield [one, other]


def says(sock: socket.socket, word: bytes = b"hello") -> bytes:
    sock.settimeout(10)
    try:
        sock.sendall(word)
        return sock.recv(100)
    except ConnectionResetError:
        return b""


def test_local_ports_run_out_for_one_server_and_the_other_is_reached(wan: Wan, servers: list[Server]) -> None:
    ends = {"a": forward(servers[0]), "b": forward(servers[1])}
    with Program(wan.client, ends) as program, ExitStack() as stack:
        wan.client.sysctl("net.ipv4.ip_local_port_range", f"40000 {40000 + PORTS - 1}")

        def client(listener: str, number: int) -> socket.socket:
            """From a port of its own, so that it takes none from the program."""
            sock = stack.enter_context(socket.socket())
            sock.bind(("127.0.0.5", 20000 + number))
            sock.connect(program.address(listener))
            return sock

        answers = [says(client("a", number)) for number in range(PORTS + 5)]
        assert answers.count(b"hello") == PORTS
        line = program.session(5)
        assert (line["reason"], line["ended_by"]) == ("no_ports", "proxy")
        assert "EADDRNOTAVAIL" in line["detail"]
        assert says(client("b", 100)) == b"hello"
        assert {one["reason"] for one in program.events("session")} == {"no_ports"}


def test_a_packet_filter_that_forbids_a_dial_is_named_as_such(wan: Wan, servers: list[Server]) -> None:
    ends = {"a": forward("192.0.2.1:9", connect={"timeout": "500ms", "retries": 0}), "b": forward(servers[1])}
    with Program(wan.client, ends) as program:
        wan.client.run(["ip", "route", "add", "prohibit", "192.0.2.1"])
        with socket.create_connection(program.address("a")) as sock:
            assert says(sock) == b""
        assert program.session()["reason"] == "not_permitted"
        wan.client.run(["ip", "route", "del", "prohibit", "192.0.2.1"])
        wan.client.run(["ip", "route", "add", "unreachable", "192.0.2.1"])
        with socket.create_connection(program.address("a")) as sock:
            assert says(sock) == b""
        assert program.session(2)["reason"] == "unreachable"
        with socket.create_connection(program.address("b")) as sock:
            assert says(sock) == b"hello"


@pytest.mark.parametrize(
    ("kind", "reason", "code"), [("unreachable", "unreachable", 4), (None, "net_unreachable", 3)]
)
def test_a_socks_client_is_told_what_cannot_be_reached(
    wan: Wan, kind: str | None, reason: str, code: int
) -> None:
    listeners = {"a": {"bind": "127.0.0.1:0", "mode": "socks"}}
    with Program(wan.client, None, document={"listeners": listeners}) as program:
        if kind is None:
            wan.client.run(["ip", "route", "del", "default"])
        else:
            wan.client.run(["ip", "route", "add", kind, "198.51.100.7"])
        with socket.create_connection(program.address()) as sock:
            sock.settimeout(10)
            sock.sendall(b"\x05\x01\0" + b"\x05\x01\0\x01" + socket.inet_aton("198.51.100.7") + b"\0\x50")
            reply = b""
            while len(reply) < 12 and (more := sock.recv(100)):
                reply += more
        assert reply[:4] == bytes([5, 0, 5, code])
        assert program.session()["reason"] == reason
