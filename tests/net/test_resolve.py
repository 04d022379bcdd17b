"""The cache of names: before a real DNS server on loopback, and before this machine's own resolver."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dns.rcode
import pytest
import trio

from proxy.core.address import Authority, Endpoint
from proxy.core.snapshot import Dns, Family
from proxy.net import resolve
from proxy.net.names import Names
from proxy.net.resolve import NoSuchHost, Resolver
from tests.net.name_server import NameServer, name_server

API = Authority("api.example", 80)
A, B = Endpoint("192.0.2.1", 80), Endpoint("192.0.2.2", 80)


def resolver_of(server: NameServer, **said: object) -> Resolver:
    return Resolver(Dns(servers=(server.endpoint,), **said))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is an answer, however late this machine lets it come."""
    monkeypatch.setattr("proxy.net.records._LEAST", 60.0)
    monkeypatch.setattr("proxy.net.answers._RESOLUTION_DELAY", 60.0)
    monkeypatch.setattr(Names, "patience", lambda _: 60.0)


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let the cache's clock run ahead of trio's."""
    ahead, now = [0.0], trio.current_time

    class Ahead:
        current_time = staticmethod(lambda: now() + ahead[0])

        def __getattr__(self, name: str) -> object:
            return getattr(trio, name)

    monkeypatch.setattr(resolve, "trio", Ahead())
    return lambda seconds: ahead.__setitem__(0, ahead[0] + seconds)


async def test_localhost_is_really_found() -> None:
    found = await Resolver().lookup(Authority("localhost", 80))
    assert Endpoint("127.0.0.1", 80) in found
    assert len(found) == len(set(found))


async def test_both_families_are_asked_for_at_once() -> None:
    async with name_server() as server:
        server.records["api.example", "A"] = ["192.0.2.1", "192.0.2.2"]
        server.records["api.example", "AAAA"] = ["2001:db8::1"]
        server.may_answer = lambda: {kind for _, kind in server.asked} == {"A", "AAAA"}
        found = await resolver_of(server).lookup(API)
        assert set(found) == {A, B, Endpoint("2001:db8::1", 80)}


async def test_the_slower_family_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.net.answers._RESOLUTION_DELAY", 0.05)
    async with name_server() as server:
        server.records["api.example", "A"] = ["192.0.2.1"]
        server.records["api.example", "AAAA"] = ["2001:db8::1"]
        server.delays = {"AAAA": 300.0}
        with trio.fail_after(30):
            assert await resolver_of(server).lookup(API) == [A]


@pytest.mark.parametrize(
    ("family", "expected"), [(Family.IPV4, A), (Family.IPV6, Endpoint("2001:db8::1", 80))]
)
async def test_one_family_alone(family: Family, expected: Endpoint) -> None:
    async with name_server() as server:
        server.records["api.example", "A"] = ["192.0.2.1"]
        server.records["api.example", "AAAA"] = ["2001:db8::1"]
        assert await resolver_of(server, family=family).lookup(API) == [expected]


async def test_a_name_that_does_not_exist_is_named() -> None:
    async with name_server() as server:
        with pytest.raises(NoSuchHost, match=r"api\.example: there is no"):
            await resolver_of(server).lookup(API)


async def test_many_who_ask_at_once_share_one_question() -> None:
    async with name_server() as server:
        server.records["api.example", "A"] = ["192.0.2.1"]
        server.delays = {"A": 0.05}
        resolver, found = resolver_of(server), list[list[Endpoint]]()

        async def ask() -> None:
            found.append(await resolver.lookup(API))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)
        assert found == [[A]] * 20
        assert server.asked["api.example", "A"] == 1


async def test_who_asks_and_is_cancelled_does_not_leave_the_others_waiting() -> None:
    async with name_server() as server:
        server.records["api.example", "A"] = ["192.0.2.1"]
        cancelled = trio.Event()
        server.may_answer = cancelled.is_set
        resolver, found = resolver_of(server), list[list[Endpoint]]()
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                first = trio.CancelScope()

                async def ask(scope: trio.CancelScope) -> None:
                    with scope:
                        found.append(await resolver.lookup(API))

                nursery.start_soon(ask, first)
                await trio.sleep(0.02)
                nursery.start_soon(ask, trio.CancelScope())
                await trio.sleep(0.02)
                first.cancel()
                cancelled.set()
        assert found == [[A]]


async def test_answers_are_kept_for_their_time_to_live_and_failures_for_less(
    pass_time: Callable[[float], None],
) -> None:
    async with name_server() as server:
        server.ttl = 600
        resolver, missing = resolver_of(server, negative_ttl=60.0), Authority("missing.example", 80)
        server.records["api.example", "A"] = ["192.0.2.1"]
        for _ in range(3):
            assert await resolver.lookup(API) == [A]
            with pytest.raises(NoSuchHost):
                await resolver.lookup(missing)
        assert (server.asked["api.example", "A"], server.asked["missing.example", "A"]) == (1, 1)
        assert trio.current_time() + 500 < (await resolver.find(API)).until <= trio.current_time() + 600
        pass_time(60.1)
        server.records["missing.example", "A"] = ["192.0.2.2"]
        assert await resolver.lookup(missing) == [B]
        server.records["api.example", "A"] = ["192.0.2.2"]
        assert await resolver.lookup(API) == [A]
        pass_time(600)
        assert await resolver.lookup(API) == [B]


async def test_an_old_answer_is_used_while_there_is_no_new_one(pass_time: Callable[[float], None]) -> None:
    async with name_server() as server:
        server.ttl = 10
        resolver = resolver_of(server, stale=100.0)
        server.records["api.example", "A"] = ["192.0.2.1"]
        assert await resolver.lookup(API) == [A]
        pass_time(11)
        server.rcode = dns.rcode.SERVFAIL
        assert await resolver.lookup(API) == [A]
        pass_time(200)
        with pytest.raises(NoSuchHost):
            await resolver.lookup(API)


async def test_an_old_answer_is_used_while_the_new_one_is_slow(pass_time: Callable[[float], None]) -> None:
    async with name_server() as server:
        server.ttl = 10
        resolver = resolver_of(server)
        server.records["api.example", "A"] = ["192.0.2.1"]
        assert await resolver.lookup(API) == [A]
        pass_time(11)
        server.delays = {"A": 300.0, "AAAA": 300.0}
        with trio.fail_after(30):
            assert await resolver.lookup(API) == [A]


async def test_a_name_that_is_gone_is_gone(pass_time: Callable[[float], None]) -> None:
    async with name_server() as server:
        server.ttl = 10
        resolver = resolver_of(server)
        server.records["api.example", "A"] = ["192.0.2.1"]
        await resolver.lookup(API)
        del server.records["api.example", "A"]
        pass_time(11)
        with pytest.raises(NoSuchHost):
            await resolver.lookup(API)


async def test_the_servers_of_a_service() -> None:
    async with name_server() as server:
        name = "_https._tcp.example"
        server.records[name, "SRV"] = [
            "10 3 443 a.example.",
            "10 0 444 b.example.",
            "20 9 443 spare.example.",
        ]
        service = await resolver_of(server).service(name)
        assert sorted(service.servers) == [
            (Authority("a.example.", 443), 3),
            (Authority("b.example.", 444), 1),
        ]
        with pytest.raises(NoSuchHost, match="there is no SRV record"):
            await resolver_of(server).service("_none._tcp.example")


async def test_etc_hosts_comes_first(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.2  API.example alias # not 192.0.2.9\nbroken line\n::1\n")
    async with name_server() as server:
        server.records["api.example", "A"] = ["192.0.2.1"]
        names = Names((server.endpoint,), str(hosts))
        assert await Resolver(names=names).lookup(API) == [B]
        hosts.write_text("")
        assert await Resolver(names=names).lookup(API) == [A]


async def test_it_remembers_a_bounded_number_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "_MOST_NAMES", 3)
    async with name_server() as server:
        resolver = resolver_of(server)
        for number in range(10):
            server.records[f"{number}.example", "A"] = ["192.0.2.1"]
            await resolver.lookup(Authority(f"{number}.example", 80))
        assert len(resolver._addresses) <= 3


async def test_there_is_a_bound_to_the_names_that_are_asked_for_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resolve, "_MOST_OPEN", 5)
    async with name_server() as server:
        server.delays = {"A": 0.3, "AAAA": 0.3}
        for number in range(8):
            server.records[f"{number}.example", "A"] = ["192.0.2.1"]
        resolver = resolver_of(server)
        found: list[bool] = []

        async def ask(number: int) -> None:
            try:
                found.append(bool(await resolver.lookup(Authority(f"{number}.example", 80))))
            except NoSuchHost as problem:
                assert "too many names are being looked up just now" in str(problem)  # noqa: PT017
                found.append(False)

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(ask, number)
        assert sorted(found) == [False] * 3 + [True] * 5
        assert await resolver.lookup(Authority("7.example", 80)), "it was not remembered as missing"
        assert not +resolver._open


async def test_what_is_known_is_said_at_once(pass_time: Callable[[float], None]) -> None:
    async with name_server() as server:
        server.records["api.example", "A"] = ["192.0.2.1"]
        resolver = resolver_of(server)
        assert not resolver.lookup_now(API), "nobody was asked"
        await resolver.lookup(API)
        asked = len(server.asked)
        assert resolver.lookup_now(API) == [A]
        assert not resolver.lookup_now(Authority("other.example", 80))
        pass_time(7200.0)
        assert not resolver.lookup_now(API), "it is good no more"
        assert len(server.asked) == asked
