"""Names with addresses of both families, one of which leads nowhere (RFC 8305)."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import dns.message
import dns.rdatatype
import pytest

from proxy.lab.behaviours import answers
from proxy.lab.rules import Direction
from proxy.lab.servers import Address
from proxy.lab.wan import Wan
from tests.net.name_server import NameServer
from tests.wire.program import GET, Program

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.02)]

BODY = b"here"
KEY = bytes(range(7, 39)).hex()
SLOW_WITH_CURL = frozenset({"mixed", "silent-both", "one-family", "six-is-last"})


@contextlib.contextmanager
def names(
    records: dict[tuple[str, str], list[str]], delays: dict[tuple[str, str], float] | None = None
) -> Iterator[str]:
    """A name server in this namespace, whose answers come after ``delays``; yields its address."""
    server = NameServer()
    server.records |= records
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                wire, peer = sock.recvfrom(4096)
                if not wire:
                    return
                query = dns.message.from_wire(wire)
                question = query.question[0]
                name = question.name.to_text(omit_final_dot=True)
                delay = (delays or {}).get((name, dns.rdatatype.to_text(question.rdtype)), 0.0)
                answer = server.answer(query).to_wire()
                threading.Timer(delay, sock.sendto, (answer, peer)).start()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{sock.getsockname()[1]}"
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", sock.getsockname())
            thread.join()


def fetch(proxy: Address, name: str, expected: bytes = b"pong") -> float:
    """Seconds until the answer of a server that is asked for by name; without a name, of a forward listener."""
    began = time.monotonic()
    with socket.create_connection(proxy, timeout=10) as sock:
        request = b"\5\1\0\3" + bytes([len(name)]) + name.encode() + b"\0\x50"
        sock.sendall((b"\5\1\0" + request if name else b"") + GET)
        reply = b""
        while not reply.endswith(expected):
            data = sock.recv(1000)
            assert data, (name, reply)
            reply += data
    return time.monotonic() - began


def test_a_family_that_leads_nowhere_is_not_begun_with_again(wan: Wan) -> None:
    if not wan.ipv6:
        pytest.skip("this kernel has no IPv6")
    server = wan.serve(answers(request=len(GET)))
    nowhere = {name: wan.unrouted_address(6) for name in "abcd"}
    records: dict[tuple[str, str], list[str]] = {}
    for name in "abcd":
        records |= {(f"{name}.test", "A"): [server.address[0]], (f"{name}.test", "AAAA"): [nowhere[name]]}
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
            assert not wan.capture().syns(dst=nowhere["a"])
            for name in "bc":
                assert fetch(program.address(), f"{name}.test") > 0.24
            program.session(4)
            wan.forget()
            fetch(program.address(), "d.test")
            program.session(5)
            assert not wan.capture().syns(dst=nowhere["d"]), "it led nowhere with three names"


def lists(wan: Wan, four: str, six: str) -> dict[str, list[str]]:
    """Addresses of names, by what most of them are like; ``four`` and ``six`` are servers that answer."""

    def silent(count: int, version: int) -> list[str]:
        return [wan.unrouted_address(version) for _ in range(count)]

    def refusing(count: int, version: int) -> list[str]:
        return [wan.fresh_address(version) for _ in range(count)]

    def unreachable(count: int, version: int) -> list[str]:
        found = silent(count, version)
        for address in found:
            command = ["ip", f"-{version}", "route", "add", "unreachable", address]
            assert wan.client.popen(command).wait() == 0
        return found

    return {
        **{f"silent6-{count}": [*silent(count, 6), four] for count in (2, 3, 4, 8)},
        **{f"refusing6-{count}": [*refusing(count, 6), four] for count in (1, 4, 8)},
        **{f"unreachable6-{count}": [*unreachable(count, 6), four] for count in (1, 4)},
        "silent4": [*silent(4, 4), six],
        "refusing4": [*refusing(4, 4), six],
        "unreachable4": [*unreachable(4, 4), six],
        "mixed": [*silent(1, 6), *refusing(2, 6), *unreachable(1, 6), *silent(1, 4), *refusing(1, 4), four],
        "silent-both": [*silent(3, 6), *silent(2, 4), four],
        "one-family": [*silent(3, 4), *refusing(1, 4), four],
        "six-is-last": [*silent(3, 4), *silent(2, 6), six],
        "good": [four, six],
    }


def by_curl(wan: Wan, name: str, addresses: list[str]) -> float:
    """Seconds until curl has the answer without us."""
    joined = ",".join(f"[{address}]" if ":" in address else address for address in addresses)
    command = ["curl", "-sS", "-m", "20", "--resolve", f"{name}:80:{joined}", f"http://{name}/"]
    began = time.monotonic()
    curl = wan.client.popen(command, stdout=subprocess.PIPE)
    assert curl.communicate()[0] == BODY, name
    return time.monotonic() - began


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None or shutil.which("ip") is None, reason="needs curl and ip")
def test_no_list_of_addresses_takes_longer_than_with_curl(wan: Wan) -> None:
    if not wan.ipv6:
        pytest.skip("this kernel has no IPv6")
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n" + BODY
    four = wan.serve(answers(request=len(GET), reply=reply)).address[0]
    six = wan.serve(answers(request=len(GET), reply=reply), version=6).address[0]
    names_of = lists(wan, four, six)
    records: dict[tuple[str, str], list[str]] = {}
    for name, addresses in names_of.items():
        for kind, colon in (("A", False), ("AAAA", True)):
            some = [address for address in addresses if (":" in address) is colon]
            if some:
                records[f"{name}.test", kind] = some
    listeners: dict[str, object] = {"direct": {"bind": "127.0.0.1:0", "mode": "socks"}}
    for name in names_of:
        listeners[name] = {"bind": "127.0.0.1:0", "mode": "forward", "to": f"{name}.test:80"}
    fastest = {
        # curl takes up to 19 s for the last ones: it dials the addresses of one family one after the other.
        name: 1.5 if name in SLOW_WITH_CURL else by_curl(wan, f"{name}.test", several)
        for name, several in names_of.items()
    }
    late: dict[str, tuple[float, float]] = {}

    def compare(program: Program, name: str, listener: str) -> None:
        took = fetch(program.address(listener), f"{name}.test" if listener == "direct" else "", reply)
        if took > fastest[name] + 0.1:
            late[f"{name} {listener}"] = (took, fastest[name])

    with names(records) as resolver:
        document = {
            "listeners": listeners,
            "defaults": {"warm_up": False},
            "dns": {"servers": [resolver]},
        }
        with Program(wan.client, None, document=document) as program:
            fetch(program.address("good"), "", reply)
            for name in names_of:
                compare(program, name, name)
        for name in ("silent6-8", "refusing6-4", "mixed", "silent-both", "one-family"):
            with Program(wan.client, None, document=document) as program:  # one that has learned nothing
                fetch(program.address("good"), "", reply)
                compare(program, name, "direct")
    assert not late


def test_a_session_sends_few_syns_to_those_that_do_not_answer(wan: Wan) -> None:
    """Of each address four at most, and sixteen in all, the kernel's repetitions included; and one source family."""
    if not wan.ipv6:
        pytest.skip("this kernel has no IPv6")
    server = wan.serve(answers(request=len(GET)))
    four = wan.fresh_source()
    both = [four, wan.fresh_source(6)]
    records = {
        ("one.test", "A"): [wan.unrouted_address()],
        ("socks.test", "A"): [wan.unrouted_address()],
        ("tunnel.test", "A"): [wan.unrouted_address()],
        ("two.test", "A"): [wan.unrouted_address()],
        ("two.test", "AAAA"): [wan.unrouted_address(6)],
        ("six.test", "A"): [wan.unrouted_address() for _ in range(6)],
        ("many.test", "A"): [wan.unrouted_address() for _ in range(20)],
        ("four.test", "A"): [server.address[0]],
        ("four.test", "AAAA"): [wan.unrouted_address(6) for _ in range(8)],
    }
    with names(records) as resolver:
        document: dict[str, Any] = {
            "listeners": {
                "direct": {"bind": "127.0.0.1:0", "mode": "socks"},
                "plain": {"bind": "127.0.0.1:0", "mode": "forward", "to": "plain"},
                "fast": {"bind": "127.0.0.1:0", "mode": "forward", "to": "fast"},
                "socks": {"bind": "127.0.0.1:0", "mode": "forward", "to": "socks"},
                "tunnel": {"bind": "127.0.0.1:0", "mode": "forward", "to": "tunnel"},
            },
            "clusters": {
                "plain": {"endpoints": "one.test:81", "warm_up": False, "fast_open": "off"},
                "fast": {
                    "endpoints": "two.test:81",
                    "source": {"address": both},
                    "warm_up": False,
                    "fast_open": "always",
                },
            },
            "defaults": {"source": four},
            "dns": {"servers": [resolver]},
        }
        for name, via in (
            ("socks", {"socks": "socks.test:81"}),
            ("tunnel", {"tunnel": "tunnel.test:81", "key": KEY}),
        ):
            document["clusters"][name] = {"endpoints": "192.0.2.1:80", "via": via, "warm_up": False}
        with Program(wan.client, None, document=document) as program, contextlib.ExitStack() as clients:
            wan.forget()
            for listener in ("plain", "fast", "socks", "tunnel"):
                sock = clients.enter_context(socket.create_connection(program.address(listener)))
                sock.sendall(GET)
            for name in ("one", "six", "many"):
                sock = clients.enter_context(socket.create_connection(program.address("direct")))
                sock.sendall(
                    b"\5\1\0\5\1\0\3" + bytes([len(name) + 5]) + name.encode() + b".test\0\x50" + GET
                )
            fetch(program.address("direct"), "four.test")
            for number in range(1, 9):
                line = program.session(number)
                if line["reason"] == "closed":
                    assert "tried" not in line, "there is no IPv6 source address"
    sent = wan.capture().way(Direction.UP).syns()
    counts = Counter((syn.packet.dst, syn.packet.dport) for syn in sent)
    assert max(counts.values()) == 4, counts
    for (name, _), addresses in records.items():
        to_them = {key: count for key, count in counts.items() if key[0] in addresses}
        assert sum(to_them.values()) <= 16, (name, to_them)
        if name == "six.test":
            assert len(to_them) == 6, "every address is tried"
    assert counts[records["one.test", "A"][0], 81] == 4, "a plain dial of its own is repeated by the kernel"


def test_addresses_that_come_later_join_the_race(wan: Wan) -> None:
    """The answer of one family at once, that of the other later; what came first is silent, or refuses."""
    if not wan.ipv6:
        pytest.skip("this kernel has no IPv6")
    four = wan.serve(answers(request=len(GET))).address[0]
    six = wan.serve(answers(request=len(GET)), version=6).address[0]
    records: dict[tuple[str, str], list[str]] = {}
    delays: dict[tuple[str, str], float] = {}
    listeners: dict[str, object] = {"direct": {"bind": "127.0.0.1:0", "mode": "socks"}}
    for kind, address in (("silent", wan.unrouted_address), ("refusing", wan.fresh_address)):
        for version, good, first, late in ((6, four, "AAAA", "A"), (4, six, "A", "AAAA")):
            for way in ("direct", "cluster"):
                name = f"{kind}{version}-{way}.test"
                records |= {(name, first): [address(version)], (name, late): [good]}
                delays[name, late] = 0.12
                if way == "cluster":
                    to = {"bind": "127.0.0.1:0", "mode": "forward", "to": f"{name}:80"}
                    listeners[f"{kind}{version}"] = to
    with names(records, delays) as resolver:
        document = {
            "listeners": listeners,
            "defaults": {"warm_up": False},
            "dns": {"servers": [resolver]},
        }
        with Program(wan.client, None, document=document) as program:
            for name, _ in delays:
                forward = name.partition("-")[0]
                listener = "direct" if name.endswith("direct.test") else forward
                assert fetch(program.address(listener), name if listener == "direct" else "") < 1.0, name
