"""A cluster at work: who its endpoints are just now, whose turn it is, and who is better left alone.

Pools outlive a reload where their cluster stays the same, so nothing that was learned of it is lost.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeAlias

import trio

from proxy.core.address import Authority, Endpoint, Target
from proxy.core.availability import Outages
from proxy.core.balance import Balancer
from proxy.core.clusters import Cluster, EndpointFile, Origin, SendHeader, Service, Via
from proxy.core.families import interleaved
from proxy.core.members import Members, members_of
from proxy.net.resolve import Early, NoSuchHost, Resolver
from proxy.sessions.endpoint_files import EndpointsFile

_LOOK = 1.0  # seconds between two looks at a file
_AGAIN = 1.0  # seconds before those who could not be found are looked for again


Told: TypeAlias = Callable[[Cluster, Endpoint, float | None], None]
"""Told of every endpoint that is ejected, for so many seconds, and of each that has come back (None)."""


class Pool:
    """One cluster's endpoints."""

    __slots__ = (
        "_files",
        "_forbidden",
        "_good_until",
        "_is_partial",
        "_members",
        "_resolver",
        "_told",
        "balancer",
        "cluster",
    )

    def __init__(
        self,
        cluster: Cluster,
        resolver: Resolver,
        told: Told | None = None,
        forbidden: Callable[[Endpoint], bool] | None = None,
    ) -> None:
        """``told`` is told of ejections; ``forbidden`` says of an endpoint that it must not be dialled."""
        self._forbidden = forbidden
        self.cluster = cluster
        self._told = told
        self.balancer = Balancer(cluster, random.random)
        self._resolver = resolver
        self._members: Members | None = None
        self._good_until = -math.inf
        self._is_partial = False  # of a name only one address family has answered
        self._files: dict[EndpointFile, EndpointsFile] = {}

    async def candidates(self, client: str = "") -> list[Endpoint]:
        """The endpoints that a session of ``client`` (its address) tries, in this order; raises `NoSuchHost`."""
        now = trio.current_time()
        members = self._members
        if members is None or now >= self._good_until:
            members = await self.members()
        picked = self.balancer.pick(members, client, now)
        if not self._is_partial:
            return picked
        return Early(picked, self._so_far, lambda: self._whole(client))

    def _so_far(self) -> list[Endpoint]:
        """The addresses of its names as far as they have come, the families in turn."""
        names = (origin for origin in self.cluster.endpoints if isinstance(origin, Authority))
        found = [endpoint for name in names for endpoint in self._resolver.so_far(name)]
        if (forbidden := self._forbidden) is not None:
            found = [endpoint for endpoint in found if not forbidden(endpoint)]
        return list(interleaved(found))

    async def _whole(self, client: str) -> list[Endpoint]:
        for origin in self.cluster.endpoints:
            if isinstance(origin, Authority):
                with suppress(NoSuchHost):
                    await self._resolver.find(origin, whole=True)
        return self.balancer.pick(await self.members(), client, trio.current_time())

    def candidates_now(self, client: str) -> list[Endpoint]:
        """The same where nothing has to be looked up first; else none."""
        now = trio.current_time()
        if self._members is None or now >= self._good_until:
            return []
        return self.balancer.pick(self._members, client, now)

    async def members(self) -> Members:
        """All endpoints; raises `NoSuchHost` where there is none."""
        now = trio.current_time()
        if self._members is not None and now < self._good_until:
            return self._members
        found: list[tuple[Endpoint, int]] = []
        failure: NoSuchHost | None = None
        until = math.inf
        self._is_partial = False
        weights = self.cluster.weights or (1,) * len(self.cluster.endpoints)
        for origin, weight in zip(self.cluster.endpoints, weights, strict=True):
            try:
                some, good_until = await self._expand(origin, weight)
                if not isinstance(origin, Endpoint):
                    some = self._without_admin(origin, some)
            except NoSuchHost as missing:
                failure, until = missing, min(until, now + _AGAIN)
            else:
                found += some
                until = min(until, good_until)
        if not found:
            raise failure or NoSuchHost(f"cluster {self.cluster.name} has no endpoints")
        if (source := self.cluster.source) is not None:  # a family without a source address is not tried
            found = [(endpoint, weight) for endpoint, weight in found if source.reaches(endpoint)] or found
        return self._adopt(members_of(found), until)

    def _without_admin(self, origin: Origin, found: list[tuple[Endpoint, int]]) -> list[tuple[Endpoint, int]]:
        """What others (a name server, a file) say, without our own admin; raises `NoSuchHost` if nothing is left."""
        if self._forbidden is None:
            return found
        allowed = [one for one in found if not self._forbidden(one[0])]
        if found and not allowed:
            raise NoSuchHost(f"{origin} leads to the admin of this proxy, which no session may reach")
        return allowed

    def follow(self, resolver: Resolver, cluster: Cluster) -> None:
        """Names are looked up by another resolver, and the cluster, though equal, is another snapshot's."""
        self._resolver, self.cluster = resolver, cluster

    def inherit(self, former: Pool) -> None:
        """Go on from what is known of the endpoints that were those of ``former``."""
        self.balancer.availability.inherit(
            former.balancer.availability, checked=self.cluster.health is not None
        )

    def known(self) -> Sequence[Endpoint]:
        """Its endpoints as they were when last looked up."""
        return () if self._members is None else self._members.endpoints

    def health(self, endpoint: Endpoint) -> bool | None:
        """What health checks say of one of its endpoints; None: it has none, or this is none of them."""
        if self.cluster.health is None or self._members is None or endpoint not in self._members.at:
            return None
        return not self.balancer.availability.is_down(endpoint)

    def outages(self, now: float) -> Outages | None:
        """Which of its endpoints are left alone now; None: they have not been looked up yet."""
        return None if self._members is None else self.balancer.availability.outages(self._members, now)

    def began(self, endpoint: Endpoint) -> None:
        """A session has been connected to ``endpoint``."""
        if self.balancer.availability.worked(endpoint) and self._told is not None:
            self._told(self.cluster, endpoint, None)
        self.balancer.began(endpoint)

    def ended(self, endpoint: Endpoint) -> None:
        """Such a session is over."""
        self.balancer.ended(endpoint)

    def failed(self, endpoint: Endpoint, now: float, error: str = "") -> bool:
        """A dial failed for which the endpoint or the way there may be blamed; whether that ejects it."""
        if self._members is None:
            return False
        availability = self.balancer.availability
        if not availability.failed(endpoint, len(self._members), now, error):
            return False
        if self._told is not None:
            self._told(self.cluster, endpoint, availability.until(endpoint) - now)
        return True

    def _adopt(self, members: Members, until: float) -> Members:
        known = self._members
        if known is not None and (known.endpoints, known.weights) == (members.endpoints, members.weights):
            members = known  # nothing to be worked out anew
        self._members, self._good_until = members, until
        return members

    async def _expand(self, origin: Origin, weight: int) -> tuple[list[tuple[Endpoint, int]], float]:
        """The endpoints behind one entry, and until when that is good."""
        match origin:
            case Endpoint():
                return [(origin, weight)], math.inf
            case Authority():
                found = await self._resolver.find(origin)
                self._is_partial = self._is_partial or not found.complete
                return [(endpoint, weight) for endpoint in found.endpoints], found.until
            case Service():
                service = await self._resolver.service(origin.name)
                some, until = await self._expand_all(service.servers)
                return some, min(until, service.until)
            case EndpointFile():
                file = self._files.setdefault(origin, EndpointsFile(origin.path))
                some, until = await self._expand_all(file.read())
                return some, min(until, trio.current_time() + _LOOK)

    async def _expand_all(
        self, targets: Iterable[tuple[Target, int]]
    ) -> tuple[list[tuple[Endpoint, int]], float]:
        """Those that can be found; raises `NoSuchHost` where none can."""
        found: list[tuple[Endpoint, int]] = []
        failure: NoSuchHost | None = None
        until = math.inf
        for target, weight in targets:
            try:
                some, good_until = await self._expand(target, weight)
            except NoSuchHost as missing:
                failure, until = missing, min(until, trio.current_time() + _AGAIN)
            else:
                found += some
                until = min(until, good_until)
        if failure is not None and not found:
            raise failure
        return found, until


class Pools:
    """The pools of a worker, by cluster."""

    __slots__ = ("_files", "_forbidden", "_former", "_gateways", "_pools", "_resolver", "_told", "_turns")

    def __init__(
        self,
        resolver: Resolver,
        told: Told | None = None,
        forbidden: Callable[[Endpoint], bool] | None = None,
    ) -> None:
        self._forbidden = forbidden
        self._resolver = resolver
        self._told = told
        self._pools: dict[str, Pool] = {}
        self._former: dict[str, Pool] = {}  # those of the snapshot before, for sessions that began with it
        self._gateways: dict[str, tuple[Cluster, Cluster]] = {}
        self._turns: dict[str, int] = {}
        self._files: dict[EndpointFile, EndpointsFile] = {}  # those whose endpoints gateways are asked for

    def of(self, cluster: Cluster) -> Pool:
        """The pool of what is dialled for ``cluster``: a new one where one of this name was another before."""
        if cluster.via is not None:
            cluster = self._gateway(cluster, cluster.via)
        pool = self._pools.get(cluster.name)
        if pool is not None and (pool.cluster is cluster or pool.cluster == cluster):
            return pool
        former = self._former.get(cluster.name)
        if former is not None and (former.cluster is cluster or former.cluster == cluster):
            return former
        pool = self._pools[cluster.name] = Pool(cluster, self._resolver, self._told, self._forbidden)
        return pool

    def follow(self, clusters: Iterable[Cluster], resolver: Resolver | None = None) -> None:
        """These are the clusters of the snapshot that is served from now on; what is known of them is kept."""
        self._resolver = resolver or self._resolver
        before, self._pools = self._pools, {}
        for cluster in clusters:
            dialled = cluster if cluster.via is None else self._gateway(cluster, cluster.via)
            known = before.get(dialled.name)
            if known is None:
                continue
            if known.cluster == dialled:
                del before[dialled.name]
                known.follow(self._resolver, dialled)
            else:
                former, known = known, Pool(dialled, self._resolver, self._told, self._forbidden)
                known.inherit(former)
            self._pools[dialled.name] = known
        self._former = before

    async def candidates(self, cluster: Cluster, client: str = "") -> Sequence[Endpoint]:
        """The endpoints that a session of ``client`` tries, in this order; raises `NoSuchHost`."""
        return cluster.only or await self.of(cluster).candidates(client)

    def health(self, endpoint: Endpoint) -> bool | None:
        """What health checks say of an endpoint; None: nobody checks it."""
        found = [healthy for pool in self._pools.values() if (healthy := pool.health(endpoint)) is not None]
        return all(found) if found else None

    def checked(self, most: int) -> list[tuple[Endpoint, bool]]:
        """Endpoints that are checked, no more than ``most``, and whether they are up."""
        found: dict[Endpoint, bool] = {}
        for pool in self._pools.values():
            for endpoint in pool.known():
                healthy = pool.health(endpoint)
                if healthy is None or len(found) >= most:
                    break
                found[endpoint] = healthy and found.get(endpoint, True)
        return list(found.items())

    def outages(self, most: int) -> dict[str, Outages]:
        """The same of every cluster that has been looked up, no more than ``most``, by name."""
        now = trio.current_time()
        found = {name: pool.outages(now) for name, pool in list(self._pools.items())[:most]}
        return {name: outages for name, outages in found.items() if outages is not None}

    def candidates_now(self, cluster: Cluster, client: str = "") -> Sequence[Endpoint]:
        """The same where nothing has to be looked up first; else none."""
        return cluster.only or self.of(cluster).candidates_now(client)

    def destination(self, cluster: Cluster) -> Target | None:
        """Whom a gateway is to be asked for: each endpoint in turn, names as they are; None where there is none."""
        targets: list[Target] = []
        for origin in cluster.endpoints:
            if isinstance(origin, EndpointFile):
                with suppress(NoSuchHost):
                    targets += [target for target, _ in self._file(origin).read()]
            elif not isinstance(origin, Service):
                targets.append(origin)
        turn = self._turns[cluster.name] = self._turns.get(cluster.name, -1) + 1
        return targets[turn % len(targets)] if targets else None

    def _file(self, origin: EndpointFile) -> EndpointsFile:
        file = self._files.get(origin)
        if file is None:
            file = self._files[origin] = EndpointsFile(origin.path)
        return file

    def _gateway(self, cluster: Cluster, via: Via) -> Cluster:
        """The gateway as a cluster of its own, dialled as ``cluster`` says."""
        known = self._gateways.get(cluster.name)
        if known is None or (known[0] is not cluster and known[0] != cluster):
            made = replace(
                cluster, name=f"{cluster.name} via {via.gateway}", endpoints=(via.gateway,), weights=(), via=None,
                proxy_header=SendHeader.OFF,
            )  # fmt: skip
            known = self._gateways[cluster.name] = cluster, made
        return known[1]

    async def lookup(self, authority: Authority, client: str = "") -> list[Endpoint]:
        """The endpoints of one name, for ``client`` (its address); raises `NoSuchHost`."""
        return await self._resolver.lookup(authority, client)

    def lookup_now(self, authority: Authority) -> list[Endpoint]:
        """The same where nobody has to be asked; else none."""
        return self._resolver.lookup_now(authority)
