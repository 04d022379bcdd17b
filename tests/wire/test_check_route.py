"""What `check --route` says of a destination is what the real program then does."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxy.lab.behaviours import answers
from proxy.lab.namespaces import python_environment
from proxy.lab.wan import Wan
from tests.wire.program import Line, Program
from tests.wire.test_ways_in import hello

RULES: list[Line] = [
    {"match": {"network": "198.51.100.0/24"}, "refuse": "not there"},
    {"match": {"host": "refused.test"}, "refuse": "no"},
    {"match": {"network": "203.0.113.0/24"}, "to": "other"},
    {"match": {"host": "localhost", "port": 81}, "to": "other"},
    {"match": {"listener": "named", "host": "*.test"}, "to": "other"},
]


@contextmanager
def no_names() -> Iterator[None]:
    """A name server that knows no name at all."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 5353))

        def serve() -> None:
            while True:
                asked, client = server.recvfrom(512)
                if not asked:
                    return
                server.sendto(asked[:2] + b"\x81\x83" + asked[4:6] + bytes(6) + asked[12:], client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", ("127.0.0.1", 5353))
            thread.join()


def connect(address: tuple[str, int], host: str, port: int) -> None:
    """A SOCKS client that wants `host:port`."""
    with socket.create_connection(address, timeout=10) as sock:
        name = host.encode()
        sock.sendall(b"\5\1\0\5\1\0\3" + bytes([len(name)]) + name + port.to_bytes(2, "big"))
        sock.settimeout(5)
        sock.recv(2)
        sock.recv(100)


def greet(address: tuple[str, int], host: str) -> None:
    """A TLS client that wants `host`."""
    with socket.create_connection(address, timeout=10) as sock:
        sock.sendall(hello(host))
        sock.settimeout(5)
        sock.recv(100)


def in_short(text: str) -> str:
    """A cluster, `direct`, a refusal or `no address`; of several addresses the last one's."""
    line = text.splitlines()[-1]
    if line.endswith("its addresses decide"):
        return "no address"
    found = re.search(r"cluster (\S+) ", line)
    return "refused" if ": refused" in line else found[1] if found else "direct"


def test_a_listener_with_a_destination_of_its_own_and_rules_by_network(wan: Wan, tmp_path: Path) -> None:
    server, other = wan.serve(answers()), wan.serve(answers())
    document: Line = {
        "listeners": {
            "named": {"bind": "127.0.0.1:7443", "mode": "sni", "to": "fixed"},
            "plain": {"bind": "127.0.0.1:7080", "mode": "mixed"},
        },
        "clusters": {
            "fixed": {"endpoints": [f"{server.address[0]}:{server.address[1]}"], "warm_up": False},
            "other": {"endpoints": [f"{other.address[0]}:{other.address[1]}"], "warm_up": False},
        },
        "routes": RULES,
        "dns": {"servers": ["127.0.0.1:5353"]},
    }
    file = tmp_path / "c.yaml"
    file.write_text(json.dumps(document))

    def told(listener: str, host: str, port: int) -> str:
        command = [sys.executable, "-m", "proxy", "check", str(file), "--listener", listener, "--route"]
        done = wan.client.run([*command, f"{host}:{port}"], env=python_environment())
        assert done.returncode == 0, done.stderr
        return in_short(done.stdout)

    asked = [
        ("named", "refused.test", 7443), ("named", "x.test", 7443), ("named", "nowhere.invalid", 7443),
        ("named", "localhost", 7443), ("plain", "198.51.100.9", 81), ("plain", "203.0.113.7", 81),
        ("plain", "localhost", 81), ("plain", "refused.test", 80), ("plain", "127.0.0.1", 7080),
    ]  # fmt: skip
    with no_names(), Program(wan.client, document=document) as proxy:
        for number, (listener, host, port) in enumerate(asked, 1):
            if listener == "named":
                greet(("127.0.0.1", 7443), host)
            else:
                connect(("127.0.0.1", 7080), host, port)
            line = proxy.session(number)
            refusals = {"denied": "refused", "loop": "refused", "no_such_host": "no address"}
            done = refusals.get(line.get("reason", ""), line["cluster"])
            assert done == told(listener, host, port), (listener, host, port, line)
