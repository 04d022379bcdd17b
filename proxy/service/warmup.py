"""Fetch cookies before a session needs them, and learn what the path does to the option before a user does.

A warm-up is an empty fast open (`core.fastopen.Open.EMPTY`) that is closed as soon as its handshake is over: to the
server it is a health check. It is hedged like any other dial, so a path that drops the option is found out by two of
them. Gentle on purpose: a few at a time, one at a time for one address (the kernel keeps one cookie for all its
ports), a handful of tries, and none where the kernel has the cookie already.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

import trio

from proxy.core.address import Endpoint
from proxy.core.evidence import LOSSES, Evidence
from proxy.core.fastopen import Open, Standing, State
from proxy.core.snapshot import Cluster, FastOpen
from proxy.core.standings import Standings
from proxy.net import dial
from proxy.net.cookies import CookieCache
from proxy.net.resolve import NoSuchHost
from proxy.net.upstream import DialFailed
from proxy.net.watch import Watch
from proxy.sessions.pools import Pools

_AT_ONCE = 8  # handshakes of a warm-up in flight
_TRIES = (
    4  # the kernel asks by option 34, then by the experimental 254, then by 34 again; one more for a loss
)
_NEWCOMERS = 30.0  # seconds between two looks for endpoints that have appeared
_USELESS = frozenset({State.QUARANTINED, State.PROBING, State.UNSUPPORTED})


class WarmUp:
    """Warm-ups of one worker."""

    def __init__(self, standings: Standings, pools: Pools, watch: Watch) -> None:
        self._standings = standings
        self._pools = pools
        self._watch = watch
        self._limit = trio.CapacityLimiter(_AT_ONCE)
        self._asked = trio.Event()

    async def keep(self, clusters: Iterable[Cluster]) -> None:
        """Warm all endpoints, and then those that appear: a name's new address, a list's new line."""
        clusters = [
            cluster for cluster in clusters if cluster.warm_up and cluster.fast_open is not FastOpen.OFF
        ]
        await self.clusters(clusters)
        while True:
            with trio.move_on_after(_NEWCOMERS):
                await self._asked.wait()
            asked, self._asked = self._asked.is_set(), trio.Event()
            await self.clusters(clusters, newcomers=not asked)

    def again(self) -> None:
        """Warm all endpoints once more, soon: the operator has asked for it."""
        self._asked.set()

    async def clusters(self, clusters: Iterable[Cluster], *, newcomers: bool = False) -> int:
        """Warm every endpoint that may want it, or only those never heard of; how many were dialled."""
        hosts: dict[str, dict[Endpoint, Cluster]] = {}
        for cluster in clusters:
            for endpoint in await self._endpoints(cluster):
                known = newcomers and self._standings.peek(endpoint) is not None
                if not (endpoint.is_unix or known):
                    hosts.setdefault(endpoint.host, {})[endpoint] = cluster
        warmed = 0

        async def one_host(endpoints: dict[Endpoint, Cluster]) -> None:
            nonlocal warmed
            async with self._limit:
                for endpoint, cluster in endpoints.items():
                    dialled = await self.endpoint(cluster, endpoint)  # others count meanwhile
                    warmed += dialled

        async with trio.open_nursery() as nursery:
            for endpoints in hosts.values():
                nursery.start_soon(one_host, endpoints)
        return warmed

    async def endpoint(self, cluster: Cluster, endpoint: Endpoint) -> bool:
        """Warm one endpoint; whether anything was dialled."""
        standing = self._standings.get(endpoint)
        dialled = False
        for _ in range(_TRIES):
            if standing.state in _USELESS or (standing.rtt is not None and _has_cookie(endpoint)):
                break
            dialled = True
            if not await self._try(cluster, endpoint, standing):
                break
        return dialled

    async def _try(self, cluster: Cluster, endpoint: Endpoint, standing: Standing) -> bool:
        """One empty fast open; whether another would teach more."""
        plan = standing.plan(cluster, 0, self._watch.clock())
        if plan.open is Open.PLAIN:
            return False
        try:
            attempt = dial.begin(endpoint, b"", plan, self._watch.clock, cluster.source)
            upstream = await dial.connect(
                endpoint, attempt, self._watch, cluster.connect.timeout, hedge=plan.hedge, redial=True
            )
        except DialFailed:
            return False
        finally:
            standing.abandon(plan)
        upstream.sock.close()
        info = upstream.info
        if info is not None and not info.retransmits:
            standing.learn_rtt(info.rtt)
        standing.learn(upstream.evidence, plan, self._watch.clock())
        return upstream.evidence in LOSSES or upstream.evidence is Evidence.COOKIE_REQUESTED

    async def _endpoints(self, cluster: Cluster) -> Sequence[Endpoint]:
        with suppress(NoSuchHost):  # whoever wants to go there will be told
            return cluster.only or (await self._pools.of(cluster).members()).endpoints
        return ()


def _has_cookie(endpoint: Endpoint) -> bool:
    with CookieCache() as cache:
        return any(cookie.has_cookie for cookie in cache.lookup(endpoint.host))
