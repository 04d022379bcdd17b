"""Names to endpoints, through a cache: asked for each dial, and answered from memory as long as the answer is good.

One question at a time for a name (single flight), failures remembered for a short while, and an answer that has
expired is still given while nobody can tell a newer one (RFC 8767).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

import trio

from proxy.core.address import Authority, Endpoint
from proxy.core.snapshot import Dns, Family
from proxy.net.answers import Addresses, LookupFailed, Servers
from proxy.net.names import Names

_MOST_NAMES = 4096
_MOST_OPEN = 512  # look-ups at a time; each has a socket or waits for a thread
_LONGEST = 3600.0  # whatever a TTL says
_SHORTEST = 1.0
_STALE_AFTER = 0.5  # with an old answer at hand, a new one is not waited for longer

_ValueT = TypeVar("_ValueT", Addresses, Servers)


class NoSuchHost(Exception):
    """A name with no address; says which name and what the resolver said."""


class Found(NamedTuple):
    """Endpoints, the best first, and until when they are good (trio's clock)."""

    endpoints: list[Endpoint]
    until: float


class Service(NamedTuple):
    """The servers of the lowest priority number with their weights, and until when that is good."""

    servers: list[tuple[Authority, int]]
    until: float


class _Entry(Generic[_ValueT]):
    """What is known of one name. Old answers stay beside the failure to renew them."""

    __slots__ = ("asking", "error", "good_until", "retry_at", "value")

    def __init__(self) -> None:
        self.value: _ValueT | None = None
        self.error = ""
        self.good_until = 0.0
        self.retry_at = 0.0
        self.asking: trio.Event | None = None


class Resolver:
    """All look-ups of a worker."""

    def __init__(self, dns: Dns | None = None, names: Names | None = None) -> None:
        self._dns = dns or Dns()
        self._names = names or Names(self._dns.servers)
        self._addresses: dict[str, _Entry[Addresses]] = {}
        self._services: dict[str, _Entry[Servers]] = {}
        self._open = 0

    async def lookup(self, authority: Authority) -> list[Endpoint]:
        """The endpoints of one name; raises `NoSuchHost`."""
        return (await self.find(authority)).endpoints

    async def find(self, authority: Authority) -> Found:
        """The same, and how long that is good; raises `NoSuchHost`."""
        value, until = await self._known(self._addresses, authority.host, self._names.addresses)
        endpoints = self._endpoints(value, authority.port)
        if not endpoints:
            raise NoSuchHost(f"{authority.host}: there is no {self._dns.family} address")
        return Found(endpoints, until)

    def lookup_now(self, authority: Authority) -> list[Endpoint]:
        """The endpoints of one name, where they are known and nobody has to be asked again; else none."""
        entry = self._addresses.get(authority.host)
        if entry is None or entry.value is None or entry.asking is not None:
            return []
        if trio.current_time() >= max(entry.good_until, entry.retry_at):
            return []
        return self._endpoints(entry.value, authority.port)

    def _endpoints(self, addresses: Addresses, port: int) -> list[Endpoint]:
        return [Endpoint(host, port) for host in addresses.hosts if _is_of(host, self._dns.family)]

    async def service(self, name: str) -> Service:
        """The servers of ``_https._tcp.example.com``; raises `NoSuchHost`."""
        value, until = await self._known(self._services, name, self._names.servers)
        if not value.servers:
            raise NoSuchHost(f"{name}: the service is not offered")
        best = min(server.priority for server in value.servers)
        return Service(
            [
                (Authority(server.host, server.port), max(server.weight, 1))
                for server in value.servers
                if server.priority == best
            ],
            until,
        )

    async def _known(
        self, cache: dict[str, _Entry[_ValueT]], name: str, ask: Callable[[str], Awaitable[_ValueT]]
    ) -> tuple[_ValueT, float]:
        entry = cache.get(name) or self._new(cache, name)
        while (asking := entry.asking) is not None:  # somebody asks already: hear it with them
            await asking.wait()
        if trio.current_time() >= max(entry.good_until, entry.retry_at):
            if self._open < _MOST_OPEN:
                await self._ask(cache, name, entry, ask)
            elif entry.value is None:
                raise NoSuchHost(f"{name}: too many names are being looked up just now")
        now = trio.current_time()
        if entry.value is not None and now < entry.good_until + self._dns.stale:
            return entry.value, max(entry.good_until, entry.retry_at)
        raise NoSuchHost(entry.error or f"{name}: no answer yet")

    def _new(self, cache: dict[str, _Entry[_ValueT]], name: str) -> _Entry[_ValueT]:
        if len(cache) >= _MOST_NAMES:
            cache.pop(next((old for old, entry in cache.items() if entry.asking is None), next(iter(cache))))
        entry = cache[name] = _Entry()
        return entry

    async def _ask(
        self,
        cache: dict[str, _Entry[_ValueT]],
        name: str,
        entry: _Entry[_ValueT],
        ask: Callable[[str], Awaitable[_ValueT]],
    ) -> None:
        """Renew ``entry``; it keeps its old answer where that fails."""
        done = entry.asking = trio.Event()
        self._open += 1
        stale = entry.value is not None and trio.current_time() < entry.good_until + self._dns.stale
        try:
            with trio.move_on_after(_STALE_AFTER if stale else math.inf):
                value = await ask(name)
                ttl = self._dns.ttl if value.ttl is None else min(max(value.ttl, _SHORTEST), _LONGEST)
                entry.value, entry.error, entry.good_until = value, "", trio.current_time() + ttl
                cache[name] = cache.pop(name, entry)  # the oldest answer is the first to be forgotten
                return
            entry.retry_at = trio.current_time() + self._dns.negative_ttl
        except LookupFailed as failure:
            if failure.lasting:
                entry.value = None
            entry.error = str(failure)
            entry.retry_at = trio.current_time() + self._dns.negative_ttl
        finally:
            self._open -= 1
            entry.asking = None
            done.set()


def _is_of(host: str, family: Family) -> bool:
    return family is Family.AUTO or (":" in host) is (family is Family.IPV6)
