"""Names to endpoints, through a cache: asked for each dial, and answered from memory as long as the answer is good.

One question at a time for a name, asked by a task of its own: an answer that comes when its asker has left is kept for
the next one. Failures are remembered for a short while, and an answer that has expired is still given while there is no
newer one (RFC 8767). An answer of one address family is given to those who wait, but not remembered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

import trio

from proxy.core.address import Authority, Endpoint
from proxy.core.snapshot import Dns, Family
from proxy.net.answers import Addresses, LookupFailed, Servers
from proxy.net.names import Names

_MOST_NAMES = 4096
_MOST_OPEN = 512  # look-ups at a time; each has two sockets
_MOST_IN_THREADS = 64  # where each has two threads
_LONGEST = 3600.0  # whatever a TTL says
_SHORTEST = 1.0
_STALE_AFTER = 0.5  # with an old answer at hand, a new one is not waited for longer

_ValueT = TypeVar("_ValueT", Addresses, Servers)


class NoSuchHost(Exception):
    """A name with no address; says which name and what the resolver said."""


class Early(list[Endpoint]):
    """Endpoints of one address family, where the answer for the other is still to come."""

    def __init__(
        self,
        found: list[Endpoint],
        now: Callable[[], list[Endpoint]],
        whole: Callable[[], Awaitable[list[Endpoint]]],
    ) -> None:
        """``now`` gives all as far as they have come, ``whole`` waits for them and may raise `NoSuchHost`."""
        super().__init__(found)
        self.now = now
        self.whole = whole


class Found(NamedTuple):
    """Endpoints, the best first, and until when they are good (trio's clock)."""

    endpoints: list[Endpoint]
    until: float
    complete: bool = True  # False: one address family has not answered yet


class Service(NamedTuple):
    """The servers of the lowest priority number with their weights, and until when that is good."""

    servers: list[tuple[Authority, int]]
    until: float


class _Entry(Generic[_ValueT]):
    """What is known of one name. Old answers stay beside the failure to renew them."""

    __slots__ = ("asking", "error", "good_until", "late", "news", "part", "retry_at", "value")

    def __init__(self) -> None:
        self.value: _ValueT | None = None
        self.part: _ValueT | None = None  # one family's answer, of the look-up under way
        self.error = ""
        self.good_until = 0.0
        self.retry_at = 0.0
        self.asking = False
        self.late = False  # the look-up under way takes longer than an old answer is held back for it
        self.news = trio.Event()

    def has_news(self, *, whole: bool) -> bool:
        """Whether the look-up under way is over, or has brought a part that is enough."""
        return not self.asking or (self.part is not None and not whole)


class Resolver:
    """All look-ups of a worker."""

    def __init__(self, dns: Dns | None = None, names: Names | None = None) -> None:
        self._dns = dns or Dns()
        self._names = names or Names(self._dns.servers)
        self._addresses: dict[str, _Entry[Addresses]] = {}
        self._services: dict[str, _Entry[Servers]] = {}
        self._open: Counter[str] = Counter()  # look-ups under way, by client and by zone
        self._most = _MOST_IN_THREADS if self._names.uses_threads else _MOST_OPEN

    async def lookup(self, authority: Authority, client: str = "") -> list[Endpoint]:
        """The endpoints of one name, for ``client`` (its address); raises `NoSuchHost`."""
        found = await self.find(authority, client)
        if found.complete:
            return found.endpoints
        return Early(found.endpoints, lambda: self.so_far(authority), lambda: self._whole(authority, client))

    async def find(self, authority: Authority, client: str = "", *, whole: bool = False) -> Found:
        """The same, and how long that is good; ``whole``: not before both families have answered."""
        value, until, complete = await self._known(
            self._addresses, authority.host, self._names.addresses, client, whole=whole
        )
        endpoints = self._endpoints(value, authority.port)
        if not endpoints and not complete:
            return await self.find(authority, client, whole=True)
        if not endpoints:
            raise NoSuchHost(f"{authority.host}: there is no {self._dns.family} address")
        return Found(endpoints, until, complete)

    def lookup_now(self, authority: Authority) -> list[Endpoint]:
        """The endpoints of one name, where they are known and need not be asked for again; else none."""
        entry = self._addresses.get(authority.host)
        if entry is None or entry.value is None or entry.asking:
            return []
        if trio.current_time() >= max(entry.good_until, entry.retry_at):
            return []
        return self._endpoints(entry.value, authority.port)

    def so_far(self, authority: Authority) -> list[Endpoint]:
        """The endpoints of one name as far as they have come."""
        entry = self._addresses.get(authority.host)
        value = None if entry is None else (entry.part if entry.asking else entry.value)
        return [] if value is None else self._endpoints(value, authority.port)

    async def _whole(self, authority: Authority, client: str) -> list[Endpoint]:
        return (await self.find(authority, client, whole=True)).endpoints

    def _endpoints(self, addresses: Addresses, port: int) -> list[Endpoint]:
        return [Endpoint(host, port) for host in addresses.hosts if _is_of(host, self._dns.family)]

    async def service(self, name: str) -> Service:
        """The servers of ``_https._tcp.example.com``; raises `NoSuchHost`."""
        value, until, _ = await self._known(
            self._services, name, lambda name, _: self._names.servers(name), ""
        )
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
        self,
        cache: dict[str, _Entry[_ValueT]],
        name: str,
        ask: Callable[[str, Callable[[_ValueT], None]], Awaitable[_ValueT]],
        client: str,
        *,
        whole: bool = False,
    ) -> tuple[_ValueT, float, bool]:
        entry = cache.get(name) or self._new(cache, name)
        if not entry.asking and trio.current_time() >= max(entry.good_until, entry.retry_at):
            self._begin(cache, name, entry, ask, client)
        has_old = entry.value is not None and trio.current_time() < entry.good_until + self._dns.stale
        if entry.asking and not (has_old and entry.late):
            limit = _STALE_AFTER if has_old else self._names.patience()
            with trio.move_on_after(limit) as waited:
                while not entry.has_news(whole=whole):
                    await entry.news.wait()
            entry.late = entry.late or waited.cancelled_caught
            if waited.cancelled_caught and not has_old and entry.part is None:
                raise NoSuchHost(f"{name}: no answer within {limit:g} s")
        now = trio.current_time()
        if entry.asking and entry.part is not None:
            return entry.part, now, False
        if entry.value is not None and now < entry.good_until + self._dns.stale:
            return entry.value, max(entry.good_until, entry.retry_at), True
        raise NoSuchHost(entry.error or f"{name}: no answer yet")

    def _begin(
        self,
        cache: dict[str, _Entry[_ValueT]],
        name: str,
        entry: _Entry[_ValueT],
        ask: Callable[[str, Callable[[_ValueT], None]], Awaitable[_ValueT]],
        client: str,
    ) -> None:
        """Have ``name`` looked up, if that many look-ups at a time may be."""
        keys: tuple[str, ...] = _keys(name, client)
        free = self._most - self._open[""]
        # Who has many look-ups under way has to leave as many places as that to the others: so neither one client nor
        # one zone whose servers do not answer can take all of them.
        if free <= 0 or any(self._open[key] >= free for key in keys):
            if entry.value is None:
                raise NoSuchHost(f"{name}: too many names are being looked up just now")
            return
        self._open.update(("", *keys))
        entry.asking, entry.late, entry.part, entry.news = True, False, None, trio.Event()
        trio.lowlevel.spawn_system_task(self._ask, cache, name, entry, ask, keys)

    async def _ask(
        self,
        cache: dict[str, _Entry[_ValueT]],
        name: str,
        entry: _Entry[_ValueT],
        ask: Callable[[str, Callable[[_ValueT], None]], Awaitable[_ValueT]],
        keys: tuple[str, ...],
    ) -> None:
        """Renew ``entry``; it keeps its old answer where that fails. An exception here would end the program."""

        def on_part(part: _ValueT) -> None:
            entry.part = part
            self._tell(entry)

        try:
            value = await ask(name, on_part)
            ttl = self._dns.ttl if value.ttl is None else min(max(value.ttl, _SHORTEST), _LONGEST)
            if not value.complete:
                ttl = min(ttl, self._dns.negative_ttl)
            entry.value, entry.error, entry.good_until = value, "", trio.current_time() + ttl
            entry.retry_at = 0.0
            if cache.pop(name, None) is not None:
                cache[name] = entry  # the oldest answer is the first to be forgotten
        except LookupFailed as failure:
            if failure.lasting:
                entry.value = None
            self._failed(entry, str(failure))
        except Exception as error:  # noqa: BLE001  # what no resolver should raise is no answer either
            self._failed(entry, f"{name}: {error!r}")
        finally:
            self._open.subtract(("", *keys))
            self._open += Counter()  # forget those that have none
            entry.asking, entry.part = False, None
            self._tell(entry)

    def _failed(self, entry: _Entry[_ValueT], error: str) -> None:
        entry.error = error
        entry.retry_at = trio.current_time() + self._dns.negative_ttl

    def _tell(self, entry: _Entry[_ValueT]) -> None:
        news, entry.news = entry.news, trio.Event()
        news.set()

    def _new(self, cache: dict[str, _Entry[_ValueT]], name: str) -> _Entry[_ValueT]:
        if len(cache) >= _MOST_NAMES:
            cache.pop(next((old for old, entry in cache.items() if not entry.asking), next(iter(cache))))
        entry = cache[name] = _Entry()
        return entry


def _keys(name: str, client: str) -> tuple[str, ...]:
    """What counts look-ups of ``client``, where there is one, and of names that end alike."""
    zone = ".".join(name.removesuffix(".").split(".")[-2:])
    return (f"zone {zone}", f"client {client}") if client else (f"zone {zone}",)


def _is_of(host: str, family: Family) -> bool:
    return family is Family.AUTO or (":" in host) is (family is Family.IPV6)
