"""dnspython before a real DNS server on loopback; tests/net/test_resolve.py goes through it too."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import dns.rcode
import pytest
import trio

from proxy.core.address import Endpoint
from proxy.net.answers import Addresses, LookupFailed, Server
from proxy.net.records import Records
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
