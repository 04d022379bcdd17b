"""Records the first bytes real clients send (those in clients.py).

    python -m tests.core.first_flights.record [NAME ...]

runs each client (or those named) against a listener on loopback that takes what comes and says nothing, and
writes what it said to NAME.bin beside this file. Clients that are not installed keep their last recording. Which
program of which version made a recording stands in recorded.txt.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.core.first_flights.clients import CLIENTS, HERE, Client

PATIENCE = 20.0
"""Seconds a client may take to connect and speak; a browser needs some to start."""
EARLY = b"GET / HTTP/1.0\r\n\r\n"
"""What `{tmp}/early` holds."""
SILENCE = 0.3
"""Seconds without another byte that end a first flight."""


def record(name: str) -> bytes:
    """Run the client and return the first bytes it sent."""
    client = CLIENTS[name]
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as tmp,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        (Path(tmp) / "early").write_bytes(EARLY)
        if "{tmp}/session.pem" in client.argv:
            make_session(Path(tmp))
        port = str(listener.getsockname()[1])
        argv = [word.format(port=port, tmp=tmp) for word in client.argv]
        with running([client.program or argv[0], *argv[1:]]) as process:
            assert process.stdin is not None
            process.stdin.write(client.stdin.replace(b"{port}", port.encode()))
            process.stdin.flush()
            return first_flight(listener)


@contextmanager
def running(argv: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The program, in a session of its own: at the end it is killed with all its children (a browser has some)."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        argv, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def first_flight(listener: socket.socket) -> bytes:
    """What the first connection that speaks says before it waits."""
    listener.settimeout(PATIENCE)
    while True:
        connection, _ = listener.accept()
        with connection:
            flight = b""
            connection.settimeout(PATIENCE)
            with suppress(TimeoutError, ConnectionError):
                while data := connection.recv(65_536):
                    flight += data
                    connection.settimeout(SILENCE)
            if flight:
                return flight


def make_session(tmp: Path) -> None:
    """A TLS 1.3 session that allows early data, from a server that lives for this."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    key, certificate = str(tmp / "key.pem"), str(tmp / "certificate.pem")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key)
    subprocess.run(
        ("openssl", "req", "-x509", *new_key, "-out", certificate, "-subj", "/CN=example.org"),
        check=True,
        capture_output=True,
    )
    session = tmp / "session.pem"
    server = ["openssl", "s_server", "-accept", str(port), "-key", key, "-cert", certificate, "-early_data"]
    client = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-sess_out", str(session)]
    with running(server) as serving:
        assert serving.stdout is not None
        while serving.stdout.readline() not in (b"ACCEPT\n", b""):
            pass
        with running(client):
            deadline = time.monotonic() + PATIENCE
            while not (session.exists() and session.stat().st_size) and time.monotonic() < deadline:
                time.sleep(0.02)


def version(client: Client) -> str:
    """What the program says it is."""
    argv = (client.program or client.argv[0], *(client.version or ("--version",)))
    said = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=PATIENCE)
    return (said.stdout or said.stderr).strip().partition("\n")[0][:48]


def main(names: list[str]) -> None:
    """Record the named clients, or all, and note their versions."""
    notes_file = HERE / "recorded.txt"
    notes = (
        dict(line.split(": ", 1) for line in notes_file.read_text().splitlines())
        if notes_file.exists()
        else {}
    )
    for name in names or CLIENTS:
        if CLIENTS[name].program is None:
            print(f"{name}: {CLIENTS[name].argv[0]} is not installed")
            continue
        flight = record(name)
        (HERE / f"{name}.bin").write_bytes(flight)
        notes[name] = version(CLIENTS[name])
        print(f"{name}: {len(flight)} bytes, {notes[name]}")
    notes_file.write_text("".join(f"{name}: {notes[name]}\n" for name in CLIENTS if name in notes))


if __name__ == "__main__":
    os.environ["LC_ALL"] = "C.UTF-8"
    main(sys.argv[1:])
