"""What is looked after follows the configuration."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from proxy.core.clusters import Cluster, Health
from proxy.core.members import Members
from proxy.core.standings import Standings
from proxy.net.resolve import Resolver
from proxy.net.watch import Watch
from proxy.service import supervised
from proxy.service.checks import Checks
from proxy.service.tending import Tending
from proxy.service.warmup import WarmUp
from proxy.sessions.pools import Pool, Pools
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


async def test_an_exception_does_not_end_health_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one cluster it is logged and begun again; the checks of the others do not notice."""
    monkeypatch.setattr(supervised, "FIRST_PAUSE", 0.05)
    faults: list[str] = []

    class Listening(Recorder):
        def background_fault(self, work: str, fault: BaseException) -> None:
            faults.append(f"{work}: {fault!r}")

    broken, asked = replace(Cluster("broken", ()), health=Health(every=0.05)), 0
    members = Pool.members

    async def fails_twice(pool: Pool) -> Members:
        nonlocal asked
        if pool.cluster is broken and asked < 3:
            asked += 1
            raise ValueError(asked)
        return await members(pool)

    monkeypatch.setattr(Pool, "members", fails_twice)
    pools, watch = Pools(Resolver()), Watch(trio.lowlevel.current_clock().current_time)
    events, standings = Listening(), Standings()
    tending = Tending(
        WarmUp(standings, pools, watch), Checks(standings, pools, watch, events.endpoint_health), events
    )
    async with upstream(echo, health=Health(every=0.05)) as cluster, trio.open_nursery() as nursery:
        await nursery.start(watch.run)
        tending.follow(nursery, [broken, cluster])
        with trio.fail_after(30):
            while asked < 3 or pools.health(cluster.only[0]) is None:  # noqa: ASYNC110
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert "health checks: ValueError" in "".join(faults)
    assert "warm-up: ValueError" in "".join(faults)
