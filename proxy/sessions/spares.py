"""Spare connections: dialled before their client comes, where Fast Open cannot save the round trip.

A spare is handed out only while its connection is established, young, and not ended by the server, and only to a
session whose first bytes may all be sent twice, or for which the server's first word is there already: it waits in
the kernel's receive buffer. Whether the server closed it at that very moment shows within a round trip (`alive`):
then the session dials plainly, says the same again, and its client never knows. `core.spares` says how many there
should be. One `Spares` for each worker; `run` must be running for any to be dialled.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import trio

from proxy.core.address import Endpoint
from proxy.core.clusters import AUTO, Auto, Cluster
from proxy.core.fastopen import PLAIN_PLAN, Standing
from proxy.core.pace import HEDGE_UNKNOWN
from proxy.core.spares import FLYING_MOST, Demand, SparesData
from proxy.core.standings import Standings
from proxy.net import dial, sockopt
from proxy.net.relay import unsent
from proxy.net.upstream import DialFailed
from proxy.net.watch import EDGE, READ, Bell, Watch

MOST_EARLY = 14_000  # what a new connection may send at once (RFC 6928): more would wait for a round trip
_MOST_SPARES = 256  # of one worker: a descriptor each
_MOST_POOLS = 1024
_TICK = 0.25  # grain of ageing; what is handed out is checked exactly
_SLOW_ACK = 0.25  # a receiver may hold back an ACK for so long (RFC 9293 section 3.8.6.3 allows twice that)
_UNAVAILABLE_FOR = 60.0


@dataclass(slots=True, eq=False)
class Spare:
    """One established connection that nobody uses yet."""

    sock: socket.socket
    born: float  # monotonic seconds
    greeted: bool = False  # the server has said something already


@dataclass(slots=True, eq=False)
class _Pool:
    cluster: Cluster
    endpoint: Endpoint
    demand: Demand = field(default_factory=Demand)
    ready: deque[Spare] = field(default_factory=deque[Spare])  # the oldest first
    flying: int = 0
    is_useful: bool = (
        False  # there was a session for which a spare would have saved a round trip, or would be one now
    )


class Spares:
    """All spares of one worker."""

    def __init__(self, standings: Standings, watch: Watch) -> None:
        self._standings = standings
        self._watch = watch
        self._pools: dict[tuple[str, Endpoint], _Pool] = {}
        self._nursery: trio.Nursery | None = None
        self._wanted = trio.Event()
        self._unavailable_until = 0.0
        self._count = 0  # ready and on their way
        self._taken = self._wasted = 0

    async def run(self) -> None:
        """Dial and age them until cancelled or closed."""
        try:
            async with trio.open_nursery() as self._nursery:
                while True:
                    if not self._pools:
                        self._wanted = trio.Event()
                        await self._wanted.wait()
                    await trio.sleep(_TICK)
                    self._tick(self._watch.clock())
        finally:
            self.close()

    def close(self) -> None:
        """Close all of them; none will come any more."""
        nursery, self._nursery = self._nursery, None
        for pool in self._pools.values():
            for spare in list(pool.ready):
                self._drop(pool, spare)
        self._pools.clear()
        if nursery is not None:
            nursery.cancel_scope.cancel()

    def follow(self, clusters: Mapping[str, Cluster]) -> None:
        """These are the clusters from now on: spares of those that are dialled otherwise, or not at all, are closed."""
        for (name, endpoint), pool in list(self._pools.items()):
            wanted = clusters.get(name)
            if wanted is not None and wanted == pool.cluster:
                pool.cluster = wanted
                continue
            for spare in list(pool.ready):
                self._drop(pool, spare)
            pool.demand = (
                Demand()
            )  # nothing is wanted until a session comes, and those on their way are not either
            if wanted is None:
                del self._pools[name, endpoint]
            else:
                pool.cluster, pool.is_useful = wanted, False
        self.keep(clusters.values())

    def keep(self, clusters: Iterable[Cluster]) -> None:
        """Have as many as ``preconnect`` says for the endpoints of these, before any session comes."""
        for cluster in clusters:
            if _is_number(cluster.preconnect) and cluster.via is None:
                for endpoint in cluster.endpoints:
                    if isinstance(endpoint, Endpoint) and not endpoint.is_unix:
                        self._pool(cluster, endpoint)

    def plain(self) -> SparesData:
        """As plain data, for the status."""
        ready = sum(len(pool.ready) for pool in self._pools.values())
        return {"ready": ready, "taken": self._taken, "wasted": self._wasted}

    def unavailable(self) -> None:
        """This kernel does not fast-open at all for now: spares may serve every endpoint."""
        self._unavailable_until = self._watch.clock() + _UNAVAILABLE_FOR

    def want_bytes(self, cluster: Cluster, endpoint: Endpoint) -> bool:
        """Whether a spare is ready for a client that speaks first, so that its first bytes are worth waiting for."""
        pool = self._pools.get((cluster.name, endpoint))
        return pool is not None and any(not spare.greeted for spare in pool.ready)

    def take(self, cluster: Cluster, endpoint: Endpoint, early: int, safe: int) -> Spare | None:
        """A spare for a session with ``early`` first bytes, of which ``safe`` may be sent twice; it is the caller's."""
        now = self._watch.clock()
        if self._nursery is None or not self._serves(cluster, endpoint, early, safe, now):
            return None
        pool = self._pool(cluster, endpoint)
        if pool is None or (not early and pool.ready and pool.demand.greets is False):
            return None  # what its client might say was waited for, and did not come
        pool.is_useful = True
        pool.demand.arrived(now)
        taken = next(self._alive(pool, now, greeted=not early), None)
        if taken is not None:
            self._watch.remove(taken.sock.fileno())
            self._release(pool, taken)
            self._taken += 1
        self._refill(pool, now)
        return taken

    def died(self, cluster: Cluster, endpoint: Endpoint, spare: Spare) -> None:
        """One that was taken turned out to be dead; it is closed."""
        spare.sock.close()
        self._wasted += 1
        pool = self._pools.get((cluster.name, endpoint))
        if pool is not None:
            now = self._watch.clock()
            pool.demand.died(now - spare.born, now)

    def _serves(self, cluster: Cluster, endpoint: Endpoint, early: int, safe: int, now: float) -> bool:
        if safe != early or early > MOST_EARLY or endpoint.is_unix or not cluster.endpoints:
            return False
        if now < self._unavailable_until:
            return True
        standing = self._standings.get(endpoint)
        return standing.brings_nothing(cluster, safe, now) or early > standing.carries(cluster, early)

    def _pool(self, cluster: Cluster, endpoint: Endpoint) -> _Pool | None:
        key = cluster.name, endpoint
        pool = self._pools.get(key)
        if pool is None:
            if len(self._pools) >= _MOST_POOLS:
                return None
            pool = self._pools[key] = _Pool(cluster, endpoint)
            self._wanted.set()
        pool.cluster = cluster
        return pool

    def _alive(self, pool: _Pool, now: float, *, greeted: bool) -> Iterator[Spare]:
        """Those that may be handed out, the oldest first; on the way the others are closed."""
        for spare in list(pool.ready):
            if now - spare.born >= pool.demand.keeps:
                self._outlived(pool, spare)
            elif self._check(pool, spare) and (spare.greeted or not greeted):
                yield spare

    def _check(self, pool: _Pool, spare: Spare) -> bool:
        """Whether the server has kept it; whether it has spoken is noted."""
        try:
            kept = sockopt.tcp_info(spare.sock).established and not sockopt.pending_error(spare.sock)
            if kept and not spare.greeted and _has_spoken(spare.sock):
                spare.greeted = pool.demand.greets = True
        except OSError:
            kept = False
        if not kept:
            now = self._watch.clock()
            pool.demand.died(now - spare.born, now)
            self._waste(pool, spare)
        return kept

    def _refill(self, pool: _Pool, now: float) -> None:
        nursery, rtt = self._nursery, self._standings.get(pool.endpoint).rtt or HEDGE_UNKNOWN
        number = pool.cluster.preconnect
        if number is AUTO or not number:
            wanted = pool.demand.wanted(number, rtt, now)
        else:
            wanted = pool.demand.kept(number, now) if self._is_useful(pool, now) else 0
        missing = wanted - len(pool.ready) - pool.flying
        for _ in range(min(missing, FLYING_MOST - pool.flying, _MOST_SPARES - self._count)):
            if nursery is None:
                return
            try:
                nursery.start_soon(self._dial, pool)
            except RuntimeError:  # it is being closed
                return
            pool.flying += 1
            self._count += 1

    def _is_useful(self, pool: _Pool, now: float) -> bool:
        if not pool.is_useful:
            standing = self._standings.get(pool.endpoint)
            pool.is_useful = now < self._unavailable_until or standing.brings_nothing(pool.cluster, 0, now)
        return pool.is_useful

    async def _dial(self, pool: _Pool) -> None:
        clock, endpoint, demand = self._watch.clock, pool.endpoint, pool.demand
        try:
            attempt = dial.begin(endpoint, b"", PLAIN_PLAN, clock, pool.cluster.source)
            upstream = await dial.connect(endpoint, attempt, self._watch, pool.cluster.connect.timeout)
        except DialFailed:
            pool.demand.dial_failed(clock())
            self._count -= 1
            return
        except BaseException:
            self._count -= 1
            raise
        finally:
            pool.flying -= 1
        if self._nursery is None or pool.demand is not demand:
            self._count -= 1
            upstream.sock.close()
            return
        if upstream.info is not None and not upstream.info.retransmits:
            self._standings.get(endpoint).learn_rtt(upstream.info.rtt)
        spare = Spare(upstream.sock, upstream.connected)
        try:
            self._watch.add(spare.sock.fileno(), READ | EDGE, partial(self._stirred, pool, spare))
        except OSError:  # nothing left to watch it with
            self._count -= 1
            spare.sock.close()
            pool.demand.dial_failed(clock())
            return
        pool.demand.dialled()
        pool.ready.append(spare)
        self._refill(pool, clock())

    def _stirred(self, pool: _Pool, spare: Spare, _events: int) -> None:
        """The server has said something, or has ended it."""
        if not self._check(pool, spare):
            self._refill(pool, self._watch.clock())

    def _tick(self, now: float) -> None:
        for key, pool in list(self._pools.items()):
            for spare in list(pool.ready):
                if now - spare.born >= pool.demand.keeps:
                    self._outlived(pool, spare)
            self._refill(pool, now)
            is_kept = _is_number(pool.cluster.preconnect)
            if not is_kept and not pool.ready and not pool.flying and pool.demand.idle(now):
                del self._pools[key]

    def _outlived(self, pool: _Pool, spare: Spare) -> None:
        pool.demand.outlived()
        if pool.demand.greets is None:
            pool.demand.greets = spare.greeted
        self._waste(pool, spare)

    def _waste(self, pool: _Pool, spare: Spare) -> None:
        self._wasted += 1
        self._drop(pool, spare)

    def _drop(self, pool: _Pool, spare: Spare) -> None:
        self._watch.forget(spare.sock.fileno())  # the watch may be closed already
        self._release(pool, spare)
        spare.sock.close()

    def _release(self, pool: _Pool, spare: Spare) -> None:
        pool.ready.remove(spare)
        self._count -= 1


async def alive(sock: socket.socket, standing: Standing, watch: Watch) -> bool:
    """Whether the server took what was just sent on a spare, as far as that can be known within a round trip.

    A server that had closed answers with a RST, or its FIN was on the way; one behind a path that forgot the connection
    says nothing at all, not even that the bytes have come.
    """
    bell, fd, now = Bell(), sock.fileno(), watch.clock()
    rtt = standing.rtt or HEDGE_UNKNOWN
    watch.add(fd, READ | EDGE, partial(bell.ring, fd))
    try:
        for patience in (max(standing.hedge_after(AUTO) or 0.0, rtt * 1.5), rtt * 1.5 + _SLOW_ACK):
            if await bell.wait_until(now + patience):
                return _still_there(sock)
            if not unsent(sock):
                return True
    finally:
        watch.remove(fd)
    return False


def _is_number(preconnect: int | Auto) -> bool:
    return preconnect is not AUTO and bool(preconnect)


def _has_spoken(sock: socket.socket) -> bool:
    """Whether there is anything to read; raises OSError when the connection broke."""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def _still_there(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return True
    except OSError:
        return False
