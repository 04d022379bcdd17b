from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.service import systemd

CHILD = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
from proxy.service import systemd
got = systemd.activated()
for name, sockets in got.sockets.items():
    for sock in sockets:
        print(name, sock.getsockname()[1], os.get_inheritable(sock.fileno()), sock.getblocking())
print("useless", *got.useless)
print("left", *[name for name in os.environ if name.startswith("LISTEN")])
"""


def test_sockets_are_found_by_name_in_a_program_that_was_started_with_them() -> None:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [sock.getsockname()[1] for sock in listeners]
    read, write = os.pipe()
    fds = [*(sock.fileno() for sock in listeners), read]
    shell = " ".join(f"{3 + at}<&{fd}" for at, fd in enumerate(fds))
    done = subprocess.run(
        ["/bin/bash", "-c", f'exec "$0" -c "$1" {shell}', sys.executable, CHILD],
        env={**os.environ, "LISTEN_FDS": "4", "LISTEN_FDNAMES": "web:web::pipe"},
        pass_fds=fds, capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        f"web {ports[0]} False False",
        f"web {ports[1]} False False",
        f"unknown {ports[2]} False False",
        "useless pipe",
        "left",
    ]
    for sock in listeners:
        sock.close()
    os.close(read)
    os.close(write)


def test_what_is_not_meant_for_this_process_is_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        environ = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getppid()), "HOME": "/"}
        assert systemd.activated(environ, server.fileno()) == ({}, [])
        assert environ == {"HOME": "/"}
        assert server.getsockname()


@pytest.mark.parametrize(
    "count", ["", "0", "-1", "x", "1e3", "99999999999999999999", "4097", "\N{ARABIC-INDIC DIGIT ONE}"]
)
def test_a_count_that_is_none(count: str) -> None:
    assert systemd.activated({"LISTEN_FDS": count, "LISTEN_PID": str(os.getpid())}) == ({}, [])
    assert systemd.activated({}) == ({}, [])


def test_what_is_no_listening_stream_socket_is_closed() -> None:
    connected, other = socket.socketpair()
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for sock in (connected, datagrams):
        fd = sock.detach()
        environ = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "odd"}
        assert systemd.activated(environ, fd) == ({}, ["odd"])
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    other.close()


def test_activated_sockets_can_be_closed() -> None:
    fd = socket.create_server(("127.0.0.1", 0)).detach()
    passed = systemd.activated({"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}, fd)
    assert [sock.fileno() for sock in passed.sockets["unknown"]] == [fd]
    passed.close()
    assert passed.sockets["unknown"][0].fileno() == -1


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@tfo-proxy-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0") if name.startswith("@") else name)
        sock.settimeout(30)
        yield sock, {"NOTIFY_SOCKET": name}


def test_states_arrive_in_one_datagram(manager: tuple[socket.socket, dict[str, str]]) -> None:
    sock, environ = manager
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert systemd.notify(systemd.READY, systemd.status("a\nb=c  d"), environ=environ)
    assert sock.recv(4096) == b"READY=1\nSTATUS=a b=c d"
    assert systemd.notify(systemd.reloading(), environ=environ)
    first, usec = sock.recv(4096).decode().splitlines()
    assert first == "RELOADING=1"
    assert before <= int(usec.removeprefix("MONOTONIC_USEC=")) <= before + 60_000_000
    assert systemd.notify(systemd.extend_timeout(1.5), systemd.main_pid(42), environ=environ)
    assert sock.recv(4096) == b"EXTEND_TIMEOUT_USEC=1500000\nMAINPID=42"
    assert systemd.notify(systemd.STOPPING, systemd.WATCHDOG, environ=environ)
    assert sock.recv(4096) == b"STOPPING=1\nWATCHDOG=1"


@pytest.mark.parametrize(
    "where", ["", "relative", "/nowhere/at/all", "@nobody-listens", "/" + "x" * 300, "/a\0b"]
)
def test_without_a_manager_nothing_happens(where: str) -> None:
    assert not systemd.notify(systemd.READY, environ={"NOTIFY_SOCKET": where})
    assert not systemd.notify(systemd.READY, environ={})


def test_a_manager_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    path = str(tmp_path / "full")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        began = time.monotonic()
        while systemd.notify(systemd.WATCHDOG, environ={"NOTIFY_SOCKET": path}):
            assert time.monotonic() - began < 60
        again = time.monotonic()
        assert not systemd.notify(systemd.WATCHDOG, environ={"NOTIFY_SOCKET": path})
        assert time.monotonic() - again < 30


@pytest.mark.parametrize(
    ("usec", "pid", "interval"),
    [
        ("30000000", None, 30.0),
        ("500000", "", 0.5),
        ("500000", "own", 0.5),
        ("500000", "1", None),
        ("0", None, None),
        ("soon", None, None),
        ("", None, None),
    ],
)
def test_the_watchdog_is_of_the_process_that_it_names(
    usec: str, pid: str | None, interval: float | None
) -> None:
    named = str(os.getpid()) if pid == "own" else pid
    environ = {"WATCHDOG_USEC": usec} | ({} if named is None else {"WATCHDOG_PID": named})
    assert systemd.watchdog_interval(environ) == interval
