"""`tfo-proxy top` in a terminal of its own, before a real proxy."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

ROOT = Path(__file__).parents[2]
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PATIENCE = 20.0
_BEGIN = "\x1b[?2026h"
_LEFT = "\x1b[0m\x1b[?25h\x1b[?1049l"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "proxy", *arguments]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


class Running:
    """A proxy with an admin, and an upstream that answers."""

    def __init__(self, folder: Path) -> None:
        self.admin, self.port = free_port(), free_port()
        self.socket = folder / "admin.sock"
        self.config = folder / "proxy.yaml"
        self._upstream = socket.create_server(("127.0.0.1", 0))
        to = f"127.0.0.1:{self._upstream.getsockname()[1]}"
        self.config.write_text(json.dumps({
            "listeners": {"web": {"bind": f"127.0.0.1:{self.port}", "mode": "forward", "to": to}},
            "admin": {"bind": [f"127.0.0.1:{self.admin}", f"unix:{self.socket}"]},
        }))  # fmt: skip
        self._answering = threading.Thread(target=self._answer, daemon=True)
        self._answering.start()
        self.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.admin}"

    def start(self) -> None:
        self._program = subprocess.Popen(
            command("run", str(self.config)), cwd=ROOT, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.admin)).close()
            except ConnectionRefusedError:
                time.sleep(0.05)
            else:
                return
        raise TimeoutError

    def stop(self) -> None:
        self._program.kill()
        self._program.wait()

    def close(self) -> None:
        self.stop()
        self._upstream.shutdown(socket.SHUT_RDWR)
        self._answering.join()
        self._upstream.close()

    def session(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as sock:
            sock.sendall(b"ping")
            assert sock.recv(4) == b"pong"

    def _answer(self) -> None:
        while True:
            try:
                sock, _ = self._upstream.accept()
            except OSError:
                return
            with sock:
                sock.recv(4)
                sock.sendall(b"pong")


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("top"))
    running.session()
    yield running
    running.close()


class Screen:
    """A program in a terminal of its own."""

    def __init__(self, *arguments: str, size: tuple[int, int] = (80, 24)) -> None:
        user, ours = pty.openpty()
        self.before = termios.tcgetattr(ours)
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.program = subprocess.Popen(
            command(*arguments), stdin=ours, stdout=ours, stderr=ours, cwd=ROOT, env=os.environ | {"TERM": "xterm"},
            start_new_session=True,
        )  # fmt: skip
        self._user, self._ours = user, ours
        self.output = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.program.kill()
        self.program.wait()
        os.close(self._user)
        os.close(self._ours)

    @property
    def lines(self) -> list[str]:
        """The frame that was drawn last."""
        frame = self.output.rpartition(_BEGIN)[2].partition("\x1b[?2026l")[0]
        return ESCAPES.sub("", frame).split("\r\r\n")

    def press(self, keys: str) -> None:
        os.write(self._user, keys.encode())

    def until(self, words: str, *, gone: bool = False) -> None:
        """Read until a whole frame shows these words, or no longer does."""
        end = time.monotonic() + PATIENCE
        while (any(words in line for line in self.lines) == gone) or not self._whole():
            self._read(end, words)

    def until_ended(self) -> int:
        """Read on until the program has ended; its exit code."""
        end = time.monotonic() + PATIENCE
        while self.program.poll() is None:
            self._read(end, "the end", nap=0.02)
        self._read(end, "the end", nap=0.05)
        return self.program.returncode

    def restored(self) -> bool:
        return self.output.endswith(_LEFT) and termios.tcgetattr(self._ours) == self.before

    def _whole(self) -> bool:
        return self.output.rfind("\x1b[?2026l") > self.output.rfind(_BEGIN)

    def _read(self, end: float, words: str, nap: float = 0.2) -> None:
        assert time.monotonic() < end, (
            f"no {words!r} in:\n" + "\n".join(self.lines) + repr(self.output[-300:])
        )
        if select.select([self._user], [], [], nap)[0]:
            self.output += os.read(self._user, 1 << 16).decode(errors="replace")


@contextmanager
def top(proxy: Running, *arguments: str, size: tuple[int, int] = (80, 24)) -> Iterator[Screen]:
    with Screen("top", "--admin", proxy.address, "--interval", "0.2", *arguments, size=size) as screen:
        screen.until("listeners (1)")
        yield screen


def test_what_it_shows_and_which_keys_it_knows(proxy: Running) -> None:
    with top(proxy) as screen:
        assert len(screen.lines) == 24
        assert all(len(line) <= 80 for line in screen.lines)
        screen.until("round trips = ")
        screen.press("3")
        screen.until(f"127.0.0.1:{proxy.port}")
        screen.press("2")
        screen.until("hung up")
        proxy.session()
        screen.press("s")
        screen.until("by saved")
        screen.press("/nothing like this\r")
        screen.until("None is like that.")
        screen.press("\x1b")
        screen.until("None is like that.", gone=True)
        screen.press("?")
        screen.until("a server's leave to put data in a SYN")
        screen.press("x")
        screen.until("by saved")
        screen.press("p")
        screen.until(" paused")
        screen.press("q")
        assert screen.until_ended() == 0
        assert screen.restored()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGHUP, 0)])
def test_the_terminal_is_given_back_whatever_ends_it(
    proxy: Running, number: signal.Signals, code: int
) -> None:
    with top(proxy) as screen:
        screen.program.send_signal(number)
        assert screen.until_ended() == code
        assert screen.restored()


def test_it_sleeps_and_wakes_as_every_program(proxy: Running) -> None:
    with top(proxy) as screen:
        screen.program.send_signal(signal.SIGTSTP)
        end = time.monotonic() + PATIENCE
        while (state := os.waitpid(screen.program.pid, os.WUNTRACED | os.WNOHANG)) == (0, 0):
            screen._read(end, "sleep", nap=0.02)
        assert os.WIFSTOPPED(state[1])
        screen._read(end, "sleep")
        assert screen.restored()
        screen.program.send_signal(signal.SIGCONT)
        screen.output = ""
        screen.until("listeners (1)")
        screen.press("q")
        assert screen.until_ended() == 0
        assert screen.restored()


def test_it_follows_the_size_of_its_terminal(proxy: Running) -> None:
    with top(proxy) as screen:
        fcntl.ioctl(screen._ours, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 130, 0, 0))
        screen.program.send_signal(signal.SIGWINCH)  # it is not the terminal's foreground group here
        screen.until("Why")
        assert len(screen.lines) == 12


def test_a_proxy_that_goes_and_comes_back(tmp_path: Path) -> None:
    proxy = Running(tmp_path)
    with top(proxy) as screen:
        proxy.stop()
        screen.until("nobody answers at")
        screen.press("3")
        screen.until(f"127.0.0.1:{proxy.port}")
        proxy.start()
        screen.until("nobody answers", gone=True)
        screen.press("q")
        assert screen.until_ended() == 0
    proxy.close()


def test_it_may_be_there_first(tmp_path: Path) -> None:
    with Screen("top", "--admin", f"unix:{tmp_path}/none", "--interval", "0.2") as screen:
        screen.until("nobody answers at unix:")
        screen.press("q")
        assert screen.until_ended() == 0
        assert screen.restored()


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("top", *arguments), cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
        stdin=subprocess.DEVNULL, env={**os.environ, "COLUMNS": "80", **environment},
    )  # fmt: skip


@pytest.mark.parametrize("where", ["config", "tcp", "unix"])
def test_once(proxy: Running, where: str) -> None:
    arguments = {
        "config": [str(proxy.config)],
        "tcp": ["--admin", proxy.address],
        "unix": ["--admin", f"unix:{proxy.socket}"],
    }[where]
    done = run("--once", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if not line.startswith("Clients' SYN"))
    for words in ("Endpoints (1)", "Sessions (", "hung up", "Listeners (1)", "web"):
        assert words in done.stdout


def test_json_once(proxy: Running) -> None:
    told: dict[str, Any] = json.loads(run("--once", "--json", "--admin", proxy.address).stdout)
    assert set(told) == {"status", "listeners", "endpoints", "sessions"}
    assert told["status"]["total"]["sessions"] >= 1


def test_json_again_and_again(proxy: Running) -> None:
    arguments = command("top", "--json", "--interval", "0.1", "--admin", proxy.address)
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        for _ in range(3):
            assert json.loads(program.stdout.readline())["status"]["state"] == "ready"
        program.send_signal(signal.SIGINT)
        assert program.wait(PATIENCE) == 130


def test_nobody_there_once() -> None:
    done = run("--once", "--admin", f"127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert re.fullmatch(r"Error: nobody answers at 127\.0\.0\.1:\d+: Connection refused\n", done.stderr)


def test_no_terminal(proxy: Running) -> None:
    done = run("--admin", proxy.address)
    assert done.returncode == 2
    assert "this is no terminal: use --once or --json" in done.stderr


def test_somebody_else_is_there() -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>\x1b[2J</html>")

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002  # its signature
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            done = run("--once", "--admin", f"127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()
    assert done.returncode == 1
    assert "is another server, or the admin of another version" in done.stderr
    assert "html" not in done.stderr


def test_without_rich_it_says_what_to_do(proxy: Running, tmp_path: Path) -> None:
    code = (
        "import sys, importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'rich' else real(name, *rest)\n"
        "from proxy.commands import group; sys.exit(group.main(sys.argv[1:]))"
    )
    arguments = [sys.executable, "-c", code, "top", "--once", "--admin", proxy.address]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'tfo-proxy[tui]'" in done.stderr
    done = subprocess.run([*arguments, "--json"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["status"]["state"] == "ready"
