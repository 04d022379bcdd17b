"""What is looked after follows the configuration."""

from __future__ import annotations

from dataclasses import replace

import trio

from proxy.core.clusters import Health
from proxy.core.standings import Standings
from proxy.net.resolve import Resolver
from proxy.net.watch import Watch
from proxy.service.checks import Checks
from proxy.service.tending import Tending
from proxy.service.warmup import WarmUp
from proxy.sessions.pools import Pools
from tests.serving import Recorder, echo, upstream


async def test_it_follows_and_stops() -> None:
    events, standings = Recorder(), Standings()
    pools, watch = Pools(Resolver()), Watch(trio.lowlevel.current_clock().current_time)
    tending = Tending(
        WarmUp(standings, pools, watch), Checks(standings, pools, watch, events.endpoint_health), events
    )
    async with upstream(echo, health=Health(every=0.05)) as cluster, trio.open_nursery() as nursery:
        await nursery.start(watch.run)
        endpoint = cluster.only[0]
        tending.follow(nursery, [cluster])
        with trio.fail_after(30):
            while pools.health(endpoint) is None:  # noqa: ASYNC110
                await trio.sleep(0.01)
        inside = len(nursery.child_tasks)
        tending.follow(nursery, [replace(cluster)])
        tending.again()
        assert len(nursery.child_tasks) == inside, "the same is not begun anew"
        tending.follow(nursery, [])
        with trio.fail_after(30):
            while len(nursery.child_tasks) > inside:  # noqa: ASYNC110
                await trio.sleep(0.01)
        tending.stop()
        nursery.cancel_scope.cancel()


async def test_a_mistake_beside_the_service_is_not_its_end() -> None:
    faults: list[str] = []

    class Listening(Recorder):
        def background_fault(self, work: str, fault: BaseException) -> None:
            faults.append(work)

    pools, watch = Pools(Resolver()), Watch(trio.lowlevel.current_clock().current_time)
    events, standings = Listening(), Standings()
    tending = Tending(
        WarmUp(standings, pools, watch), Checks(standings, pools, watch, events.endpoint_health), events
    )

    async def fails() -> None:
        raise ValueError

    await tending.beside("x", fails)
    assert faults == ["x"]
