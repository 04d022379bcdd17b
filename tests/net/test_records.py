"""dnspython before a real DNS server on loopback; tests/net/test_resolve.py goes through it too."""

from __future__ import annotations

import itertools
import time
from functools import partial
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
import trio

from proxy.core.address import Endpoint
from proxy.net.answers import MOST_ADDRESSES, Addresses, LookupFailed, Server
from proxy.net.records import MOST_ANSWER, Records
from tests.net.name_server import name_server


def ignore(_: Addresses) -> None:
    pass


async def test_addresses_and_services_with_their_time_to_live() -> None:
    async with name_server() as server:
        server.ttl = 77
        server.records["a.example", "A"] = ["192.0.2.1"]
        server.records["_x._tcp.example", "SRV"] = ["1 2 3 a.example.", "0 0 0 ."]
        records = Records((server.endpoint,))
        assert await records.addresses("a.example", ignore) == (("192.0.2.1",), 77.0, True)
        assert await records.servers("_x._tcp.example") == ((Server(1, 2, "a.example.", 3),), 77.0, True)


async def test_what_does_not_exist_is_told_from_what_does_not_answer() -> None:
    async with name_server() as server:
        records = Records((server.endpoint,))
        with pytest.raises(LookupFailed) as missing:
            await records.addresses("a.example", ignore)
        assert missing.value.lasting
        server.rcode = dns.rcode.SERVFAIL
        with pytest.raises(LookupFailed) as failing:
            await records.addresses("b.example", ignore)
        assert not failing.value.lasting


@pytest.mark.parametrize("jump", [3600.0, -7200.0])
async def test_a_clock_that_is_set_ends_no_lookup(monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    """dnspython asks the clock on the wall how long it has waited."""
    real, asked = time.time, itertools.count()
    monkeypatch.setattr("time.time", lambda: real() + (jump if next(asked) else 0.0))
    async with name_server() as server:
        server.records["a.example", "A"] = ["192.0.2.1"]
        assert (await Records((server.endpoint,)).addresses("a.example", ignore)).hosts == ("192.0.2.1",)
    assert next(asked) > 1


async def test_without_a_server_there_is_no_answer(tmp_path: Path) -> None:
    for text in (None, "", "search example\n"):
        path = tmp_path / "resolv.conf"
        if text is not None:
            path.write_text(text)
        with pytest.raises(LookupFailed, match="names no server"):
            Records((), str(path))


async def test_the_next_server_is_asked_where_the_first_does_not_answer() -> None:
    async with name_server() as server:
        server.records["a.example", "A"] = ["192.0.2.1"]
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as silent:
            await silent.bind(("127.0.0.1", 0))
            records = Records((Endpoint(*silent.getsockname()), server.endpoint))
            assert (await records.addresses("a.example", ignore)).hosts == ("192.0.2.1",)


async def test_an_answer_above_the_limit_is_refused_before_it_is_read() -> None:
    """Datagrams say that they are cut off, so the question is asked again over TCP."""
    name = "a.example"
    sizes: list[int] = []

    async def datagrams(sock: trio.socket.SocketType) -> None:
        while True:
            wire, peer = await sock.recvfrom(4096)
            reply = dns.message.make_response(dns.message.from_wire(wire))
            reply.flags |= dns.flags.TC
            await sock.sendto(reply.to_wire(), peer)

    async def stream(count: int, client: trio.SocketStream) -> None:
        wire = b""
        while len(wire) < 2 or len(wire) < 2 + int.from_bytes(wire[:2], "big"):
            wire += await client.receive_some()
        query = dns.message.from_wire(wire[2:])
        reply = dns.message.make_response(query)
        if query.question[0].rdtype == dns.rdatatype.A:
            hosts = [f"192.0.{number // 250}.{number % 250 + 1}" for number in range(count)]
            reply.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", *hosts))
        data = reply.to_wire()
        sizes.append(len(data))
        await client.send_all(len(data).to_bytes(2, "big") + data)

    for count, fits in ((400, True), (600, False)):
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listener.socket.getsockname()[1]
            await sock.bind(("127.0.0.1", port))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(datagrams, sock)
                nursery.start_soon(trio.serve_listeners, partial(stream, count), [listener])
                records = Records((Endpoint("127.0.0.1", port),))
                if fits:
                    assert len((await records.addresses(name, ignore)).hosts) == MOST_ADDRESSES
                else:
                    with pytest.raises(LookupFailed):
                        await records.addresses(name, ignore)
                assert (max(sizes) <= MOST_ANSWER) == fits
                nursery.cancel_scope.cancel()
