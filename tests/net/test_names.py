from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
import trio
import trio.testing

from proxy.net import names as module
from proxy.net.answers import LookupFailed
from proxy.net.names import Names, has_dnspython


@pytest.fixture
def without_dnspython(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_dnspython", lambda: False)


async def test_the_c_library(without_dnspython: None) -> None:
    found = await Names().addresses("localhost")
    assert "127.0.0.1" in found.hosts
    assert found.ttl is None
    with pytest.raises(LookupFailed, match=r"nowhere\.invalid: "):
        await Names().addresses("nowhere.invalid")


async def test_a_service_needs_the_extra(without_dnspython: None) -> None:
    with pytest.raises(LookupFailed, match=r"install tfo-proxy\[dns\]"):
        await Names().servers("_https._tcp.example.com")


async def test_the_extra_is_here() -> None:
    assert has_dnspython()


async def test_one_slow_zone_does_not_take_all_threads(
    without_dnspython: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The C library's resolver, with a zone whose servers do not answer in front of it."""
    real, go = socket.getaddrinfo, threading.Event()

    def slow_zone(host: str, *rest: Any, **more: Any) -> object:
        if host.endswith("slow.example"):
            go.wait(90)
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow_zone)
    monkeypatch.setattr(module, "LOOKUP_TIMEOUT", 60.0)
    names = Names()
    async with trio.open_nursery() as nursery:

        async def fail(number: int) -> None:
            with pytest.raises(LookupFailed):
                await names.addresses(f"{number}.slow.example")

        for number in range(100):
            nursery.start_soon(fail, number)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert names._strangers.borrowed_tokens <= 4
        with trio.fail_after(30):
            assert (await names.addresses("localhost")).hosts
        go.set()


async def test_a_look_up_ends(without_dnspython: None, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr(module, "LOOKUP_TIMEOUT", 0.5)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: go.wait(90))
    with pytest.raises(LookupFailed, match="no answer within"):
        await Names().addresses("x.example")
    go.set()


async def test_slow_strangers_do_not_keep_zones_waiting_that_have_answered(
    without_dnspython: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever names a new slow zone each time may use up the strangers' threads, and no others."""
    real, go = socket.getaddrinfo, threading.Event()

    def slow_strangers(host: str, *rest: Any, **more: Any) -> object:
        if host != "localhost":
            go.wait(90)
            raise socket.gaierror(socket.EAI_AGAIN, "try again")
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow_strangers)
    monkeypatch.setattr(module, "LOOKUP_TIMEOUT", 2.0)
    names, failures = Names(), list[str]()
    assert (await names.addresses("localhost")).hosts
    async with trio.open_nursery() as nursery:

        async def fail(number: int) -> None:
            with pytest.raises(LookupFailed) as caught:
                await names.addresses(f"www.zone{number}.example{number}")
            failures.append(str(caught.value))

        for number in range(60):
            nursery.start_soon(fail, number)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert (await names.addresses("localhost")).hosts
        assert not failures, "it was answered while they still waited"
    assert sum("no answer within" in failure for failure in failures) == 24
    assert sum("too many others are slow" in failure for failure in failures) == 36
    assert names._strangers.borrowed_tokens == 24, "their threads are still busy"
    go.set()
    with trio.fail_after(30):
        while names._strangers.borrowed_tokens:  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert all(not zone.limiter.borrowed_tokens for zone in names._zones.values())


async def test_a_look_up_that_nobody_waits_for_keeps_its_place_in_the_zone(
    without_dnspython: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    monkeypatch.setattr(module, "LOOKUP_TIMEOUT", 0.4)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: go.wait(90) and [])
    names = Names()
    for number in range(6):
        with pytest.raises(LookupFailed):
            await names.addresses(f"{number}.slow.example")
    (zone,) = names._zones.values()
    assert zone.limiter.borrowed_tokens == names._strangers.borrowed_tokens == 4
    go.set()
    with trio.fail_after(30):
        while zone.limiter.borrowed_tokens:  # noqa: ASYNC110
            await trio.sleep(0.01)
