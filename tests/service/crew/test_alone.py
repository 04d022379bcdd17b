"""The worker in this process, as the supervisor and the admin see it."""

from __future__ import annotations

import os

import trio
import trio.testing

from proxy.core.clusters import Health
from proxy.service.crew.alone import Alone
from proxy.service.listeners import Listeners
from proxy.service.memory import Memory
from tests.serving import Recorder, echo, one_listener, upstream


async def test_what_is_open_and_what_has_ended() -> None:
    async with upstream(echo, health=Health()) as cluster:
        snapshot, listeners, events = one_listener(cluster), Listeners(), Recorder()
        listeners.open(snapshot)
        crew = Alone(snapshot, Memory(None, events), events)
        async with trio.open_nursery() as nursery:
            await nursery.start(crew.run, listeners)
            stream = await trio.open_tcp_stream(*listeners.shares[0]["a"][0].getsockname())
            await stream.send_all(b"x")
            assert await stream.receive_some() == b"x"
            (worker,) = crew.workers()
            assert (worker.pid, worker.state, worker.open) == (os.getpid(), "ready", 1)
            census = crew.census()
            endpoint = cluster.only[0]
            assert census.by_way == {("a", cluster.name, endpoint): 1}
            assert [session.is_open for session in census.oldest] == [True]
            assert not crew.recent()
            assert crew.health(endpoint) is True
            await stream.aclose()
            await events.record()
            (ended,) = crew.recent()
            assert (ended.listener, ended.up_bytes, ended.is_open) == ("a", 1, False)
            assert not crew.census().by_way
            assert crew.spares()["ready"] == 0
            assert await crew.drain(1.0) == 0
            assert crew.workers()[0].state == "draining"
        assert not listeners.shares[0]["a"][0].fileno() >= 0


async def test_a_drain_can_be_hurried() -> None:
    async with upstream(echo) as cluster:
        snapshot, listeners, events = one_listener(cluster), Listeners(), Recorder()
        listeners.open(snapshot)
        crew = Alone(snapshot, Memory(None, events), events)
        async with trio.open_nursery() as nursery:
            await nursery.start(crew.run, listeners)
            async with await trio.open_tcp_stream(*listeners.shares[0]["a"][0].getsockname()) as stream:
                await stream.send_all(b"x")
                await stream.receive_some()
                nursery.start_soon(crew.drain, 60.0)
                await trio.testing.wait_all_tasks_blocked(0.02)
                crew.cut_off()
                assert (await events.record()).reason == "drain"
