"""Every command that README.md and docs/ tell a reader to type is run, here or by the test that is named."""

from __future__ import annotations

import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)

# The beginning of a command → the file that runs it, and the words with which it does.
ELSEWHERE = {
    "make run": ("tests/e2e/test_make.py", '"make", "run"'),
    "make demo": ("tests/commands/test_demo.py", '"--serve", "127.0.0.1'),  # what the Makefile runs
    "make test": (".ci/run", "make test"),
    "make check": (".ci/run", "make check"),
    "make bench": ("tests/bench/test_bench.py", 'sys.executable, "-m", "bench"'),  # what the Makefile runs
    "python -m bench pages": ("tests/bench/test_pages.py", '"-m", "bench", "pages", "--quick"'),
    "docker build": ("tests/e2e/containers.py", '"buildah", *self.store'),
    "docker run": ("tests/e2e/containers.py", 'self.podman("run"'),
}


def commands() -> list[str]:
    lines = [
        line for page in PAGES for block in SHELL.findall(page.read_text()) for line in block.splitlines()
    ]
    return sorted({line.split("  #")[0].strip() for line in lines if line.strip()})


@pytest.fixture
def upstream() -> Iterator[int]:
    """A server that answers whatever comes with one line of HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    if connection.recv(65536):
                        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_there_are_commands() -> None:
    assert len(commands()) > 8


def speaks_to_admin(command: str) -> bool:
    """Whether a command needs a proxy that runs, and an admin address."""
    return "/admin.sock" in command or "127.0.0.1:7414" in command


@pytest.mark.parametrize(
    "command",
    [
        one for one in commands()
        if not (one.startswith(("tfo-proxy ", "openssl ")) or speaks_to_admin(one))
    ],
)  # fmt: skip
def test_commands_of_others_are_run_by_a_test_that_exists(command: str) -> None:
    known = next((where for start, where in ELSEWHERE.items() if command.startswith(start)), None)
    assert known is not None, f"no test runs {command!r}"
    file, words = known
    assert words in (ROOT / file).read_text(), f"{file} does not run {command!r}"


def marked(command: str) -> object:
    """A command of ours, with what it needs to run."""
    needs_lab = command.startswith("tfo-proxy demo") and "--list" not in command
    return pytest.param(command, marks=[pytest.mark.netns] if needs_lab else [])


@pytest.mark.parametrize(
    "command", [marked(c) for c in commands() if c.startswith("tfo-proxy ") and not speaks_to_admin(c)]
)
def test_our_commands_work(command: str, upstream: int) -> None:
    words = shlex.split(command.replace("example.com:443", f"127.0.0.1:{upstream}"))[1:]
    if words[0] == "run":
        _runs(words, upstream)
        return
    if words[0] == "demo":
        words += ["--connections", "1", "--rtt", "40ms"]  # the same, sooner
    done = subprocess.run(
        [sys.executable, "-m", "proxy", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    # `probe` and `doctor` answer with their exit status what they have found on this machine.
    assert done.returncode == 0 or (words[0] in {"probe", "doctor"} and done.returncode == 1), done.stderr
    assert done.stdout.strip()


def free_port() -> int:
    """Not one of those that anybody's next outgoing connection may take (ip_local_port_range)."""
    while True:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def _runs(words: list[str], upstream: int) -> None:
    port = free_port()
    words = [
        re.sub(r"^127\.0\.0\.1:8080=.*", f"127.0.0.1:{port}=127.0.0.1:{upstream}", word) for word in words
    ]
    words = [word.replace("127.0.0.1:8080", f"127.0.0.1:{port}") for word in words]
    with subprocess.Popen(
        [sys.executable, "-m", "proxy", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stderr is not None
        try:
            for line in program.stderr:
                if '"ready"' in line:
                    break
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                # Through --mixed a client names the destination, and one on loopback is refused as it should be.
                asks = "--mixed" in words
                client.sendall(
                    f"GET {f'http://127.0.0.1:{upstream}' if asks else ''}/ HTTP/1.0\r\n\r\n".encode()
                )
                assert client.recv(4096).split()[1] == (b"403" if asks else b"200")
        finally:
            program.send_signal(signal.SIGTERM)
            rest = program.stderr.read()
        assert program.wait(30) == 0, rest


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A proxy that runs: the path of its admin's unix socket, and the TCP address of the same."""
    sock, config = tmp_path / "admin.sock", tmp_path / "c.yaml"
    port = free_port()
    config.write_text(
        "listeners: {a: {bind: '127.0.0.1:0', mode: forward, to: '127.0.0.1:9'}}\n"
        f"admin: {{bind: ['unix:{sock}', '127.0.0.1:{port}'], token: {TOKEN}}}\nlog: {{format: json}}\n"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "proxy", "run", str(config)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stderr is not None
        assert any('"ready"' in line for line in program.stderr)
        yield str(sock), f"127.0.0.1:{port}"
        program.send_signal(signal.SIGTERM)
        program.stderr.read()
        assert program.wait(30) == 0


TOKEN = "0123456789abcdef"


@pytest.mark.parametrize("command", [c for c in commands() if speaks_to_admin(c)])
def test_commands_to_a_proxy_that_runs_work(command: str, running: tuple[str, str]) -> None:
    sock, address = running
    there = command.replace("/run/tfo-proxy/admin.sock", sock).replace("127.0.0.1:7414", address)
    there = re.sub(r"^tfo-proxy", f"{shlex.quote(sys.executable)} -m proxy", there)
    there = re.sub(r"^curl", "curl -sS --fail", there)
    done = subprocess.run(
        there, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "TOKEN": TOKEN},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("openssl ")])
def test_commands_that_only_print_print(command: str) -> None:
    assert subprocess.run(shlex.split(command), capture_output=True, timeout=60, check=True).stdout.strip()
