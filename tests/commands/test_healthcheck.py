"""The health check, run as a program against real listening processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.commands import healthcheck

# What the check looks for is a process whose command line is `… -m proxy run`; this one serves as told.
SERVE = """
import os, socket, sys, threading
kind, accept = sys.argv[-2:]
listener = socket.socket({"tcp": socket.AF_INET, "tcp6": socket.AF_INET6, "unix": socket.AF_UNIX}[kind])
listener.bind({"tcp": ("127.0.0.1", 0), "tcp6": ("::1", 0), "unix": "listener"}[kind])
listener.listen()
print(listener.getsockname() if kind == "unix" else listener.getsockname()[1], flush=True)
while accept == "accept":
    listener.accept()[0].close()
threading.Event().wait()
"""


@contextmanager
def process(kind: str, accept: str, directory: Path) -> Iterator[tuple[int, str]]:
    command = [sys.executable, "-c", SERVE, "-m", "proxy", "run", kind, accept]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=directory) as child:
        assert child.stdout
        try:
            yield child.pid, child.stdout.readline().strip()
        finally:
            child.send_signal(signal.SIGCONT)
            child.kill()


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], None]:
    """Show the check a /proc with one process in it, whatever else runs on this machine."""

    def show(pid: int) -> None:
        (tmp_path / str(pid)).symlink_to(f"/proc/{pid}")
        monkeypatch.setattr(healthcheck, "PROC", tmp_path)

    return show


@pytest.mark.parametrize("kind", ["tcp", "tcp6", "unix"])
def test_a_proxy_that_accepts_is_healthy(
    kind: str, only: Callable[[int], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with process(kind, "accept", tmp_path) as (pid, _):
        only(pid)
        assert healthcheck.main([]) == 0
    assert capsys.readouterr().out == "healthy\n"


def test_a_proxy_that_stopped_accepting_is_not(
    only: Callable[[int], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with process("tcp", "sleep", tmp_path) as (pid, port):
        only(pid)
        assert healthcheck.main([]) == 0, "nobody waits, so nothing is known to be wrong"
        with socket.create_connection(("127.0.0.1", int(port))):
            assert healthcheck.main([]) == 1
    assert f"not accepted on port {port}" in capsys.readouterr().err


def test_no_proxy_is_unhealthy(only: Callable[[int], None], capsys: pytest.CaptureFixture[str]) -> None:
    only(os.getpid())
    assert healthcheck.main([]) == 1
    assert "no proxy runs here" in capsys.readouterr().err


def test_a_named_address_is_connected_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with process("tcp", "accept", tmp_path) as (_, port):
        assert healthcheck.main([f"127.0.0.1:{port}"]) == 0
    assert healthcheck.main([f"127.0.0.1:{port}"]) == 1
    assert "refused" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["nowhere", "127.0.0.1:http", ":80", "127.0.0.1:99999", "127.0.0.1:"])
def test_what_is_no_address_is_said(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert healthcheck.main([where]) == 1
    assert where in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--nope"], ["a:1", "b:2"]])
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert healthcheck.main(arguments) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("argument", ["--help", "-h"])
def test_help_is_no_mistake(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert healthcheck.main([argument]) == 0
    assert capsys.readouterr().out.startswith("usage: tfo-proxy healthcheck")


def test_it_loads_nothing_heavy() -> None:
    program = "import sys; from proxy.commands import healthcheck; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert not {"trio", "structlog", "click", "yaml", "msgspec", "asyncio"} & set(loaded.split())
