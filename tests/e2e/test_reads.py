"""Are the commands we call reads really reads? Real servers say so of themselves."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.core.replay import redis, safe_prefix
from tests.wire.program import until

HARMFUL = {"admin", "write", "blocking", "may_replicate"}
"""Flags of Redis' own command table that a command sent twice must not have."""

ADMIN_READS = {"CLUSTER|REPLICAS", "CLUSTER|SLAVES", "CONFIG|GET", "MODULE|LIST"}
"""Reads that only an administrator may do."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def serving(port: int, *argv: str) -> Iterator[None]:
    if shutil.which(argv[0]) is None:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(f"{argv[0]} is not installed", pytrace=False)
        pytest.skip(f"{argv[0]} is not installed")
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: listens(port), 60)
            yield
        finally:
            process.terminate()


def talk(port: int, says: bytes, until: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(says)
        said = b""
        while not said.endswith(until) and (data := client.recv(65_536)):
            said += data
    return said


def test_redis_calls_none_of_them_a_write(tmp_path: Path) -> None:
    names = [name.decode() for name in redis.READS]
    for command, subcommands in redis.READING_SUBCOMMANDS.items():
        names += [f"{command.decode()}|{subcommand.decode()}" for subcommand in subcommands]
    port = free_port()
    with serving(port, "redis-server", "--port", str(port), "--save", "", "--dir", str(tmp_path)):
        asked = subprocess.run(
            ("redis-cli", "-p", str(port), "--json", "COMMAND", "INFO", *names),
            capture_output=True,
            check=True,
        )
    flags = {name: set(info[2]) for name, info in zip(names, json.loads(asked.stdout), strict=True) if info}
    assert len(flags) > 100
    assert not {name for name, has in flags.items() if has & HARMFUL} - ADMIN_READS


def test_meta_get_is_no_read() -> None:
    """Whoever asks first for a stale item wins the right to recache it; a copy of the question would take it."""
    port = free_port()
    with serving(port, "memcached", "-l", "127.0.0.1", "-p", str(port), "-u", "nobody"):
        talk(port, b"ms k 1\r\nx\r\nmd k I T30\r\nmn\r\n", b"MN\r\n")
        assert [talk(port, b"mg k\r\n", b"\r\n") for _ in range(2)] == [b"HD X W\r\n", b"HD Z X\r\n"]
    assert safe_prefix(b"mg k\r\n") == 0
