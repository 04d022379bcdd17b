from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest
import trio

from proxy.core.address import Authority, Endpoint
from proxy.core.snapshot import Cluster
from proxy.net import resolve
from proxy.net.resolve import NEGATIVE_TTL, TTL, NoSuchHost, Resolver

A, B, C = (Endpoint(f"192.0.2.{n}", 80) for n in (1, 2, 3))


class Names:
    """What the C library would say; counts how often it is asked."""

    def __init__(self) -> None:
        self.known: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.answer = threading.Event()
        self.answer.set()

    def __call__(self, host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        self.asked.append(host)
        self.answer.wait(5)
        if host not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, 0, 0, "", (address, port)) for address in self.known[host]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names)
    return names


async def test_numbers_need_no_resolver(names: Names) -> None:
    assert list(await Resolver().candidates(Cluster("c", (A,)))) == [A]
    assert not names.asked


async def test_each_session_begins_with_the_next_one(names: Names) -> None:
    resolver, cluster = Resolver(), Cluster("c", (A, B, C))
    turns = [list(await resolver.candidates(cluster)) for _ in range(4)]
    assert turns == [[A, B, C], [B, C, A], [C, A, B], [A, B, C]]
    assert next(iter(await resolver.candidates(Cluster("other", (A, B))))) == A, (
        "each cluster has its own turn"
    )


async def test_localhost_is_really_found() -> None:
    found = await Resolver().lookup(Authority("localhost", 80))
    assert Endpoint("127.0.0.1", 80) in found
    assert len(found) == len(set(found))


async def test_a_name_that_does_not_exist_is_named() -> None:
    with pytest.raises(NoSuchHost, match=r"does-not-exist\.invalid: "):
        await Resolver().candidates(Cluster("c", (Authority("does-not-exist.invalid", 80),)))


async def test_one_missing_name_does_not_spoil_the_others(names: Names) -> None:
    cluster = Cluster("c", (Authority("missing.example", 80), B))
    assert list(await Resolver().candidates(cluster)) == [B]


async def test_all_addresses_of_a_name_are_candidates_each_once(names: Names) -> None:
    names.known["api.example"] = ["192.0.2.1", "192.0.2.2", "192.0.2.1"]
    assert await Resolver().lookup(Authority("api.example", 80)) == [A, B]


async def test_many_who_ask_at_once_share_one_question(names: Names) -> None:
    names.known["api.example"] = ["192.0.2.1"]
    names.answer.clear()
    resolver = Resolver()
    found: list[list[Endpoint]] = []

    async def ask() -> None:
        found.append(await resolver.lookup(Authority("api.example", 80)))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
        await trio.sleep(0.02)
        names.answer.set()
    assert found == [[A]] * 20
    assert names.asked == ["api.example"]


async def test_who_asks_and_is_cancelled_does_not_leave_the_others_waiting(names: Names) -> None:
    names.known["api.example"] = ["192.0.2.1"]
    names.answer.clear()
    resolver = Resolver()
    found: list[list[Endpoint]] = []

    async def ask() -> None:
        found.append(await resolver.lookup(Authority("api.example", 80)))

    async with trio.open_nursery() as nursery:
        first = trio.CancelScope()

        async def cancelled() -> None:
            with first:
                await ask()

        nursery.start_soon(cancelled)
        await trio.sleep(0.02)
        nursery.start_soon(ask)
        await trio.sleep(0.02)
        first.cancel()
        await trio.sleep(0.02)
        names.answer.set()
    assert found == [[A]]


def clocked(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [100.0]
    monkeypatch.setattr(resolve.trio, "current_time", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


async def test_answers_are_kept_for_a_while_and_failures_for_less(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    pass_time = clocked(monkeypatch)
    resolver, api, missing = Resolver(), Authority("api.example", 80), Authority("missing.example", 80)
    names.known["api.example"] = ["192.0.2.1"]
    for _ in range(3):
        assert await resolver.lookup(api) == [A]
        with pytest.raises(NoSuchHost):
            await resolver.lookup(missing)
    assert names.asked == ["api.example", "missing.example"]
    pass_time(NEGATIVE_TTL + 0.1)
    names.known["missing.example"] = ["192.0.2.3"]
    assert await resolver.lookup(missing) == [C]
    assert await resolver.lookup(api) == [A]
    assert names.asked[2:] == ["missing.example"]
    names.known["api.example"] = ["192.0.2.2"]
    pass_time(TTL)
    assert await resolver.lookup(api) == [B]


async def test_it_remembers_a_bounded_number_of_names(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "_MOST_NAMES", 3)
    resolver = Resolver()
    for number in range(10):
        names.known[f"{number}.example"] = ["192.0.2.1"]
        await resolver.lookup(Authority(f"{number}.example", 80))
    assert len(resolver._answers) <= 3
