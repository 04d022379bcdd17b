"""Cookies fetched, and paths found out, before a user comes; the kernel and the wire are asked whether it is so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from proxy.core.address import Authority, Endpoint
from proxy.core.clusters import Cluster, FastOpen
from proxy.core.fastopen import PLAIN_PLAN, State
from proxy.core.standings import Standings
from proxy.core.warming import Warmth
from proxy.lab.behaviours import answers
from proxy.lab.wan import Wan
from proxy.net import cookies
from proxy.net.resolve import Resolver
from proxy.net.watch import Watch
from proxy.service.warmup import Share, WarmUp
from proxy.sessions.pools import Pools

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.03)]


class Room:
    def __init__(self, watch: Watch, share: Share | None) -> None:
        self.standings = Standings()
        self.warm_up = WarmUp(self.standings, Pools(Resolver()), watch, share)

    def state(self, endpoint: Endpoint) -> State:
        return self.standings.get(endpoint).state


@asynccontextmanager
async def warming(share: Share | None = None) -> AsyncIterator[Room]:
    watch = Watch()
    async with trio.open_nursery() as nursery:
        await nursery.start(watch.run)
        yield Room(watch, share)
        nursery.cancel_scope.cancel()


def cluster_of(*endpoints: Endpoint) -> Cluster:
    return Cluster("c", endpoints)


async def test_the_cookie_is_there_before_anybody_needs_it(wan: Wan) -> None:
    server = wan.serve(answers())
    endpoint = Endpoint(*server.address)
    async with warming() as room:
        assert not room.warm_up.warming, "nobody has asked for anything"
        assert await room.warm_up.clusters([cluster_of(endpoint)]) == 1
        (cookie,) = cookies.lookup(endpoint.host)
        assert cookie.has_cookie
        standing = room.standings.get(endpoint)
        assert standing.state is State.LEARNING
        assert standing.rtt is not None
        assert 0.9 * wan.rtt < standing.rtt < 10
        assert await room.warm_up.clusters([cluster_of(endpoint)]) == 0, "once is enough"
    assert len(wan.capture().syns(dst=server.address)) == 1
    assert server.wait(1)[0].ended == "eof", "to the server it is a health check"


async def test_a_server_without_fast_open_is_found_out(wan: Wan) -> None:
    server = wan.serve(answers(), fast_open=None)
    endpoint = Endpoint(*server.address)
    async with warming() as room:
        await room.warm_up.clusters([cluster_of(endpoint)])
        assert room.state(endpoint) is State.UNSUPPORTED
        assert len(wan.capture().syns(dst=server.address)) == 3
        await room.warm_up.clusters([cluster_of(endpoint)])
        assert len(wan.capture().syns(dst=server.address)) == 3, "and left alone"


async def test_a_path_that_drops_the_option_is_found_out(wan: Wan) -> None:
    server = wan.serve(answers())
    endpoint = Endpoint(*server.address)
    with wan.through("drops-option"):
        async with warming() as room:
            await room.warm_up.clusters([cluster_of(endpoint)])
            assert room.state(endpoint) is State.QUARANTINED
            syns = wan.capture().syns(dst=server.address)
            fates = {
                syn.packet.sport: syn.dropped for syn in reversed(syns)
            }  # the kernel may repeat what was lost
            assert list(fates.values()).count(True) == 2
            assert not all(syn.dropped for syn in syns)


async def test_a_chance_loss_does_not_keep_the_cookie_away(wan: Wan) -> None:
    server = wan.serve(answers())
    endpoint = Endpoint(*server.address)
    with wan.through("drops", flags="S", direction="C>S", count=1):
        async with warming() as room:
            await room.warm_up.clusters([cluster_of(endpoint)])
            assert room.state(endpoint) is State.LEARNING
    assert cookies.lookup(endpoint.host)[0].has_cookie


async def test_who_is_not_there_is_not_asked_again_and_stands_in_nobodys_way(wan: Wan) -> None:
    nobody = Endpoint(wan.fresh_address(), 81)
    async with warming() as room:
        assert await room.warm_up.clusters([cluster_of(nobody)]) == 1
        assert len(wan.capture().syns(dst=nobody)) == 2, "one fast open, one plain dial to make sure"
        assert room.standings.get(nobody).plan(cluster_of(nobody), 9, trio.current_time()) is not PLAIN_PLAN


async def test_one_cookie_serves_all_ports_of_an_address(wan: Wan) -> None:
    first = wan.serve(answers())
    second = wan.serve(answers(), host=first.address[0], port=81)
    endpoints = Endpoint(*first.address), Endpoint(*second.address)
    async with warming() as room:
        await room.warm_up.clusters([cluster_of(*endpoints)])
        assert {room.state(endpoint) for endpoint in endpoints} <= {State.LEARNING, State.UNKNOWN}
    syns = wan.capture().syns(dst=first.address[0])
    assert len(syns) == 2
    assert [bool(syn.cookie) for syn in syns] == [False, True], "the second has it from the first"


async def test_an_endpoint_that_appears_later_is_warmed_and_the_others_are_left_alone(wan: Wan) -> None:
    old, new = wan.serve(answers()), wan.serve(answers())
    first, second = Endpoint(*old.address), Endpoint(*new.address)
    async with warming() as room:
        assert await room.warm_up.clusters([cluster_of(first)]) == 1
        wan.forget()
        later = cluster_of(first, second)
        assert await room.warm_up.clusters([later], newcomers=True) == 1
        assert cookies.lookup(second.host)[0].has_cookie
        assert await room.warm_up.clusters([later], newcomers=True) == 0
    assert [len(wan.capture().syns(dst=server.address)) for server in (old, new)] == [0, 1]


async def test_one_hosts_ports_are_done_one_after_the_other(wan: Wan) -> None:
    first = wan.serve(answers())
    second = wan.serve(answers(), host=first.address[0], port=81)
    async with warming() as room:
        await room.warm_up.clusters([cluster_of(Endpoint(*first.address), Endpoint(*second.address))])
    one, other = wan.capture().syns(dst=first.address[0])
    assert other.entered - one.entered >= wan.rtt * 0.9


async def test_many_endpoints_a_few_at_a_time(wan: Wan) -> None:
    servers = [wan.serve(answers()) for _ in range(20)]
    async with warming() as room:
        endpoints = [Endpoint(*server.address) for server in servers]
        assert await room.warm_up.clusters([cluster_of(*endpoints)]) == 20
        assert all(cookies.lookup(endpoint.host)[0].has_cookie for endpoint in endpoints)
    syns = sorted(syn.entered for syn in wan.capture().syns())
    assert syns[8] - syns[0] >= wan.rtt * 0.9, "the ninth waits for one of the first eight"


@pytest.mark.parametrize("cluster", [{"warm_up": False}, {"fast_open": FastOpen.OFF}])
async def test_who_does_not_want_it_is_left_alone(wan: Wan, cluster: dict[str, object]) -> None:
    server = wan.serve(answers())
    unwilling = replace(cluster_of(Endpoint(*server.address)), **cluster)  # type: ignore[arg-type]  # a cluster's keys
    async with warming() as room:
        with trio.move_on_after(0.2):
            await room.warm_up.keep([unwilling])
    assert not wan.capture().syns(dst=server.address)


async def test_a_name_that_does_not_resolve_is_nobodys_end(wan: Wan) -> None:
    server = wan.serve(answers())
    lost = Cluster("lost", (Authority("nowhere.invalid", 80),))
    async with warming() as room:
        assert await room.warm_up.clusters([lost, cluster_of(Endpoint(*server.address))]) == 1


async def test_it_tells_how_far_it_has_come(wan: Wan) -> None:
    good, silent = [wan.serve(answers()) for _ in range(3)], wan.serve(answers(), fast_open=None)
    known = [Endpoint(*server.address) for server in (*good, silent)]
    nobody = Endpoint(wan.fresh_address(), 81)
    async with warming() as room:
        await room.warm_up.clusters([cluster_of(known[0])])
        wan.set_rtt(0.3)
        async with trio.open_nursery() as nursery:
            began = trio.current_time()
            nursery.start_soon(room.warm_up.clusters, [cluster_of(*known, nobody)])
            while (now := room.warm_up.warming) is None or now.endpoints < 5 or not now.done:
                await trio.lowlevel.checkpoint()
            assert (now.over, now.endpoints, now.done, now.number(Warmth.HELD)) == (False, 5, 1, 1)
            assert 0 < now.lasted <= trio.current_time() - began
        then = room.warm_up.warming
        assert then is not None
        assert then.over
        assert then.found == {
            Warmth.HELD: 1, Warmth.FETCHED: 2, Warmth.NO_FAST_OPEN: 1, Warmth.UNREACHABLE: 1
        }  # fmt: skip
        late = Endpoint(*wan.serve(answers()).address)
        await room.warm_up.clusters([cluster_of(late, *known)], newcomers=True)
        after = room.warm_up.warming
        assert after is not None
        assert (after.endpoints, after.number(Warmth.FETCHED)) == (6, 3), "it joins the others"
        assert after.began >= then.began + then.lasted
        await room.warm_up.clusters([cluster_of(late)], newcomers=True)
        assert room.warm_up.warming == after, "nobody new is no news"


async def test_a_path_that_drops_the_option_is_told_of(wan: Wan) -> None:
    endpoint = Endpoint(*wan.serve(answers()).address)
    with wan.through("drops-option"):
        async with warming() as room:
            for _ in range(2):
                await room.warm_up.clusters([cluster_of(endpoint)])
                now = room.warm_up.warming
                assert now is not None
                assert now.found == {Warmth.DROPPED: 1}


async def test_several_workers_share_the_work(wan: Wan) -> None:
    servers = [wan.serve(answers()) for _ in range(12)]
    whole = cluster_of(*(Endpoint(*server.address) for server in servers))
    numbers: list[int] = []
    for number in range(3):
        async with warming(Share(number, 3)) as room:
            numbers.append(await room.warm_up.clusters([whole]))
    assert sum(numbers) == 12
    assert all(numbers)
    assert len(wan.capture().syns()) == 12, "nobody is asked twice"


async def test_asked_again_it_looks_again(wan: Wan) -> None:
    host = wan.fresh_address()
    endpoint = Endpoint(host, 80)
    async with warming() as room, trio.open_nursery() as nursery:
        nursery.start_soon(room.warm_up.keep, [cluster_of(endpoint)])
        await trio.sleep(6 * wan.rtt)  # refused, and confirmed so
        assert not any(cookie.has_cookie for cookie in cookies.lookup(host))
        wan.serve(answers(), host=host)
        room.warm_up.again()
        with trio.fail_after(30):
            while not any(cookie.has_cookie for cookie in cookies.lookup(host)):  # noqa: ASYNC110  # the kernel's
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
