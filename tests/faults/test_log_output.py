"""Whoever reads the log may stop reading, or go: sessions go on, and what was lost is counted and said."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
def proxy(folder: Path, to: int, stderr: int) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The program, listening on a unix socket, so that nobody needs its log."""
    path = str(folder / "proxy.sock")
    config = folder / "proxy.yaml"
    document = {
        "listeners": {"a": {"bind": f"unix:{path}", "mode": "forward", "to": "c"}},
        "clusters": {"c": {"endpoints": [f"127.0.0.1:{to}"], "warm_up": False}},
        "log": {"format": "json"},
        "drain": "1s",
    }
    config.write_text(json.dumps(document))
    with subprocess.Popen(
        [sys.executable, "-m", "proxy", "run", str(config)], env=python_environment(), stderr=stderr
    ) as process:
        deadline = time.monotonic() + 60
        while not os.path.exists(path) and time.monotonic() < deadline:
            time.sleep(0.02)
        try:
            yield process, path
        finally:
            process.kill()


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


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_reader_that_has_gone(tmp_path: Path, when: str) -> None:
    read, write = os.pipe()
    if when == "before":
        os.close(read)
    with echoing() as port, proxy(tmp_path, port, write) as (process, path):
        os.close(write)
        assert ask(path) == b"hello"
        if when == "meanwhile":
            os.close(read)
        for number in (signal.SIGUSR1, signal.SIGHUP):
            process.send_signal(number)
            assert ask(path) == b"hello"
        for _ in range(SESSIONS):
            assert ask(path) == b"hello"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_full_disk(tmp_path: Path) -> None:
    with (
        open("/dev/full", "wb") as full,
        echoing() as port,
        proxy(tmp_path, port, full.fileno()) as (process, path),
    ):
        for _ in range(SESSIONS):
            assert ask(path) == b"hello"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
