"""What the program shows of itself while it serves."""

from __future__ import annotations

from dataclasses import replace

import trio

from proxy.config import Loaded
from proxy.config.schema import Config
from proxy.core.clusters import Health
from proxy.service.crew.alone import Alone
from proxy.service.front import Front
from proxy.service.listeners import Listeners
from proxy.service.memory import Memory
from tests.serving import Recorder, echo, one_listener, upstream


async def test_what_is_shown() -> None:
    async with upstream(echo, health=Health()) as cluster:
        snapshot, events, listeners = one_listener(cluster), Recorder(), Listeners()
        memory = Memory(None, events)
        crew = Alone(snapshot, memory, events)
        front = Front(Loaded("x.yaml", snapshot, Config(), ()), "info", memory, listeners, crew)
        assert front.places() == {"a": []}
        listeners.open(snapshot)
        async with trio.open_nursery() as nursery:
            await nursery.start(crew.run, listeners)
            front.state = "ready"
            port = listeners.shares[0]["a"][0].getsockname()[1]
            (place,) = front.places()["a"]
            assert place.bind == f"127.0.0.1:{port}"
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(b"x")
                await stream.receive_some()
                assert sum(front.census().by_way.values()) == 1
            await events.record()
            assert len(front.recent()) == 1
            assert front.ledger.total.sessions == 1
            assert cluster.only[0] in dict(front.standings)
            assert front.health(cluster.only[0]) is True
            assert [worker.state for worker in front.workers()] == ["ready"]
            assert len(front.regions) == 1
            assert "listeners:" in front.config_text()
            front.state = "draining"
            assert front.places() == {"a": []}
            await crew.drain(0.0)
            nursery.cancel_scope.cancel()
    assert replace(snapshot) == front.snapshot
