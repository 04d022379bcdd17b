"""Real worker processes under a team in this process; the whole program has tests/wire/test_workers.py."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from proxy.core.address import Endpoint
from proxy.core.fastopen import State
from proxy.core.snapshot import Cluster, Snapshot
from proxy.core.standings import Remembered
from proxy.service.crew import hand as hand_module
from proxy.service.crew import orders
from proxy.service.crew.hand import CannotServe
from proxy.service.crew.team import Team
from proxy.service.listeners import Listeners
from proxy.service.memory import Memory
from tests.serving import Recorder, echo, one_listener, upstream


def several(cluster: Cluster, count: int) -> Snapshot:
    return replace(one_listener(cluster), workers=count)


@asynccontextmanager
async def team_of(snapshot: Snapshot) -> AsyncIterator[tuple[Team, Listeners, Memory, Recorder]]:
    listeners, events = Listeners(), Recorder()
    memory = Memory(None, events)
    listeners.open(snapshot, snapshot.workers)
    team = Team(snapshot, memory, events, "error")
    try:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(60):
                await nursery.start(team.run, listeners)
            yield team, listeners, memory, events
            nursery.cancel_scope.cancel()
    finally:
        listeners.close()


async def until(condition: object) -> None:
    assert callable(condition)
    with trio.fail_after(30):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.05)


async def ask(listeners: Listeners) -> None:
    async with await trio.open_tcp_stream(*listeners.shares[0]["a"][0].getsockname()) as stream:
        await stream.send_all(b"x")
        assert await stream.receive_some() == b"x"


async def test_what_they_do_is_reported_and_they_end_in_order() -> None:
    async with upstream(echo) as cluster, team_of(several(cluster, 2)) as (team, listeners, memory, events):
        assert [(one.number, one.state) for one in team.workers()] == [(0, "ready"), (1, "ready")]
        stream = await trio.open_tcp_stream(*listeners.shares[0]["a"][0].getsockname())
        await stream.send_all(b"x")
        await stream.receive_some()
        for _ in range(20):
            await ask(listeners)
        await until(lambda: memory.ledger.total.sessions == 20)
        await until(lambda: sum(team.census().by_way.values()) == 1)
        assert len(team.census().oldest) == 1
        assert len(team.recent()) == 20
        assert cluster.only[0] in dict(memory.standings)
        assert team.health(cluster.only[0]) is None
        assert team.spares() == {"ready": 0, "taken": 0, "wasted": 0}
        assert all(3 < one.tasks < 100 for one in team.workers())
        assert team.warming() is None
        team.warm_up()
        team.set_level("warning")
        assert await team.drain(0.2) == 1
        assert {one.pid for one in team.workers()} == {0}
        await stream.aclose()
        assert not events.said


async def test_they_share_the_warm_up() -> None:
    async with (
        upstream(echo, warm_up=True) as cluster,
        team_of(several(cluster, 2)) as (team, _, memory, _),
    ):
        await until(lambda: (now := team.warming()) is not None and now.over)
        warmed = team.warming()
        assert warmed is not None
        assert (warmed.endpoints, warmed.done) == (1, 1), "one of the two has done it"
        await until(lambda: memory.standings.peek(cluster.only[0]) is not None)


async def test_one_that_dies_is_replaced_and_its_sockets_are_minded() -> None:
    async with upstream(echo) as cluster, team_of(several(cluster, 2)) as (team, listeners, _, events):
        victim = team.workers()[1].pid
        os.kill(victim, signal.SIGSTOP)  # so that what comes to it waits
        streams = [await trio.open_tcp_stream(*listeners.shares[0]["a"][0].getsockname()) for _ in range(12)]
        os.kill(victim, signal.SIGKILL)
        for stream in streams:
            await stream.send_all(b"x")
            with trio.fail_after(20):
                assert await stream.receive_some() == b"x"
            await stream.aclose()
        await until(lambda: team.workers()[1].state == "ready")
        assert team.workers()[1].restarts == 1
        (died,) = [fields for event, fields in events.said if event == "worker_died"]
        assert (died["pid"], died["signal"]) == (victim, "SIGKILL")
        for _ in range(8):
            await ask(listeners)


async def test_what_one_reports_the_others_are_told() -> None:
    async with upstream(echo) as cluster, team_of(several(cluster, 2)) as (team, _, memory, _):
        first, second = team._hands
        entry = Remembered("192.0.2.1", 80, State.CONFIRMED, rtt=0.1)
        team._heard(first, orders.Report([], [], [], [entry], [], [], [], (0, 0, 0)))
        assert list(first._lessons.values()) == []
        assert list(second._lessons.values()) == [orders.Learn(standings=[entry])]
        standing = memory.standings.peek(Endpoint("192.0.2.1", 80))
        assert standing is not None
        assert standing.state is State.CONFIRMED


async def test_who_cannot_begin_is_not_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hand_module, "ENTRY", "no-such-command")
    async with upstream(echo) as cluster:
        with pytest.RaisesGroup(CannotServe, flatten_subgroups=True):
            async with team_of(several(cluster, 1)):
                pass


async def test_one_that_says_nothing_any_more_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async with upstream(echo) as cluster, team_of(several(cluster, 2)) as (team, listeners, _, events):
        monkeypatch.setattr(hand_module, "_DEAF", 3.0)
        monkeypatch.setattr(hand_module, "_GRACE", 0.2)
        await trio.sleep(1.5)  # what is waited for now began before
        victim = team.workers()[0].pid
        os.kill(victim, signal.SIGSTOP)
        await until(lambda: "worker_died" in dict(events.said))
        assert dict(events.said)["worker_stuck"]["pid"] == victim
        await until(lambda: team.workers()[0].state == "ready")
        for _ in range(8):
            await ask(listeners)
