"""Nine hundred ways to name a forbidden destination, in every protocol that lets clients name one: none gets through.

The listeners, the resolver, the routing and the dials are the real ones; only the DNS server is ours, and it lies. On
this machine a server waits on every address for somebody to get through, and every session's record must show that
nothing was dialled.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import dns.message
import pytest
import trio

from proxy.core.address import BadAddress, Endpoint
from proxy.core.clusters import Cluster
from proxy.core.destinations import OWN, Destinations, named
from proxy.core.networks import NAMED
from proxy.core.outcomes import Reason
from proxy.core.request import target_of
from proxy.core.routes import Routes
from proxy.core.snapshot import DIRECT, Bind, Connect, Dns, Listener, Mode, Snapshot
from tests.core import hellos
from tests.net.name_server import NameServer, name_server
from tests.serving import Serving, serving

CORPUS: list[str] = [
    json.loads(line)
    for line in Path(__file__).with_name("forbidden_destinations.txt").read_text().splitlines()
    if not line.startswith("#")
]
LIES = {
    "a": ["A 127.0.0.1"],
    "aaaa": ["AAAA ::1"],
    "mapped": ["AAAA ::ffff:127.0.0.1"],
    "nat64": ["AAAA 64:ff9b::7f00:1"],
    "local64": ["AAAA 64:ff9b:1:7f00:0:100::"],
    "sixtofour": ["AAAA 2002:7f00:1::1"],
    "teredo": ["AAAA 2001:0:7f00:1::"],
    "isatap": ["AAAA 2001:db8::5efe:7f00:1"],
    "compat": ["AAAA ::127.0.0.1"],
    "zero": ["A 0.0.0.0"],
    "zero6": ["AAAA ::"],
    "metadata": ["A 169.254.169.254"],
    "metadata6": ["AAAA fd00:ec2::254"],
    "ecs": ["A 169.254.170.2"],
    "linklocal": ["A 169.254.1.1"],
    "linklocal6": ["AAAA fe80::1"],
    "multicast": ["A 224.0.0.251"],
    "multicast6": ["AAAA ff02::fb"],
    "broadcast": ["A 255.255.255.255"],
    "alibaba": ["A 100.100.100.200"],
    "azure": ["A 168.63.129.16"],
    "oracle": ["A 192.0.0.192"],
    "both": ["A 127.0.0.1", "A 169.254.169.254", "AAAA ::1"],
    "alias": ["CNAME a.rebind.test"],
    "deep.alias": ["CNAME alias.rebind.test"],
    "anything.wild": ["A 127.0.0.1"],
    "127.0.0.1.nip": ["A 127.0.0.1"],
    "169-254-169-254.sslip": ["A 169.254.169.254"],
    "xn--a": ["A 127.0.0.1"],
    "a_b": ["A 127.0.0.1"],
}
MODES = {"socks": Mode.SOCKS, "http": Mode.HTTP, "sni": Mode.SNI, "mixed": Mode.MIXED}
NOT_SERVED = {
    Reason.DENIED, Reason.BAD_REQUEST, Reason.NO_SUCH_HOST, Reason.LOOP, Reason.NO_REQUEST, Reason.HANDSHAKE_TIMEOUT,
    Reason.RESET,
}  # fmt: skip
AT_A_TIME = 16

Way: TypeAlias = Callable[[str, int], bytes | None]


# --- what each protocol says to be sent to `host`


def socks5_name(host: str, port: int) -> bytes | None:
    name = host.encode()
    return (
        b"\x05\x01\0\x05\x01\0\x03" + hellos.vector(1, name) + port.to_bytes(2, "big")
        if len(name) < 256
        else None
    )


def socks5_number(host: str, port: int) -> bytes | None:
    try:
        packed = ipaddress.ip_address(host.partition("%")[0]).packed
    except ValueError:
        return None
    kind = b"\x01" if len(packed) == 4 else b"\x04"
    return b"\x05\x01\0\x05\x01\0" + kind + packed + port.to_bytes(2, "big")


def socks4_number(host: str, port: int) -> bytes | None:
    try:
        return b"\x04\x01" + port.to_bytes(2, "big") + ipaddress.IPv4Address(host).packed + b"me\0"
    except ValueError:
        return None


def socks4_name(host: str, port: int) -> bytes:
    return b"\x04\x01" + port.to_bytes(2, "big") + b"\0\0\0\x01me\0" + host.encode() + b"\0"


def authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def connect(host: str, port: int) -> bytes:
    there = authority(host, port)
    return f"CONNECT {there} HTTP/1.1\r\nHost: {there}\r\n\r\n".encode()


def forward(host: str, port: int) -> bytes:
    there = authority(host, port)
    return f"GET http://{there}/secret HTTP/1.1\r\nHost: {there}\r\n\r\n".encode()


def forward_with_user(host: str, port: int) -> bytes:
    return f"GET http://example.com@{authority(host, port)}/ HTTP/1.1\r\nHost: example.com\r\n\r\n".encode()


def forward_with_other_host(host: str, port: int) -> bytes:
    """The URL counts, not the header (RFC 9112, 3.2.2)."""
    return f"GET http://{authority(host, port)}/ HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n".encode()


def hello(host: str, port: int) -> bytes:
    return hellos.record(hellos.message(hellos.server_name(host.encode())))


WAYS: list[tuple[str, Way]] = [
    ("socks", socks5_name), ("socks", socks5_number), ("socks", socks4_number), ("socks", socks4_name),
    ("http", connect), ("http", forward), ("mixed", forward_with_user), ("mixed", forward_with_other_host),
    ("sni", hello),
]  # fmt: skip


# --- the proxy, and what it must not reach


class Secret:
    """A server on every address of this machine; ``reached`` counts those who got through."""

    def __init__(self) -> None:
        self.reached = 0
        self.port = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        self.reached += 1
        with suppress(trio.BrokenResourceError):
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nSECRET")
        await stream.aclose()


@asynccontextmanager
async def secret() -> AsyncIterator[Secret]:
    server = Secret()
    with trio.socket.socket(socket.AF_INET6) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        await sock.bind(("::", 0))
        sock.listen(100)
        server.port = sock.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, server.serve, [trio.SocketListener(sock)])
            yield server
            nursery.cancel_scope.cancel()


def lie(server: NameServer) -> None:
    for name, records in LIES.items():
        for record in records:
            kind, _, data = record.partition(" ")
            server.records.setdefault((f"{name}.rebind.test", kind), []).append(data)
    for name in ("metadata.google.internal", "metadata", "instance-data.ec2.internal"):
        server.records[name, "A"] = ["169.254.169.254"]


@asynccontextmanager
async def proxy(names: NameServer, destinations: Destinations | None = None) -> AsyncIterator[Serving]:
    direct = Cluster("direct", (), connect=Connect(timeout=3.0, retries=0), warm_up=False)
    listeners = tuple(
        Listener("a" if name == "socks" else name, (Bind("127.0.0.1", 0),), mode, DIRECT)
        for name, mode in MODES.items()
    )
    snapshot = Snapshot(
        listeners, {}, Routes((), direct), destinations or Destinations(), Dns(servers=(names.endpoint,))
    )
    async with serving(snapshot) as here:
        yield here


async def ask(here: Serving, listener: str, request: bytes) -> bytes:
    """All that comes back."""
    reply = b""
    stream = await here.connect("a" if listener == "socks" else listener)
    async with stream:
        with trio.fail_after(20), suppress(trio.BrokenResourceError):
            await stream.send_all(request)
            await stream.send_eof()
            while data := await stream.receive_some():
                reply += data
    return reply


def test_the_corpus_is_large_and_says_nothing_twice() -> None:
    assert len(CORPUS) >= 500
    assert len(set(CORPUS)) == len(CORPUS)


@pytest.mark.parametrize(("listener", "way"), WAYS, ids=[way.__name__ for _, way in WAYS])
async def test_none_gets_through(listener: str, way: Way) -> None:
    async with name_server() as names, secret() as server, proxy(names) as here:
        lie(names)
        requests = [(host, request) for host in CORPUS if (request := way(host, server.port)) is not None]
        assert len(requests) > 10
        todo: Iterator[tuple[str, bytes]] = iter(requests)
        through: list[str] = []

        async def client() -> None:
            for host, request in todo:
                reply = await ask(here, listener, request)
                if b"SECRET" in reply or b" 200 " in reply or reply[-10:-8] == b"\x05\0":
                    through.append(host)

        async with trio.open_nursery() as nursery:
            for _ in range(AT_A_TIME):
                nursery.start_soon(client)
        with trio.fail_after(60):
            while len(here.events.records) < len(requests):  # noqa: ASYNC110
                await trio.sleep(0.01)
        dialled = [
            (str(one.authority), str(one.endpoint))
            for one in here.events.records
            if one.endpoint or one.tried
        ]
        reasons = Counter(one.reason for one in here.events.records)
        assert (through, dialled, server.reached) == ([], [], 0)
        assert set(reasons) <= NOT_SERVED, reasons
        if way not in {hello, forward_with_user}:
            assert reasons[Reason.DENIED] > 10, reasons


def is_read_as_an_address(name: str) -> bool:
    """Whether the C library would do so."""
    with suppress(OSError):
        socket.inet_aton(name)
        return True
    with suppress(OSError):
        socket.getaddrinfo(name, 80, flags=socket.AI_NUMERICHOST)
        return True
    return False


def test_whatever_can_be_read_as_an_address_is_refused_as_one() -> None:
    """The same corpus, whatever would come of DNS."""
    guarded, numeric = Destinations(), 0
    for host in CORPUS:
        try:
            target = target_of(host, 80)
        except BadAddress:
            continue
        if isinstance(target, Endpoint):
            numeric += 1
            assert guarded.refusal(target) is not None, host
        else:
            assert not is_read_as_an_address(target.host), host
    assert numeric > 200


@pytest.mark.parametrize(
    ("listener", "way"), [("socks", socks5_name), ("socks", socks4_name), ("http", forward)]
)
async def test_the_same_gets_through_where_nothing_is_denied(listener: str, way: Way) -> None:
    """So it was the rules that kept them out, and neither the test nor chance."""
    async with name_server() as names, secret() as server, proxy(names, Destinations(())) as here:
        lie(names)
        hosts = ["127.0.0.1", "localhost", "a.rebind.test"]
        for number, host in enumerate(hosts, 1):
            assert b"SECRET" in await ask(here, listener, way(host, server.port) or b""), host
            assert server.reached == number


async def test_a_name_with_good_and_bad_addresses_goes_to_the_good_ones_only() -> None:
    async with (
        name_server() as names,
        secret() as server,
        proxy(names, Destinations(named("link_local"))) as here,
    ):
        names.records["mixed.rebind.test", "A"] = ["169.254.169.254", "127.0.0.1", "169.254.170.2"]
        assert b"SECRET" in await ask(here, "http", forward("mixed.rebind.test", server.port))
        record = await here.events.record()
        assert (str(record.endpoint), record.tried) == (f"127.0.0.1:{server.port}", 1)


async def test_a_name_that_answers_otherwise_each_time_is_judged_by_what_is_dialled() -> None:
    """DNS rebinding: what is checked and what is dialled come from the same answer."""

    class Rebinding(NameServer):
        turn = 0

        def answer(self, query: dns.message.Message) -> dns.message.Message:
            self.turn += 1
            self.ttl = 0
            self.records["turns.test", "A"] = ["192.0.2.1" if self.turn % 2 else "127.0.0.1"]
            return super().answer(query)

    async with name_server() as plain, secret() as server:
        plain.__class__ = Rebinding
        async with proxy(plain) as here:
            for number in range(1, 7):
                await ask(here, "http", connect("turns.test", server.port))
                record = await here.events.record(number)
                assert record.endpoint is None or record.endpoint.host == "192.0.2.1"
                await trio.sleep(0.25)
            assert server.reached == 0


async def test_our_own_listeners_are_no_destination_even_where_loopback_is_allowed() -> None:
    async with name_server() as names, proxy(names, Destinations(())) as here:
        lie(names)
        number = 0
        for listener in ("a", "http", "sni", "mixed"):
            port = here.sockets[listener][0].getsockname()[1]
            for host in ("127.0.0.1", "::ffff:127.0.0.1", "a.rebind.test", "localhost", "64:ff9b::7f00:1"):
                number += 1
                assert b" 508 " in await ask(here, "http", connect(host, port)), host
                record = await here.events.record(number)
                assert (record.reason, record.tried) == (Reason.LOOP, 0)


def test_by_default_all_these_are_denied() -> None:
    denied = {name for ban in Destinations().deny for name in [ban.name]}
    assert denied >= {"loopback", "link_local", "unspecified", "multicast", "metadata"}
    assert set(denied) - {OWN} <= set(NAMED)
