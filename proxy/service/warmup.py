"""Fetch cookies before a session needs them, and learn what the path does to the option before a user does.

A warm-up is an empty fast open (`core.fastopen.Open.EMPTY`) that is closed as soon as its handshake is over: to the
server it is a health check. It is hedged like any other dial, so a path that drops the option is found out by two of
them. Gentle on purpose: a few at a time, one at a time for one address (the kernel keeps one cookie for all its
ports), a handful of tries, and none where the kernel has the cookie already. Of several workers each warms its share:
what one finds out the others hear, and the cookies are the kernel's anyway.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple, TypeAlias
from zlib import crc32

import trio

from proxy.core.address import Endpoint
from proxy.core.evidence import LOSSES, Evidence
from proxy.core.fastopen import Open, Standing, State
from proxy.core.snapshot import Cluster, FastOpen
from proxy.core.standings import Standings
from proxy.core.warming import Warming, Warmth
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
_WORTH_ANOTHER = LOSSES | {Evidence.COOKIE_REQUESTED}
_LOST = frozenset({State.QUARANTINED, State.PROBING, State.OPTION_DOUBTED, State.DATA_DOUBTED})
_Hosts: TypeAlias = dict[str, dict[Endpoint, Cluster]]


class Share(NamedTuple):
    """Worker ``number`` of ``workers``: who warms what is the same for all of them, whenever they ask."""

    number: int = 0
    workers: int = 1

    def holds(self, host: str) -> bool:
        """Whether the endpoints at ``host``, an IP, are this one's to warm."""
        return self.workers == 1 or crc32(host.encode()) % self.workers == self.number


class WarmUp:
    """Warm-ups of one worker."""

    def __init__(self, standings: Standings, pools: Pools, watch: Watch, share: Share | None = None) -> None:
        self._standings = standings
        self._pools = pools
        self._watch = watch
        self._share = share or Share()
        self._limit = trio.CapacityLimiter(_AT_ONCE)
        self._asked = trio.Event()
        self._running, self._began, self._lasted = False, 0.0, 0.0  # the round that runs, or the last one
        self._endpoints, self._found = 0, Counter[Warmth]()

    @property
    def warming(self) -> Warming | None:
        """How far it has come; None where there is nobody to be warmed."""
        if not (self._running or self._endpoints):
            return None
        lasted = self._watch.clock() - self._began if self._running else self._lasted
        return Warming(self._began, lasted, not self._running, self._endpoints, dict(self._found))

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
        if newcomers:
            hosts = await self._hosts(clusters, newcomers=True)
            if not hosts:
                return 0
            with self._round():
                return await self._warm(hosts)
        self._endpoints, self._found = 0, Counter[Warmth]()
        with self._round():  # names to be looked up take their time, too
            return await self._warm(await self._hosts(clusters))

    @contextmanager
    def _round(self) -> Iterator[None]:
        self._running, self._began = True, self._watch.clock()
        try:
            yield
        finally:
            self._running, self._lasted = False, self._watch.clock() - self._began

    async def _hosts(self, clusters: Iterable[Cluster], *, newcomers: bool = False) -> _Hosts:
        """Whom to ask, by IP."""
        hosts: _Hosts = {}
        for cluster in clusters:
            for endpoint in await self._find(cluster):
                known = newcomers and self._standings.peek(endpoint) is not None
                if not (endpoint.is_unix or known) and self._share.holds(endpoint.host):
                    hosts.setdefault(endpoint.host, {})[endpoint] = cluster
        return hosts

    async def _warm(self, hosts: _Hosts) -> int:
        self._endpoints += sum(map(len, hosts.values()))
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
        held = _has_cookie(endpoint)
        dialled = reached = False
        for _ in range(_TRIES):
            if standing.state in _USELESS or (standing.rtt is not None and _has_cookie(endpoint)):
                break
            dialled = True
            evidence = await self._try(cluster, endpoint, standing)
            reached = reached or evidence is not None
            if evidence not in _WORTH_ANOTHER:
                break
        if dialled and not reached:
            found = Warmth.UNREACHABLE
        elif _has_cookie(endpoint):
            found = Warmth.HELD if held else Warmth.FETCHED
        else:
            found = Warmth.DROPPED if standing.state in _LOST else Warmth.NO_FAST_OPEN
        self._found[found] += 1
        return dialled

    async def _try(self, cluster: Cluster, endpoint: Endpoint, standing: Standing) -> Evidence | None:
        """One empty fast open, and what it showed; None: nobody is there."""
        plan = standing.plan(cluster, 0, self._watch.clock())
        if plan.open is Open.PLAIN:
            return Evidence.PLAIN
        try:
            attempt = dial.begin(endpoint, b"", plan, self._watch.clock, cluster.source)
            upstream = await dial.connect(
                endpoint, attempt, self._watch, cluster.connect.timeout, hedge=plan.hedge, redial=True
            )
        except DialFailed:
            return None
        finally:
            standing.abandon(plan)
        upstream.sock.close()
        info = upstream.info
        if info is not None and not info.retransmits:
            standing.learn_rtt(info.rtt)
        standing.learn(upstream.evidence, plan, self._watch.clock())
        return upstream.evidence

    async def _find(self, cluster: Cluster) -> Sequence[Endpoint]:
        with suppress(NoSuchHost):  # whoever wants to go there will be told
            return cluster.only or (await self._pools.of(cluster).members()).endpoints
        return ()


def _has_cookie(endpoint: Endpoint) -> bool:
    with CookieCache() as cache:
        return any(cookie.has_cookie for cookie in cache.lookup(endpoint.host))
