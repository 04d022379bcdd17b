"""Thousands of malformed and abusive requests to the admin of the real program, while traffic flows through it.

How many: 4,000, or what the environment variable ABUSE says (100,000 take some minutes).
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trio

from proxy.lab.namespaces import python_environment
from tests.admin.house import TOKEN, ask_now, bearer

ABUSE = int(os.environ.get("ABUSE", "4000"))
AT_ONCE = 40
IDLE = 1000
READERS = 30
HOST = b"Host: localhost\r\n"
ENDS_OTHERS = b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAA\r\n"
KINDS = [
    b"GET / HTTP/1.1\r\n" + HOST + ENDS_OTHERS + b"\r\n",
    b"GET / HTTP/1.1\r\n"
    + HOST
    + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n\r\n\xc1\xff\xff",
    b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /api/v1/endpoints?limit=10000 HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /api/v1/status HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"POST /api/v1/drain HTTP/1.1\r\n" + HOST + b"Authorization: Bearer wrong\r\nContent-Length: 0\r\n\r\n",
    b"POST /api/v1/reload HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    b"POST /api/v1/loglevel HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000000\r\n\r\n" + b"[" * 60_000,
    b"GET /livez HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 100_000,
    b"GET /livez HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 5_000 + b"\r\n",
    b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n" * 500,
    (b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n") * 100,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100),
    b"GET /" + b"%00" * 2_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    b"\r\n" * 1_000,
    b"",
]


@contextmanager
def program(folder: Path, to: int, admin: str) -> Iterator[tuple[int, int, int]]:
    """A proxy with an admin: its pid, its port and the admin's."""
    config = {
        "listeners": {"a": {"bind": "127.0.0.1:0", "mode": "forward", "to": f"127.0.0.1:{to}"}},
        "admin": {"bind": [admin, f"unix:{folder}/admin.sock"], "token": TOKEN},
    }
    (folder / "c.yaml").write_text(json.dumps(config))
    command = [sys.executable, "-m", "proxy", "run", str(folder / "c.yaml")]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stderr=log, env=python_environment()) as child,
    ):
        try:
            ports: dict[str, int] = {}
            while "ready" not in ports:
                for line in (folder / "log").read_text().rpartition("\n")[0].splitlines():
                    event = json.loads(line)
                    if not str(event.get("bind", "")).startswith("unix"):
                        ports[event["event"]] = int(str(event.get("bind", ":0")).rpartition(":")[2])
                assert child.poll() is None, (folder / "log").read_text()
            yield child.pid, ports["listening"], ports["admin"]
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(60)


@contextmanager
def echo() -> Iterator[int]:
    """A server that gives back what it gets, one connection after the other."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    while data := connection.recv(65536):
                        connection.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


async def abuse(port: int, chance: random.Random) -> None:
    """One bad connection: a kind of request, perhaps cut short or changed, ended in one way or another."""
    data = bytearray(chance.choice(KINDS))
    if data and chance.random() < 0.3:
        data[chance.randrange(len(data))] = chance.randrange(256)
    if chance.random() < 0.3:
        del data[chance.randrange(len(data) + 1) :]
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        with suppress(trio.BrokenResourceError), trio.move_on_after(0.1):
            await stream.send_all(data)
            if chance.random() < 0.5:
                await stream.receive_some(1000)
        if chance.random() < 0.3:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def traffic(port: int, over: trio.Event) -> int:
    """Sessions through the proxy, each checked byte for byte, until ``over``; how many there were."""
    done = 0
    while not over.is_set():
        sent = os.urandom(1000)
        with trio.fail_after(60):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(sent)
                got = b""
                while len(got) < len(sent):
                    data = await stream.receive_some(65536)
                    assert data
                    got += data
        assert got == sent
        done += 1
    return done


def test_the_admin_survives_and_nobody_notices(tmp_path: Path) -> None:
    trio.run(_survive, tmp_path)  # itself, as the patience of other tests ends after two minutes


async def _survive(tmp_path: Path) -> None:
    chance = random.Random(ABUSE)
    with echo() as server, program(tmp_path, server, "127.0.0.1:0") as (pid, port, admin):
        over = trio.Event()
        sessions = 0

        async def relayed() -> None:
            nonlocal sessions
            sessions = await traffic(port, over)

        async def abusers() -> None:
            for _ in range(ABUSE // AT_ONCE):
                await abuse(admin, chance)

        idle = [await trio.open_tcp_stream("127.0.0.1", admin) for _ in range(IDLE)]
        readers = [await trio.open_tcp_stream("127.0.0.1", admin) for _ in range(READERS)]
        for reader in readers:
            await reader.send_all(b"GET /api/v1/events HTTP/1.0\r\n\r\n")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(relayed)
            async with trio.open_nursery() as crowd:
                for _ in range(AT_ONCE):
                    crowd.start_soon(abusers)
            over.set()
        for stream in (*idle, *readers):
            await stream.aclose()
        where = f"127.0.0.1:{admin}"
        status = await trio.to_thread.run_sync(lambda: ask_now(where, "/api/v1/status"))
        total = json.loads(status.body)["total"]
        assert (total["sessions"] + total["open"], total["failed"]) == (sessions, 0)
        assert sessions > 10
        assert json.loads(status.body)["state"] == "ready"
        assert (
            await trio.to_thread.run_sync(lambda: ask_now(where, "/api/v1/reload", "POST", bearer()))
        ).status == 200
        assert len(os.listdir(f"/proc/{pid}/fd")) < 400
    log = (tmp_path / "log").read_text()
    events = [json.loads(line)["event"] for line in log.splitlines()]
    assert not {"background_fault", "session_fault"} & set(events), log[-5000:]
    assert TOKEN not in log


SECRETS = {
    "alice": "hunter2-and-more",
    "gateway": "pass-of-the-gateway",
    "key": "00112233445566778899aabbccddeeff",
}


@pytest.mark.parametrize("level", ["debug", "info"])
def test_no_secret_is_ever_said(tmp_path: Path, level: str) -> None:
    """Grep for each of them in everything that the program puts out."""
    config = {
        "listeners": {
            "web": {"bind": "127.0.0.1:0", "mode": "mixed", "users": {"alice": SECRETS["alice"]}},
            "gone": {"bind": "127.0.0.1:0", "mode": "forward", "to": "far"},
        },
        "clusters": {
            "far": {"endpoints": ["192.0.2.1:9"], "via": {"socks": f"u:{SECRETS['gateway']}@127.0.0.1:1"}}
        },
        "tfo_keys": SECRETS["key"],
        "admin": {"bind": "127.0.0.1:0", "token": TOKEN},
        "log": {"level": level},
    }
    file = tmp_path / "c.yaml"
    file.write_text(json.dumps(config))
    said = b""
    for command in ("check", "show"):
        done = subprocess.run([sys.executable, "-m", "proxy", command, str(file)], env=python_environment(),
            capture_output=True, check=False)  # fmt: skip
        said += done.stdout + done.stderr
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "proxy", "run", str(file)], stderr=log, env=python_environment()
        ) as child,
    ):
        try:
            binds: dict[str, str] = {}
            while "ready" not in binds:
                for line in (tmp_path / "log").read_text().rpartition("\n")[0].splitlines():
                    event = json.loads(line)
                    binds[event.get("listener", event["event"])] = str(event.get("bind"))
                assert child.poll() is None
            host, _, port = binds["web"].rpartition(":")
            for auth in (
                b"YWxpY2U6aHVudGVyMi1hbmQtbW9yZQ==",
                b"YWxpY2U6aHVudGVyMi1hbmQtbW9yZXg=",
            ):  # right and wrong
                with socket.create_connection((host, int(port)), timeout=30) as client:
                    client.sendall(
                        b"CONNECT 127.0.0.1:9 HTTP/1.1\r\nProxy-Authorization: Basic " + auth + b"\r\n\r\n"
                    )
                    said += client.recv(1000)
            host, _, port = binds["gone"].rpartition(":")
            with socket.create_connection((host, int(port)), timeout=30) as client, suppress(OSError):
                client.sendall(b"x")
                client.recv(1)
            for name in ("status", "listeners", "clusters", "endpoints", "sessions", "config"):
                reply = ask_now(binds["admin"], f"/api/v1/{name}", headers=bearer())
                assert reply.status == 200
                said += reply.body
            said += ask_now(binds["admin"], "/metrics").body
            for wrong in (TOKEN[:-1], TOKEN + "x"):
                said += ask_now(binds["admin"], "/api/v1/reload", "POST", bearer(wrong)).body
            file.write_text(json.dumps(config | {"drian": "1s", "tfo_keys": SECRETS["key"] + "xx"}))
            said += ask_now(binds["admin"], "/api/v1/reload", "POST", bearer()).body
            child.send_signal(signal.SIGUSR1)
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(60)
    said += (tmp_path / "log").read_bytes()
    assert b"drian" in said
    for secret in (*SECRETS.values(), TOKEN):
        assert secret.encode() not in said
