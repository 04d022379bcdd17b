"""Limits and privileges of the whole program, as a user starts it."""

from __future__ import annotations

import pwd
import select
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.lab.behaviours import echoes
from proxy.lab.servers import Server
from proxy.lab.wan import Wan
from tests.wire.program import Line, Program, until

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.0)]


def document(server: Server, **settings: object) -> Line:
    listener = {"bind": "127.0.0.1:0", "mode": "forward", "to": f"127.0.0.1:{server.address[1]}"}
    return {"listeners": {"a": listener | settings.pop("listener", {})}, **settings}  # type: ignore[operator]


def is_served(sock: socket.socket) -> bool:
    """Whoever is not to be is reset, and need not wait."""
    sock.settimeout(20.0)
    try:
        sock.sendall(b"hello")
        return sock.recv(100) == b"hello"
    except (ConnectionError, TimeoutError):
        return False


def answered(clients: list[socket.socket]) -> list[socket.socket]:
    """Those for whom something has come."""
    return select.select(clients, [], [], 0)[0]


def client(stack: ExitStack, program: Program) -> socket.socket:
    try:
        return stack.enter_context(socket.create_connection(program.address(), timeout=5))
    except ConnectionResetError:
        return stack.enter_context(socket.socket())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_client_has_no_more_than_its_share_of_all_workers(wan: Wan, workers: int) -> None:
    with Server(wan.client, ("127.0.0.1", 0), echoes()) as server, ExitStack() as stack:
        limits = {"limits": {"per_client": 4}}
        program = stack.enter_context(
            Program(wan.client, None, document=document(server, listener=limits, workers=workers))
        )
        served = [one for one in (client(stack, program) for _ in range(24)) if is_served(one)]
        assert len(served) == 4
        assert program.wait_for("turned_away")["why"] == "limits.per_client 4 of listener a"
        with socket.socket() as other:
            other.bind(("127.0.0.9", 0))
            other.connect(program.address())
            assert is_served(other)
        for one in served:
            one.close()
        for number in range(4):
            program.session(number + 1)
        assert is_served(client(stack, program))


@pytest.mark.parametrize("workers", [1, 2])
def test_all_clients_share_what_there_is_and_the_next_wait(wan: Wan, workers: int) -> None:
    with Server(wan.client, ("127.0.0.1", 0), echoes()) as server, ExitStack() as stack:
        program = stack.enter_context(
            Program(wan.client, None, document=document(server, limits={"connections": 6}, workers=workers))
        )
        clients = [client(stack, program) for _ in range(12)]
        for one in clients:
            one.sendall(b"hello")
        until(lambda: len(answered(clients)) >= 6, 20)
        time.sleep(1.0)
        served = answered(clients)
        assert 6 <= len(served) <= 6 + workers - 1, "two workers may let the last in at once"
        for one in served:
            one.close()
        waiting = [one for one in clients if one not in served]
        for one in waiting:
            one.settimeout(20.0)
        assert all(one.recv(100) == b"hello" for one in waiting), "they had said it before they came in"


@pytest.mark.root
def test_root_serves_as_somebody_else(wan: Wan) -> None:
    nobody = pwd.getpwnam("nobody")
    wan.client.sysctl("net.ipv4.ip_unprivileged_port_start", 1024)
    with Server(wan.client, ("127.0.0.1", 0), echoes()) as server, ExitStack() as stack:
        settings = document(server, listener={"bind": "127.0.0.1:81"}, user="nobody")
        program = stack.enter_context(Program(wan.client, None, document=settings))
        line = program.wait_for("privileges_dropped")
        assert (line["user"], line["uid"], line["kept"]) == ("nobody", nobody.pw_uid, ["net_bind_service"])
        status = Path(f"/proc/{program.pid}/status").read_text()
        assert status.partition("Uid:")[2].split()[:4] == [str(nobody.pw_uid)] * 4
        assert status.partition("NoNewPrivs:")[2].split()[0] == "1"
        for kind in ("CapPrm", "CapEff", "CapBnd"):
            assert int(status.partition(f"{kind}:")[2].split()[0], 16) == 1 << 10
        with client(stack, program) as one:
            assert is_served(one)
        program.signal(signal.SIGTERM)
        assert program.end() == 0


@pytest.mark.root
def test_who_it_should_become_must_exist(wan: Wan) -> None:
    with Server(wan.client, ("127.0.0.1", 0), echoes()) as server:
        settings = document(server, user="nosuchuser")
        with Program(wan.client, None, document=settings, ready=False) as program:
            assert program.end() == 1
        assert program.text[-1] == "tfo-proxy: there is no user 'nosuchuser' on this machine"
