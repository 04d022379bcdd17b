"""What a worker's spares do with real sockets, on loopback."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import trio

from proxy.core import spares as core_spares
from proxy.core.address import Endpoint
from proxy.core.clusters import Cluster, FastOpen
from proxy.core.fastopen import State
from proxy.core.spares import FLYING_MOST, OLDEST
from proxy.core.standings import Standings
from proxy.net import sockopt
from proxy.net.watch import Watch
from proxy.sessions.spares import MOST_EARLY, Spare, Spares, alive
from tests.net.pairs import reset

SAID = 10  # first bytes, all of them safe


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(30):
        while not condition():  # noqa: ASYNC110  # what is waited for is the kernel's
            await trio.sleep(0.005)


@dataclass
class Room:
    """A listening socket, a cluster of it, and spares; `peers` are the server's ends, accepted on demand."""

    listener: socket.socket
    cluster: Cluster
    spares: Spares
    standings: Standings
    watch: Watch

    @property
    def endpoint(self) -> Endpoint:
        host, port = self.listener.getsockname()[:2]
        return Endpoint(host, port)

    @property
    def ready(self) -> int:
        return self.spares.plain()["ready"]

    def take(self, early: int = SAID, safe: int = SAID) -> Spare | None:
        return self.spares.take(self.cluster, self.endpoint, early, safe)

    async def has_ready(self, number: int) -> None:
        await until(lambda: self.ready == number)

    def peer(self) -> socket.socket:
        sock, _ = self.listener.accept()
        return sock


@asynccontextmanager
async def room(**cluster: Any) -> AsyncIterator[Room]:
    standings, watch = Standings(), Watch()
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        listener.settimeout(30)
        endpoint = Endpoint(*listener.getsockname()[:2])
        usual = Cluster("c", (endpoint,), fast_open=FastOpen.OFF, preconnect=1)
        spares = Spares(standings, watch)
        async with trio.open_nursery() as nursery:
            await nursery.start(watch.run)
            nursery.start_soon(spares.run)
            await trio.testing.wait_all_tasks_blocked(0.001)
            yield Room(listener, replace(usual, **cluster), spares, standings, watch)
            nursery.cancel_scope.cancel()
    assert spares.plain()["ready"] == 0


def taken(spare: Spare | None) -> socket.socket:
    assert spare is not None
    return spare.sock


async def test_the_first_session_finds_none_and_the_second_one_that_works() -> None:
    async with room() as here:
        assert here.take() is None
        await here.has_ready(1)
        with taken(here.take()) as sock, here.peer() as peer:
            sock.send(b"hello")
            assert peer.recv(10) == b"hello"
            await here.has_ready(1)
            assert here.spares.plain() == {"ready": 1, "taken": 1, "wasted": 0}


@pytest.mark.parametrize(
    ("early", "safe"), [(SAID, SAID - 1), (SAID, 0), (MOST_EARLY + 1, MOST_EARLY + 1), (0, 0)]
)
async def test_not_for_what_must_not_be_said_twice_nor_for_a_silent_server(early: int, safe: int) -> None:
    async with room() as here:
        here.take()
        await here.has_ready(1)
        assert here.take(early, safe) is None
        assert here.ready == 1


async def test_a_banner_waits_for_a_session_that_says_nothing() -> None:
    async with room() as here:
        here.take()
        await here.has_ready(1)
        with here.peer() as peer:
            peer.send(b"220 ready\r\n")
            await trio.sleep(0.02)
            spare = here.take(0, 0)
            with taken(spare) as sock:
                assert spare is not None
                assert spare.greeted
                assert sock.recv(100) == b"220 ready\r\n"


@pytest.mark.parametrize("banner", [b"", b"500 go away\r\n"])
@pytest.mark.parametrize("rudely", [False, True])
async def test_one_that_the_server_has_closed_is_never_handed_out(banner: bytes, rudely: bool) -> None:
    async with room() as here:
        here.take()
        await here.has_ready(1)
        with here.peer() as peer:
            peer.send(banner)
            if rudely:
                sockopt.reset_on_close(peer)
        assert here.take(SAID if not banner else 0, SAID if not banner else 0) is None
        assert here.spares.plain()["wasted"] == 1


async def test_one_that_is_closed_while_nobody_looks_is_closed_on_our_side_too() -> None:
    async with room() as here:
        here.take()
        await here.has_ready(1)
        here.peer().close()
        await until(lambda: here.spares.plain()["wasted"] == 1)


@pytest.mark.parametrize(
    "cluster",
    [
        {"endpoints": ()},
        {"preconnect": 0},
        {"fast_open": FastOpen.ALWAYS},
        {"fast_open": FastOpen.AUTO},  # nothing is known against it
    ],
)
async def test_only_for_configured_clusters_that_want_them_where_fast_open_does_not_work(
    cluster: Any,
) -> None:
    async with room(**cluster) as here:
        for _ in range(3):
            assert here.take() is None
            await trio.sleep(0.01)
        assert here.ready == 0


async def test_a_sentence_that_has_ended_is_found_out_about_by_a_session_of_its_own() -> None:
    async with room(fast_open=FastOpen.AUTO) as here:
        standing = here.standings.get(here.endpoint)
        standing.state, standing.until = State.QUARANTINED, here.watch.clock() + 60
        here.take()
        await here.has_ready(1)
        standing.until = here.watch.clock()
        assert here.take() is None
        standing.until = here.watch.clock() + 60
        taken(here.take()).close()


async def test_everywhere_while_the_kernel_has_no_fast_open() -> None:
    async with room(fast_open=FastOpen.AUTO) as here:
        here.spares.unavailable()
        here.take()
        await here.has_ready(1)


async def test_no_more_than_allowed_and_a_couple_at_a_time() -> None:
    async with room(preconnect=5) as here:
        for _ in range(20):
            here.take()
        pool = here.spares._pools["c", here.endpoint]
        assert pool.flying <= FLYING_MOST
        await here.has_ready(5)
        await trio.sleep(0.05)
        assert here.ready == 5
        assert not pool.flying


async def test_old_ones_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with room() as here:
        here.take()
        await here.has_ready(1)
        pool = here.spares._pools["c", here.endpoint]
        pool.ready[0].born -= OLDEST
        with here.peer() as peer:
            assert here.take() is None
            assert peer.recv(1) == b""
        assert here.spares.plain()["wasted"] == 1


async def test_a_reload_keeps_those_of_clusters_that_stay() -> None:
    async with room(preconnect=1) as here:
        here.take()
        here.take()
        await here.has_ready(1)
        peer = here.peer()
        here.spares.follow({"c": replace(here.cluster)})
        assert here.ready == 1
        changed = replace(here.cluster, warm_up=False)
        here.spares.follow({"c": changed})
        assert here.ready == 0
        assert peer.recv(1) == b"", "it might have gone another way than sessions do now"
        peer.close()
        here.cluster = changed
        here.take()
        here.take()
        await here.has_ready(1)
        here.spares.follow({})
        assert here.ready == 0
        await trio.sleep(0.6)
        assert here.ready == 0, "and none is dialled for nobody"


async def test_close_leaves_nothing_and_lets_none_come() -> None:
    async with room(preconnect=3) as here:
        for _ in range(5):
            here.take()
        await here.has_ready(3)
        here.spares.close()
        for _ in range(3):
            with here.peer() as peer:
                assert peer.recv(1) == b""
        assert here.take() is None
        await trio.sleep(0.01)
        assert here.spares.plain() == {"ready": 0, "taken": 0, "wasted": 0}


async def test_a_failed_dial_is_not_repeated_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.core.spares.PAUSE_FIRST", 60.0)
    async with room(preconnect=3) as here:
        here.take()
        await here.has_ready(3)
        cluster = Cluster("gone", (Endpoint("127.0.0.1", 1),), fast_open=FastOpen.OFF, preconnect=3)
        endpoint = Endpoint("127.0.0.1", 1)
        assert here.spares.take(cluster, endpoint, SAID, SAID) is None
        pool = here.spares._pools["gone", endpoint]
        await until(lambda: pool.flying == 0)
        here.spares.take(cluster, endpoint, SAID, SAID)
        assert pool.flying == 0
        assert here.spares._count == 3


@contextmanager
def said(here: Room) -> Iterator[socket.socket]:
    with taken(here.take()) as sock:
        sock.send(b"x" * SAID)
        yield sock


@pytest.mark.parametrize(
    ("act", "lives"),
    [
        (lambda peer: peer.send(b"pong"), True),
        (lambda peer: None, True),  # it took the bytes, and thinks
        (lambda peer: peer.shutdown(socket.SHUT_WR), False),
        (reset, False),
    ],
)
async def test_alive(act: Callable[[socket.socket], object], lives: bool) -> None:
    async with room() as here:
        here.take()
        await here.has_ready(1)
        with here.peer() as peer, said(here) as sock:
            act(peer)
            assert await alive(sock, here.standings.get(here.endpoint), here.watch) is lives


async def test_a_number_is_kept_without_sessions_and_after_the_spares_have_become_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(core_spares, "OLDEST", 0.3)
    async with room(preconnect=3) as here:
        here.spares.keep([here.cluster])
        await here.has_ready(3)
        for _ in range(8):
            await trio.sleep(0.2)
            await here.has_ready(3)
        here.spares.follow({})
        await here.has_ready(0)
        await trio.sleep(0.6)
        assert here.ready == 0, "the cluster is gone"


async def test_none_is_kept_where_fast_open_may_work() -> None:
    async with room(preconnect=3, fast_open=FastOpen.AUTO) as here:
        here.spares.keep([here.cluster])
        await trio.sleep(0.6)
        assert here.ready == 0


async def test_first_bytes_that_do_not_fit_a_syn_take_one_though_fast_open_works() -> None:
    async with room(preconnect=2, fast_open=FastOpen.ALWAYS) as here:
        assert here.take(1000, 1000) is None
        await trio.sleep(0.6)
        assert here.ready == 0
        assert here.take(3000, 3000) is None
        await here.has_ready(2)
        assert here.take(1000, 1000) is None, "these go in the SYN"
        with taken(here.take(3000, 3000)):
            await here.has_ready(2)
        assert here.take(3000, 2000) is None, "not all of them may come twice"
