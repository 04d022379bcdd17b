"""Names with addresses of both families, one of which leads nowhere (RFC 8305)."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import dns.message
import pytest

from proxy.lab.behaviours import answers
from proxy.lab.servers import Address
from proxy.lab.wan import Wan
from tests.net.name_server import NameServer
from tests.wire.program import GET, Program

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.02)]


@contextlib.contextmanager
def names(records: dict[tuple[str, str], list[str]]) -> Iterator[str]:
    """A name server in this namespace; yields its address."""
    server = NameServer()
    server.records |= records
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                wire, peer = sock.recvfrom(4096)
                if not wire:
                    return
                sock.sendto(server.answer(dns.message.from_wire(wire)).to_wire(), peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{sock.getsockname()[1]}"
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", sock.getsockname())
            thread.join()


def fetch(proxy: Address, name: str) -> float:
    """Seconds until the answer of a server that is asked for by name."""
    began = time.monotonic()
    with socket.create_connection(proxy, timeout=10) as sock:
        request = b"\5\1\0\3" + bytes([len(name)]) + name.encode() + b"\0\x50"
        sock.sendall(b"\5\1\0" + request + GET)
        reply = b""
        while not reply.endswith(b"pong"):
            data = sock.recv(100)
            assert data, reply
            reply += data
    return time.monotonic() - began


def test_a_family_that_leads_nowhere_is_not_begun_with_again(wan: Wan) -> None:
    if not wan.ipv6:
        pytest.skip("this kernel has no IPv6")
    server = wan.serve(answers(request=len(GET)))
    nowhere = wan.unrouted_address(6)
    records: dict[tuple[str, str], list[str]] = {}
    for name in "abcd":
        records |= {(f"{name}.test", "A"): [server.address[0]], (f"{name}.test", "AAAA"): [nowhere]}
    with names(records) as resolver:
        document = {
            "listeners": {"a": {"bind": "127.0.0.1:0", "mode": "socks"}},
            "dns": {"servers": [resolver]},
        }
        with Program(wan.client, None, document=document) as program:
            assert fetch(program.address(), "a.test") > 0.24
            assert program.session(1)["endpoint"] == f"{server.address[0]}:80"
            wan.forget()
            fetch(program.address(), "a.test")
            assert "tried" not in program.session(2)
            assert not wan.capture().syns(dst=nowhere)
            for name in "bc":
                assert fetch(program.address(), f"{name}.test") > 0.24
            program.session(4)
            wan.forget()
            fetch(program.address(), "d.test")
            program.session(5)
            assert not wan.capture().syns(dst=nowhere), "it led nowhere with three names"
