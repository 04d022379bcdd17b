"""From what a client asked for to the endpoints that may be dialled for it: routes, DNS, and what may not be dialled.

Sessions and `tfo-proxy check --route` decide by the same functions: `Routing.before_dns`, `Routing.at_address` and
`Routing.decide`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from proxy.core.address import Authority, Endpoint
from proxy.core.clusters import Cluster
from proxy.core.destinations import OWN, Destinations
from proxy.core.outcomes import Reason
from proxy.core.routes import Route, RouteQuery, Routes
from proxy.net import own
from proxy.net.listening import Listening
from proxy.net.resolve import Early, NoSuchHost
from proxy.sessions.pools import Pools

_NO_ADDRESS = ""  # in place of a numeric address: the name has none, so it is in no network


class Refused(Exception):
    """No way there; ``route`` says which rule refused it, where a rule did. The message is for the operator.

    ``brief`` is the message without the destination and the rule, for one who has both at hand.
    """

    def __init__(
        self, problem: str, route: Route | None = None, reason: Reason = Reason.DENIED, brief: str = ""
    ) -> None:
        super().__init__(problem)
        self.route = route
        self.reason = reason
        self.brief = brief or problem


class Way(NamedTuple):
    """Where a session goes."""

    route: Route
    cluster: Cluster
    candidates: Sequence[
        Endpoint
    ]  # the cluster's, or those of the request's authority, in the order to be tried


class Routing:
    """The way of one request after another, through one snapshot."""

    __slots__ = ("_destinations", "_direct", "_listening", "_pools", "_refusal", "_routes")

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
        self._refusal = lru_cache(4096)(destinations.refusal)  # clients come again
        self._pools = pools

    async def way(self, query: RouteQuery, otherwise: Cluster | None = None) -> Way:
        """Where to dial; raises `Refused`, and `NoSuchHost` for names without an address that is needed.

        ``otherwise``: where sessions go that no rule takes; None: `direct`.
        """
        route, name = self.before_dns(query, otherwise)
        try:
            found: Sequence[Endpoint] = ()
            if name is not None:
                found = await self._pools.lookup(name, query.client)
            if isinstance(found, Early):
                found = await self._judged(query, route, found, otherwise)
        except NoSuchHost:
            if otherwise is None or not self.is_left_over(query, route):
                raise
            found = ()
        route, cluster, endpoints = self.decide(query, route, found, otherwise)
        if isinstance(found, Early) and endpoints:
            endpoints = self._early(query, found, list(endpoints), otherwise)
        return Way(route, cluster, endpoints or await self._pools.candidates(cluster, query.client))

    async def _judged(
        self, query: RouteQuery, route: Route, found: Early, otherwise: Cluster | None
    ) -> Sequence[Endpoint]:
        """Addresses of one family where they are enough to find the way, else those of both."""
        if route.needs_address:
            return await found.whole()
        try:
            self.decide(query, route, found, otherwise)
        except Refused:
            return await found.whole()
        return found

    def _early(
        self, query: RouteQuery, found: Early, allowed: list[Endpoint], otherwise: Cluster | None
    ) -> Early:
        """The addresses that may be dialled of those that have come, and of those to come."""

        def judge(some: Sequence[Endpoint]) -> list[Endpoint]:
            try:
                route, _ = self.before_dns(query, otherwise)
                return list(self.decide(query, route, some, otherwise)[2])
            except Refused:
                return []

        async def whole() -> list[Endpoint]:
            return judge(await found.whole())

        return Early(allowed, lambda: judge(found.now()), whole)

    def way_now(self, query: RouteQuery, otherwise: Cluster | None = None) -> Way | None:
        """The same where nothing has to be looked up first; else None. Raises `Refused`."""
        route, name = self.before_dns(query, otherwise)
        found = self._pools.lookup_now(name) if name is not None else ()
        if name is not None and not found:
            return None
        route, cluster, endpoints = self.decide(query, route, found, otherwise)
        endpoints = endpoints or self._pools.candidates_now(cluster, query.client)
        return Way(route, cluster, endpoints) if endpoints else None

    def before_dns(
        self, query: RouteQuery, otherwise: Cluster | None = None
    ) -> tuple[Route, Authority | None]:
        """The route as far as it is known without DNS, and the name whose addresses matter; raises `Refused`.

        No name: nothing has to be looked up. A gateway resolves names itself, unless a rule wants the address. The name
        is absolute: completed from the resolver's search list it would be another one than the rules have judged.
        """
        route = self._match(query, otherwise)
        assert route.cluster is not None
        if not isinstance(query.authority, Authority):
            return route, None
        is_dialled = not route.cluster.endpoints and self._direct.via is None
        if not route.needs_address and not is_dialled:
            return route, None
        return route, Authority(f"{query.authority.host}.", query.authority.port)

    def is_left_over(self, query: RouteQuery, route: Route) -> bool:
        """Whether no rule takes a name that turned out to have no address. Raises `Refused`."""
        return route.needs_address and self._match(query._replace(address=_NO_ADDRESS), None).rule is None

    def decide(
        self,
        query: RouteQuery,
        route: Route,
        found: Sequence[Endpoint],
        otherwise: Cluster | None = None,
    ) -> tuple[Route, Cluster, Sequence[Endpoint]]:
        """The route for good, from what `before_dns` gave and the addresses ``found``; raises `Refused`.

        No endpoints: the cluster's own.
        """
        if route.needs_address and not found:
            route = self._match(query._replace(address=_NO_ADDRESS), otherwise)
        assert route.cluster is not None
        if route.cluster.endpoints and not route.needs_address:
            return route, route.cluster, ()
        if query.authority is None:
            raise Refused("the client named no destination, and the route says direct", route)
        if isinstance(query.authority, Endpoint):
            found = (query.authority,)
        elif not found:
            return route, self._direct, ()
        return self._by_addresses(query, route, found, otherwise)

    def _by_addresses(
        self, query: RouteQuery, route: Route, found: Sequence[Endpoint], otherwise: Cluster | None
    ) -> tuple[Route, Cluster, Sequence[Endpoint]]:
        allowed: list[Endpoint] = []
        refused: Refused | None = None
        for endpoint in found:
            try:
                settled = self.at_address(query, route, endpoint, otherwise)
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

    def at_address(
        self, query: RouteQuery, route: Route, endpoint: Endpoint, otherwise: Cluster | None = None
    ) -> Route:
        """The route now that the address is known; raises `Refused` where it may not be dialled."""
        if route.needs_address:
            route = self._match(query._replace(address=endpoint.host), otherwise)
        if route.cluster is self._direct:
            reason = self._refusal(endpoint)
            if reason is None and self._destinations.forbids_own(endpoint) and own.reaches_own(endpoint.host):
                reason = OWN
            if reason is not None:
                what = "an address of this machine" if reason == OWN else reason.replace("_", "-")
                remedy = f'`direct: {{allow: ["{endpoint.host}"]}}` would allow it'
                problem = f"{endpoint} is {what}, which direct.deny forbids; {remedy}"
                raise Refused(problem, route, brief=f"direct.deny has {reason}")
            if self._listening.holds(endpoint):
                brief = "this proxy itself"
                raise Refused(f"{endpoint} is {brief}", route, Reason.LOOP, f"it is {brief}")
        return route

    def _match(self, query: RouteQuery, otherwise: Cluster | None) -> Route:
        """The rule that takes the session, or ``otherwise``; raises `Refused` where the rule does."""
        route = self._routes.match(query)
        if route.refusal is not None:
            place = f"rule {route.rule}, {route.place}"
            raise Refused(f"{route.refusal} ({place})", route, brief=route.refusal)
        if otherwise is not None and route.rule is None and not route.needs_address:
            route = route._replace(cluster=otherwise)
        return route
