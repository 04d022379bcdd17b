"""Health checks against real sockets on loopback; tests/wire/test_clusters.py has them in the program."""

from __future__ import annotations

import socket

import trio

from proxy.core.address import Endpoint
from proxy.core.clusters import Cluster, Health
from proxy.core.standings import Standings
from proxy.net.resolve import Resolver
from proxy.net.watch import Watch
from proxy.service.checks import Checks
from proxy.sessions.pools import Pools


async def test_an_endpoint_comes_and_goes() -> None:
    tell, hear = trio.open_memory_channel[tuple[Endpoint, bool]](10)
    standings, pools, watch = Standings(), Pools(Resolver()), Watch()
    checks = Checks(
        standings, pools, watch, lambda _, endpoint, healthy, __: tell.send_nowait((endpoint, healthy))
    )
    with socket.create_server(("127.0.0.1", 0)) as there, socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))
        good, bad = Endpoint(*there.getsockname()), Endpoint(*gone.getsockname())
        cluster = Cluster("c", (good, bad), health=Health(every=0.02, timeout=10.0, rise=2, fall=3))
        async with trio.open_nursery() as nursery:
            await nursery.start(watch.run)
            assert cluster.health is not None
            nursery.start_soon(checks.run, cluster, cluster.health)
            with trio.fail_after(30):
                assert await hear.receive() == (bad, False)
                assert pools.of(cluster).balancer.availability.is_down(bad)
                gone.listen()
                assert await hear.receive() == (bad, True)
            assert standings.get(good).rtt is not None
            nursery.cancel_scope.cancel()
