"""What is fuzzed of our own conversations: with name servers, and with whoever asks the admin."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from contextlib import suppress

import dns.exception
import dns.message
import dns.nameserver
import trio
import trio.testing

from proxy.admin.exchange import Exchange
from proxy.admin.portrait import Portrait
from proxy.admin.site import Site, problem
from proxy.commands import remote
from proxy.core.address import Endpoint
from proxy.core.snapshot import Admin, Bind
from proxy.net import names
from proxy.net.answers import Addresses, LookupFailed
from proxy.net.records import Records
from proxy.top import seen
from tests.admin.house import TOKEN, SmallHouse
from tests.fuzz.mutation import Fuzzed, without_data
from tests.top import sample

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


# --- names


class _NameServer(dns.nameserver.Nameserver):
    """Answers whatever it is asked with ``data``, which stands for all but the number and the question."""

    def __init__(self, data: bytes) -> None:
        self._data = data.ljust(10, b"\0")

    def __str__(self) -> str:
        return "192.0.2.53"

    def kind(self) -> str:
        return "Do53"

    def is_always_max_size(self) -> bool:
        return True

    def answer_nameserver(self) -> str:
        return "192.0.2.53"

    def answer_port(self) -> int:
        return 53

    async def async_query(
        self, request: dns.message.QueryMessage, *_: object, **__: object
    ) -> dns.message.Message:
        asked = request.to_wire()
        wire = asked[:2] + self._data[:10] + asked[12:] + self._data[10:]
        with suppress(Exception):  # dnspython's own: what it cannot read is no answer
            reply = dns.message.from_wire(wire)
            if request.is_response(reply):
                return reply
        raise dns.exception.FormError


def resolved(kind: str) -> Callable[[bytes], str]:
    async def resolve(data: bytes) -> str:
        records = Records((Endpoint("192.0.2.53", 53),))
        records._resolver.nameservers = [_NameServer(data)]
        try:
            if kind == "SRV":
                servers = await records.servers("_a._tcp.example.com")
                assert all(server.host for server in servers.servers)
                return f"{len(servers.servers) > 0} {servers.ttl is None}"
            found = await records.addresses("a.example.com", lambda _: None)
        except LookupFailed as failed:
            return f"{failed.lasting} {without_data(str(failed))}"
        assert isinstance(found, Addresses)
        assert all(ipaddress.ip_address(host) for host in found.hosts)
        assert found.ttl is None or found.ttl >= 0
        return f"{len(found.hosts)}"

    def target(data: bytes) -> str:
        return trio.run(resolve, data, clock=trio.testing.MockClock(autojump_threshold=0))

    return target


def _dns(*counts: int, flags: int = 0x8180, body: bytes = b"") -> bytes:
    return b"".join(number.to_bytes(2, "big") for number in (flags, 1, *counts)) + body


def _row(kind: int, data: bytes, owner: bytes = b"\xc0\x0c") -> bytes:
    return owner + kind.to_bytes(2, "big") + b"\0\1\0\0\0\x3c" + len(data).to_bytes(2, "big") + data


def hosts(data: bytes) -> str:
    found = names._parse_hosts(data.decode("utf-8", "replace"))
    for name, addresses in found.items():
        assert name == name.lower()
        assert all(str(ipaddress.ip_address(one)) == one for one in addresses)
    return f"{len(found)}"


# --- the admin, and who reads what it says


class _Caller:
    """As much of a socket's stream as an `Exchange` uses; ``data`` comes in pieces of ``step`` bytes."""

    def __init__(self, data: bytes, step: int) -> None:
        self._pieces = [data[at : at + step] for at in range(0, len(data), step)]
        self.heard = b""
        self.socket = self
        self.patience = trio.CancelScope()

    async def receive_some(self, most: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return self._pieces.pop(0) if self._pieces else b""

    async def send_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.heard += data
        if b"text/event-stream" in data:
            self.patience.cancel()  # that would have no end

    def shutdown(self, how: int) -> None:
        assert how == socket.SHUT_WR


def admin(data: bytes) -> str:
    async def ask(step: int) -> bytes:
        house = SmallHouse()
        served = Admin((Bind("127.0.0.1", 0),), TOKEN)
        site = Site(house, lambda: served, Portrait(house, lambda: 1e9))
        caller = _Caller(data, step)
        with caller.patience:
            await Exchange(caller, "127.0.0.1", problem).serve(site.respond)  # type: ignore[arg-type]
        if house.reloaded or house.state == "draining" or house.log_level != "info":
            assert TOKEN.encode() in data, "an order without the token"
        return caller.heard

    said = [STATUS.findall(trio.run(ask, step)) for step in (len(data) or 1, 61)]
    assert said[0] == said[1], said
    return b" ".join(said[0][:3]).decode()


def top(data: bytes) -> str:
    shapes: list[str] = []
    for name, body in sample.bodies().items():
        try:
            seen.read(sample.bodies() | {name: data})
            shapes.append(f"{name} {body == data}")
        except seen.Unreadable as refusal:
            shapes.append(without_data(str(refusal)))
    with suppress(seen.Unreadable):
        seen.as_json({"status": data}, indent=True)
    return " ".join(sorted(shapes)[-1:])


def complaint(data: bytes) -> str:
    told = remote._told(data)
    assert all(c == "\n" or c.isprintable() for c in told)
    return f"{len(told) > 0} {data[:1] == b'{'}"


_HOST = b"Host: localhost\r\n"
_TOKEN = b"Authorization: Bearer " + TOKEN.encode() + b"\r\n"

ANSWERS: dict[str, Fuzzed] = {
    "dns_addresses": Fuzzed(
        resolved("A"),
        (
            _dns(1, 0, 0, body=_row(1, b"\xc0\0\2\1")),
            _dns(1, 0, 0, body=_row(28, b"\x20\1\x0d\xb8" + bytes(12))),
            _dns(2, 0, 0, body=_row(5, b"\1b\xc0\x0e") + _row(1, b"\xc0\0\2\1", b"\1b\xc0\x0e")),
            _dns(0, 1, 0, flags=0x8183, body=_row(6, b"\0\0" + bytes(20))),
        ),
        (b"\xc0\x0c", b"\0\1\0\1", b"\0\x1c\0\1", b"\0\5\0\1", b"\0\x29", b"\x83\x80"),
    ),
    "dns_servers": Fuzzed(
        resolved("SRV"),
        (
            _dns(1, 0, 0, body=_row(33, b"\0\1\0\2\1\xbb\1b\7example\3com\0")),
            _dns(1, 0, 0, body=_row(33, b"\0" * 7)),
        ),
        (b"\xc0\x0c", b"\0\x21\0\1", b"\xc0\x2a"),
    ),
    "hosts": Fuzzed(hosts, (b"127.0.0.1 localhost a # b\n::1\tip6 A.B.\nfe80::1%lo x\n",), (b"#", b"\xe2\x80\xa8")),
    "admin": Fuzzed(
        admin,
        (
            b"GET /api/v1/sessions?limit=3 HTTP/1.1\r\n" + _HOST + b"Sec-Fetch-Site: none\r\n\r\n",
            b"GET /metrics HTTP/1.1\r\n" + _HOST + b"Accept: application/openmetrics-text\r\n\r\n",
            b"HEAD / HTTP/1.1\r\n" + _HOST + b"\r\nGET /api/v1/events HTTP/1.1\r\n" + _HOST + b"\r\n",
            b"POST /api/v1/loglevel HTTP/1.1\r\n" + _HOST + _TOKEN + b'Content-Length: 17\r\n\r\n{"level":"debug"}',
            b"POST /api/v1/drain HTTP/1.1\r\n" + _HOST + _TOKEN + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            _TOKEN, _HOST, b"/livez", b"/api/v1/", b"status", b"config", b"clusters", b"reload", b"?limit=", b"%0a",
            b"Origin: http://localhost\r\n", b"Expect: 100-continue\r\n", b"HTTP/1.0", b"[::1]:80", b"\r\n\r\n",
        ),
    ),
    "top": Fuzzed(top, tuple(sample.bodies().values()), (b"null", b"1e999", b'"', b"{}", b"[]")),
    "complaint": Fuzzed(complaint, (b'{"error": "no such thing"}', b"<html>", b"\x1b[2J"), (b'{"error":', b"\\u001b")),
}  # fmt: skip
