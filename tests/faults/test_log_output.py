"""Whoever reads the log may stop reading, or go: sessions go on, and what was lost is counted and said."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from proxy.lab.namespaces import python_environment

SESSIONS = 60


@contextmanager
def echoing() -> Iterator[int]:
    """A server that says what it hears."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as server:

        def serve() -> None:
            while True:
                try:
                    one, _ = server.accept()
                except OSError:
                    return
                with one:
                    one.sendall(one.recv(4096))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(30)


@contextmanager
def proxy(
    folder: Path, to: int, stderr: int | None, *, form: str = "json", workers: int = 1
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The program, listening on a unix socket, so that its log is not needed. ``stderr`` None: closed."""
    path = str(folder / "proxy.sock")
    config = folder / "proxy.yaml"
    document = {
        "listeners": {"a": {"bind": f"unix:{path}", "mode": "forward", "to": "c"}},
        "clusters": {"c": {"endpoints": [f"127.0.0.1:{to}"], "warm_up": False}},
        "log": {"format": form},
        "admin": {"bind": f"unix:{folder}/admin"},
        "workers": workers,
        "drain": "1s",
    }
    config.write_text(json.dumps(document))
    command = [sys.executable, "-m", "proxy", "run", str(config)]
    if stderr is None:
        command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command]
    with subprocess.Popen(command, env=python_environment(), stderr=stderr) as process:
        deadline = time.monotonic() + 60
        while not answers(f"{folder}/admin", "/readyz") and time.monotonic() < deadline:
            time.sleep(0.02)
        try:
            yield process, path
        finally:
            process.kill()


def answers(admin: str, path: str) -> bytes:
    """The body of a page of the admin; empty where it does not answer, or not with 200."""
    with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
        client.settimeout(10)
        client.connect(admin)
        client.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        said = b""
        while part := client.recv(1 << 20):
            said += part
        head, _, body = said.partition(b"\r\n\r\n")
        return body if b" 200 " in head else b""
    return b""


def ask(path: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(path)
        client.sendall(b"hello")
        return client.recv(100)


def small_pipe() -> tuple[int, int]:
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    return read, write


def test_a_reader_that_reads_nothing_stops_nobody_and_hears_all_in_the_end(tmp_path: Path) -> None:
    read, write = small_pipe()
    with echoing() as port, proxy(tmp_path, port, write) as (process, path):
        os.close(write)
        for _ in range(SESSIONS):
            assert ask(path) == b"hello"
        process.send_signal(signal.SIGUSR1)  # other lines, too
        process.send_signal(signal.SIGHUP)
        assert ask(path) == b"hello"
        text = b""
        deadline = time.monotonic() + 60
        while text.count(b'"session"') < SESSIONS + 1 and time.monotonic() < deadline:
            text += os.read(read, 65536)
        process.send_signal(signal.SIGTERM)
        while part := os.read(read, 65536):
            text += part
        assert process.wait(60) == 0
    os.close(read)
    events = [json.loads(line)["event"] for line in text.splitlines()]
    assert events.count("session") == SESSIONS + 1
    assert events.count("ready") == 1


def test_a_reader_that_never_reads_again_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    read, write = small_pipe()
    with echoing() as port, proxy(tmp_path, port, write) as (process, path):
        os.close(write)
        for _ in range(SESSIONS):
            assert ask(path) == b"hello"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    os.close(read)


def _gone(stack: ExitStack) -> int:
    read, write = os.pipe()
    os.close(read)
    stack.callback(os.close, write)
    return write


def _never_read(stack: ExitStack) -> int:
    read, write = small_pipe()
    stack.callback(os.close, read)
    stack.callback(os.close, write)
    return write


def _full(stack: ExitStack) -> int:
    return stack.enter_context(open("/dev/full", "wb")).fileno()


def _terminal(stack: ExitStack) -> int:
    """One that is not read: its buffer takes some kilobytes."""
    ours, theirs = os.openpty()
    stack.callback(os.close, ours)
    stack.callback(os.close, theirs)
    return theirs


def _stopped_terminal(stack: ExitStack) -> int:
    """As after Ctrl-S."""
    ours, theirs = os.openpty()
    stack.callback(os.close, ours)
    stack.callback(os.close, theirs)
    termios.tcflow(theirs, termios.TCOOFF)
    return theirs


def _hung_up_terminal(stack: ExitStack) -> int:
    ours, theirs = os.openpty()
    os.close(ours)
    stack.callback(os.close, theirs)
    return theirs


def _socket(stack: ExitStack) -> int:
    """As a service manager gives one, and here it is not read."""
    ours, theirs = socket.socketpair()
    stack.enter_context(ours)
    return stack.enter_context(theirs).fileno()


def _closed(_stack: ExitStack) -> None:
    return None


OUTPUTS = [
    _gone, _never_read, _full, _terminal, _stopped_terminal, _hung_up_terminal, _socket, _closed,
]  # fmt: skip


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_no_output_of_the_log_stops_the_service(
    tmp_path: Path, output: Callable[[ExitStack], int | None], form: str
) -> None:
    workers = 2 if form == "json" and output in {_never_read, _gone} else 1
    with (
        ExitStack() as stack,
        echoing() as port,
        proxy(tmp_path, port, output(stack), form=form, workers=workers) as (process, path),
    ):
        for _ in range(3):
            process.send_signal(signal.SIGUSR1)
            process.send_signal(signal.SIGHUP)
            for _ in range(SESSIONS):
                assert ask(path) == b"hello"
        if output in {_gone, _hung_up_terminal}:
            until_lines_are_lost(f"{tmp_path}/admin")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def until_lines_are_lost(admin: str) -> None:
    """Until the metrics say so."""
    deadline = time.monotonic() + 30
    while not re.search(rb"^tfoproxy_log_lines_lost_total [1-9]", answers(admin, "/metrics"), re.MULTILINE):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_terminal_that_is_closed_meanwhile(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    with echoing() as port, proxy(tmp_path, port, theirs, form="console") as (process, path):
        os.close(theirs)
        assert ask(path) == b"hello"
        os.close(ours)
        for _ in range(SESSIONS):
            assert ask(path) == b"hello"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_lines_of_several_workers_stay_whole_however_long_they_are(tmp_path: Path) -> None:
    """Names of users and destinations are the client's, and may be long."""
    read, write = os.pipe()
    with echoing() as port, proxy(tmp_path, port, write, workers=2) as (process, path):
        os.close(write)
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda _: ask(path), range(300))) == {b"hello"}
        process.send_signal(signal.SIGTERM)
        text = b""
        while part := os.read(read, 65536):
            text += part
    os.close(read)
    lines = [json.loads(line) for line in text.splitlines()]
    assert sum(line["event"] == "session" for line in lines) == 300
