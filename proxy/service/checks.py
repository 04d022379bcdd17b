"""Active health checks: a handshake with every endpoint, now and then, and what is believed of it after a few.

A check is an empty Fast Open where there is Fast Open, closed as soon as its handshake is over. So it is as gentle as a
plain one, and keeps the cookie, the round trip and the standing fresh.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

import trio

from proxy.core.address import Endpoint
from proxy.core.clusters import Cluster, Health
from proxy.core.standings import Standings
from proxy.net import dial
from proxy.net.resolve import NoSuchHost
from proxy.net.upstream import DialFailed
from proxy.net.watch import Watch
from proxy.sessions.pools import Pool, Pools

_AT_ONCE = 16  # checks of a cluster in flight

Told = Callable[[Cluster, Endpoint, bool, str], None]
"""Told of every endpoint that is up (True) or down from now on, and why."""


class Checks:
    """The checks of one worker."""

    def __init__(self, standings: Standings, pools: Pools, watch: Watch, told: Told) -> None:
        self._standings = standings
        self._pools = pools
        self._watch = watch
        self._told = told

    async def run(self, cluster: Cluster, health: Health) -> None:
        """Check the endpoints of one cluster until cancelled."""
        pool = self._pools.of(cluster)
        limit = trio.CapacityLimiter(_AT_ONCE)
        while True:
            began = trio.current_time()
            endpoints: tuple[Endpoint, ...] = ()
            with suppress(NoSuchHost):  # whoever wants to go there will be told
                endpoints = (await pool.members()).endpoints
            async with trio.open_nursery() as nursery:
                for endpoint in endpoints:
                    nursery.start_soon(self._check_in_turn, pool, health, endpoint, limit)
            # Workers, and other proxies, must not all check at the same moment.
            pause = began + health.every * random.uniform(0.9, 1.1) - trio.current_time()
            await trio.sleep(max(pause, health.every / 10))

    async def _check_in_turn(
        self, pool: Pool, health: Health, endpoint: Endpoint, limit: trio.CapacityLimiter
    ) -> None:
        async with limit:
            problem = await self.check(pool.cluster, endpoint, health.timeout)
        availability = pool.balancer.availability
        healthy = not problem
        if availability.checked(
            endpoint, self._watch.clock(), problem, healthy=healthy, rise=health.rise, fall=health.fall
        ):
            self._told(pool.cluster, endpoint, healthy, problem)

    async def check(self, cluster: Cluster, endpoint: Endpoint, timeout: float) -> str:
        """One handshake; what is wrong, or nothing."""
        standing, clock = self._standings.get(endpoint), self._watch.clock
        plan = standing.plan(cluster, 0, clock())
        try:
            attempt = dial.begin(endpoint, b"", plan, clock, cluster.source)
            upstream = await dial.connect(
                endpoint, attempt, self._watch, timeout, hedge=plan.hedge, redial=True
            )
        except DialFailed as failed:
            return str(failed)
        finally:
            standing.abandon(plan)
        upstream.sock.close()
        if upstream.info is not None and not upstream.info.retransmits:
            standing.learn_rtt(upstream.info.rtt)
        standing.learn(upstream.evidence, plan, clock())
        return ""
