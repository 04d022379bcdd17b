"""Look-ups without a cache: the C library in threads, and what is taken from an answer."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
import trio

from proxy.core.address import Endpoint
from proxy.net import names as module
from proxy.net.answers import MOST_ADDRESSES, Addresses, LookupFailed, of_both_families
from proxy.net.names import Names, _ranked
from tests.net.name_server import name_server


def ignore(_: Addresses) -> None:
    pass


async def test_the_c_library() -> None:
    found = await Names().addresses("localhost", ignore)
    assert "127.0.0.1" in found.hosts
    assert (found.ttl, found.complete) == (None, True)
    with pytest.raises(LookupFailed, match=r"nowhere\.invalid: "):
        await Names().addresses("nowhere.invalid", ignore)


async def test_dnspython_is_loaded_before_it_is_needed() -> None:
    names = Names((Endpoint("127.0.0.1", 9),))
    with trio.fail_after(30):
        while names._records is None:  # noqa: ASYNC110
            await trio.sleep(0.01)


@pytest.mark.parametrize(
    ("delays", "parts"),
    [
        ({}, []),
        ({True: 0.5}, [("192.0.2.1",)]),
        ({False: 0.5}, [("2001:db8::1",)]),
        ({True: 0.02}, []),
    ],
)
@pytest.mark.autojump
async def test_one_family_is_told_of_before_the_other(
    delays: dict[bool, float], parts: list[tuple[str, ...]]
) -> None:
    """IPv6 after some milliseconds, IPv4 after the Resolution Delay (RFC 8305 section 3)."""

    async def ask(is_ipv6: bool) -> Addresses:
        await trio.sleep(delays.get(is_ipv6, 0.0))
        return Addresses(("2001:db8::1",) if is_ipv6 else ("192.0.2.1",), 60.0 + is_ipv6)

    told: list[Addresses] = []
    whole = await of_both_families(ask, told.append)
    assert whole == (("2001:db8::1", "192.0.2.1"), 60.0, True)
    assert not any(part.complete for part in told)
    assert [part.hosts for part in told] == parts


@pytest.mark.parametrize(("lasting", "complete"), [(True, True), (False, False)])
async def test_a_family_that_failed_is_no_answer_of_it(lasting: bool, complete: bool) -> None:
    async def ask(is_ipv6: bool) -> Addresses:
        if is_ipv6:
            raise LookupFailed("no", lasting=lasting)
        return Addresses(("192.0.2.1",), 60.0)

    assert (await of_both_families(ask, ignore)).complete is complete


async def test_no_more_addresses_than_may_be_of_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer of 4,000 addresses would take 300 KB of memory, and a third of a second to be put in order."""
    many = [f"10.0.{n // 256}.{n % 256}" for n in range(4000)] + [f"2001:db8::{n:x}" for n in range(4000)]
    asked: list[str] = []
    monkeypatch.setattr(module, "_is_routed", lambda host: not asked.append(host))  # type: ignore[func-returns-value]
    ranked = _ranked(many)
    assert len(ranked) == len(asked) == MOST_ADDRESSES
    assert sum(":" in host for host in ranked) == MOST_ADDRESSES // 2, "neither family crowds out the other"
    assert len(_ranked(many[:4000])) == MOST_ADDRESSES
    async with name_server() as server:
        server.records["a.example", "A"] = many[:25]
        found = await Names((server.endpoint,)).addresses("a.example.", ignore)
        assert len(found.hosts) == 25
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (host, 0)) for host in many[:4000]]
    )
    assert len((await Names().addresses("a.example", ignore)).hosts) <= MOST_ADDRESSES


async def test_a_name_of_the_search_list_is_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for by family, it could be completed to two different names."""
    families: list[int] = []

    def getaddrinfo(name: str, port: None, family: int, kind: int) -> list[object]:
        families.append(family)
        return [(family, kind, 0, "", ("192.0.2.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    await Names().addresses("a.example", ignore)
    assert families == [socket.AF_UNSPEC]
    await Names().addresses("a.example.", ignore)
    assert set(families[1:]) == {socket.AF_INET, socket.AF_INET6}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 6.0),
        ("nameserver 192.0.2.1\n", 6.0),
        ("nameserver 192.0.2.1\nnameserver 192.0.2.2\n", 11.0),
        (
            "nameserver 192.0.2.1\n nameserver\t192.0.2.2\n#nameserver 192.0.2.3\noptions ndots:5 timeout:2\n",
            5.0,
        ),
        ("nameserver 192.0.2.1\n" * 9, 16.0),
        ("options timeout:0\n", 2.0),
        ("options timeout:999\n", 31.0),
    ],
)
def test_the_c_library_is_given_the_time_to_ask_each_server_once(
    tmp_path: Path, text: str, seconds: float
) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(text)
    assert Names(resolv_conf=str(path)).patience() == seconds
    assert Names(resolv_conf=str(tmp_path / "none")).patience() == 6.0


async def test_a_name_that_python_cannot_encode_is_no_name() -> None:
    with pytest.raises(LookupFailed):
        await Names().addresses("a" * 70 + ".example", ignore)


def test_a_look_up_that_is_stuck_does_not_keep_the_program_from_ending() -> None:
    go = threading.Event()

    async def main() -> None:
        names = Names()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", lambda *_, **__: go.wait(60) and [])
            trio.lowlevel.spawn_system_task(names.addresses, "a.example", ignore)
            await trio.sleep(0.05)

    trio.run(main)
    go.set()
