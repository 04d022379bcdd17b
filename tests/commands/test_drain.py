"""`tfo-proxy drain` beside the real program."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.commands.running import Running, said


@pytest.mark.parametrize("how", ["admin", "pid"])
def test_it_stops_and_can_be_waited_for(tmp_path: Path, how: str) -> None:
    with Running(tmp_path) as proxy:
        there = ["--admin", proxy.admin] if how == "admin" else ["--pid", str(proxy.process.pid)]
        with socket.create_connection(proxy.address(), 5) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            status, out, _ = said("drain", *there)
            assert status == 0
            assert out == "draining\n" if how == "admin" else "asked to stop" in out
            proxy.until('"draining"')
            client.sendall(b"y")
            assert client.recv(1) == b"y"
            assert proxy.process.poll() is None
        assert proxy.process.wait(15) == 0


@pytest.mark.parametrize("how", ["admin", "pid"])
def test_waiting_has_an_end(tmp_path: Path, how: str) -> None:
    with Running(tmp_path, drain="60s") as proxy:
        there = ["--admin", proxy.admin] if how == "admin" else ["--pid", str(proxy.process.pid)]
        with socket.create_connection(proxy.address(), 5) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            status, _, err = said("drain", *there, "--wait", "--timeout", "0.5")
            assert (status, err) == (1, "it is still there after 0.5 s\n")
        status, out, _ = (0, "stopped\n", "") if how == "admin" else said("drain", *there, "--wait")
        assert (status, out) in {(0, "stopped\n"), (1, "")}
        assert proxy.process.wait(15) == 0


def test_readiness_turns_first(tmp_path: Path) -> None:
    with Running(tmp_path, drain_delay="6s") as proxy:
        assert proxy.ready()
        assert said("drain", "--admin", proxy.admin)[0] == 0
        assert not proxy.ready()
        with socket.create_connection(proxy.address(), 5) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x", "and for a while who has not heard of it is still served"
        assert proxy.process.wait(30) == 0
