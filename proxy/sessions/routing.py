"""From what a client asked for to the endpoints that may be dialled for it: routes, DNS, and where nobody may go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from proxy.core.address import Authority, Endpoint
from proxy.core.clusters import Cluster
from proxy.core.destinations import Destinations
from proxy.core.outcomes import Reason
from proxy.core.routes import Route, RouteQuery, Routes
from proxy.net.listening import Listening
from proxy.sessions.pools import Pools


class Refused(Exception):
    """No way there; ``route`` says which rule refused it, where a rule did. The message is for the operator."""

    def __init__(self, problem: str, route: Route | None = None, reason: Reason = Reason.DENIED) -> None:
        super().__init__(problem)
        self.route = route
        self.reason = reason


class Way(NamedTuple):
    """Where a session goes."""

    route: Route
    cluster: Cluster
    candidates: Sequence[
        Endpoint
    ]  # the cluster's, or those of the request's authority, in the order to be tried


class Routing:
    """The way of one request after another, through one snapshot."""

    __slots__ = ("_destinations", "_direct", "_listening", "_pools", "_routes")

    def __init__(
        self,
        routes: Routes,
        destinations: Destinations,
        pools: Pools,
        listening: Listening | None = None,
    ) -> None:
        """``listening``: where `direct` would lead back to ourselves."""
        self._listening = listening or Listening()
        self._routes = routes
        self._direct = routes.direct
        self._destinations = destinations
        self._pools = pools

    def route(self, query: RouteQuery) -> Route:
        """The route as far as it is known without DNS; raises `Refused`."""
        return _open(self._routes.match(query))

    async def way(self, query: RouteQuery) -> Way:
        """Where to dial; raises `Refused`, and `NoSuchHost` for names without an address."""
        route = self.route(query)
        cluster = route.cluster
        assert cluster is not None
        if cluster.endpoints:
            return Way(route, cluster, await self._pools.candidates(cluster, query.client))
        if query.authority is None:
            raise Refused("the client named no destination, and the route says direct", route)
        return await self._direct_way(query, route)

    async def _direct_way(self, query: RouteQuery, route: Route) -> Way:
        authority = query.authority
        assert authority is not None
        if self._direct.via is not None and not isinstance(authority, Endpoint) and not route.needs_address:
            return Way(route, self._direct, await self._pools.candidates(self._direct, query.client))
        found = [authority] if isinstance(authority, Endpoint) else await self._lookup(authority)
        allowed: list[Endpoint] = []
        refused: Refused | None = None
        for endpoint in found:
            try:
                settled = self._settled(query, route, endpoint)
            except Refused as error:
                refused = refused or error
                continue
            if settled.cluster is not self._direct and not allowed:
                assert settled.cluster is not None
                return Way(
                    settled, settled.cluster, await self._pools.candidates(settled.cluster, query.client)
                )
            if settled.cluster is self._direct:
                route = route if allowed else settled
                allowed.append(endpoint)
        if not allowed:
            raise refused or Refused("no address is left", route)
        if self._direct.via is not None:
            return Way(route, self._direct, await self._pools.candidates(self._direct, query.client))
        return Way(route, self._direct, allowed)

    def _settled(self, query: RouteQuery, route: Route, endpoint: Endpoint) -> Route:
        """The route now that the address is known; raises `Refused` where it may not be dialled."""
        if route.needs_address:
            route = _open(self._routes.match(query._replace(address=endpoint.host)))
        if route.cluster is self._direct:
            reason = self._destinations.refusal(endpoint)
            if reason is not None:
                raise Refused(f"{endpoint} is {reason.replace('_', '-')}, which direct.deny forbids", route)
            if self._listening.holds(endpoint):
                raise Refused(f"{endpoint} is this proxy itself", route, Reason.LOOP)
        return route

    async def _lookup(self, authority: Authority) -> list[Endpoint]:
        return await self._pools.lookup(authority)


def _open(route: Route) -> Route:
    if route.refusal is not None:
        raise Refused(f"{route.refusal} (rule {route.rule}, {route.place})", route)
    return route
