"""Which dials a session gets from what all sessions share."""

from __future__ import annotations

from proxy.core.address import Authority, Endpoint
from proxy.core.clusters import Cluster, Via
from proxy.core.record import SessionRecord
from proxy.sessions.chaining import ChainedDialling
from proxy.sessions.dialling import Dialling
from tests.serving import echo, one_listener, serving, upstream

TWO = (Endpoint("127.0.0.1", 1), Endpoint("127.0.0.1", 2))


def record() -> SessionRecord:
    return SessionRecord(1, "a", ("127.0.0.1", 1), "c", 0.0)


async def test_one_endpoint_needs_no_pool_and_several_share_one() -> None:
    async with upstream(echo) as alone, serving(one_listener(alone)) as here:
        shared = here.worker._shared
        assert shared.dialling(record(), alone)._pool is None
        several = Cluster("several", TWO, warm_up=False)
        one, other = (shared.dialling(record(), several) for _ in range(2))
        assert type(one) is Dialling
        assert one._pool is not None
        assert one._pool is other._pool
        assert shared.dialling(record(), Cluster("direct", ()))._pool is None


async def test_load_is_counted_from_connected_to_the_end() -> None:
    async with upstream(echo) as alone, serving(one_listener(alone)) as here:
        shared, several = here.worker._shared, Cluster("several", TWO, warm_up=False)
        pool = shared.pools.of(several)
        dialling = shared.dialling(record(), several)
        dialling.disconnected()
        assert not pool.balancer.sessions
        dialling.connected(TWO[0])
        assert pool.balancer.sessions == {TWO[0]: 1}
        dialling.disconnected()
        assert not pool.balancer.sessions


async def test_a_cluster_behind_another_proxy_is_dialled_through_it() -> None:
    via = Via("socks", Endpoint("127.0.0.1", 1080))
    far = Cluster("far", (Authority("far.example", 443),), via=via, warm_up=False)
    async with upstream(echo) as alone, serving(one_listener(alone)) as here:
        shared = here.worker._shared
        dialling = shared.dialling(record(), far)
        assert isinstance(dialling, ChainedDialling)
        assert dialling._pool is shared.pools.of(far)


async def test_sessions_share_what_was_learned() -> None:
    async with upstream(echo) as alone, serving(one_listener(alone)) as here:
        for number in (1, 2):
            async with await here.connect() as stream:
                await stream.send_all(b"x")
                assert await stream.receive_some() == b"x"
            await here.events.record(number)
        first, second = here.events.records
        assert (first.standing_before, second.standing_before) == ("unknown", first.standing_after)
