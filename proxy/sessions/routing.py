"""From what a client asked for to the endpoints that may be dialled for it: routes, DNS, and where nobody may go."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
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

    __slots__ = ("_direct", "_listening", "_pools", "_refusal", "_routes")

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
        self._refusal = lru_cache(4096)(destinations.refusal)  # clients come again
        self._pools = pools

    def route(self, query: RouteQuery) -> Route:
        """The route as far as it is known without DNS; raises `Refused`."""
        return _open(self._routes.match(query))

    async def way(self, query: RouteQuery) -> Way:
        """Where to dial; raises `Refused`, and `NoSuchHost` for names without an address."""
        route = self.route(query)
        name = self._to_be_resolved(query, route)
        found = await self._pools.lookup(name) if name is not None else ()
        route, cluster, endpoints = self._decided(query, route, found)
        return Way(route, cluster, endpoints or await self._pools.candidates(cluster, query.client))

    def way_now(self, query: RouteQuery) -> Way | None:
        """The same where nothing has to be looked up first; else None. Raises `Refused`."""
        route = self.route(query)
        name = self._to_be_resolved(query, route)
        found = self._pools.lookup_now(name) if name is not None else ()
        if name is not None and not found:
            return None
        route, cluster, endpoints = self._decided(query, route, found)
        endpoints = endpoints or self._pools.candidates_now(cluster, query.client)
        return Way(route, cluster, endpoints) if endpoints else None

    def _to_be_resolved(self, query: RouteQuery, route: Route) -> Authority | None:
        """The name whose addresses matter, if there is one: a gateway resolves names itself."""
        assert route.cluster is not None
        if route.cluster.endpoints or not isinstance(query.authority, Authority):
            return None
        return query.authority if self._direct.via is None or route.needs_address else None

    def _decided(
        self, query: RouteQuery, route: Route, found: Sequence[Endpoint]
    ) -> tuple[Route, Cluster, Sequence[Endpoint]]:
        """The route for good, when the name is resolved; no endpoints: the cluster's own. Raises `Refused`."""
        assert route.cluster is not None
        if route.cluster.endpoints:
            return route, route.cluster, ()
        if query.authority is None:
            raise Refused("the client named no destination, and the route says direct", route)
        if isinstance(query.authority, Endpoint):
            found = (query.authority,)
        elif not found:
            return route, self._direct, ()
        allowed: list[Endpoint] = []
        refused: Refused | None = None
        for endpoint in found:
            try:
                settled = self._settled(query, route, endpoint)
            except Refused as error:
                refused = refused or error
                continue
            assert settled.cluster is not None
            if settled.cluster is not self._direct and not allowed:
                return settled, settled.cluster, ()
            if settled.cluster is self._direct:
                route = route if allowed else settled
                allowed.append(endpoint)
        if not allowed:
            raise refused or Refused("no address is left", route)
        return route, self._direct, allowed if self._direct.via is None else ()

    def _settled(self, query: RouteQuery, route: Route, endpoint: Endpoint) -> Route:
        """The route now that the address is known; raises `Refused` where it may not be dialled."""
        if route.needs_address:
            route = _open(self._routes.match(query._replace(address=endpoint.host)))
        if route.cluster is self._direct:
            reason = self._refusal(endpoint)
            if reason is not None:
                raise Refused(f"{endpoint} is {reason.replace('_', '-')}, which direct.deny forbids", route)
            if self._listening.holds(endpoint):
                raise Refused(f"{endpoint} is this proxy itself", route, Reason.LOOP)
        return route


def _open(route: Route) -> Route:
    if route.refusal is not None:
        raise Refused(f"{route.refusal} (rule {route.rule}, {route.place})", route)
    return route
