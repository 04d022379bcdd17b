from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from proxy.core.address import Endpoint
from proxy.core.clusters import Cluster
from proxy.core.evidence import Evidence
from proxy.core.fastopen import State
from proxy.service import memory as room
from proxy.service.memory import MOST_PATIENCES, Memory
from tests.serving import Recorder

ENDPOINT = Endpoint("192.0.2.1", 443)


def remembering(path: Path | None) -> tuple[Memory, Recorder]:
    events = Recorder()
    return Memory(str(path) if path else None, events), events


def learn(memory: Memory) -> None:
    standing = memory.standings.get(ENDPOINT)
    for _ in range(2):
        plan = standing.plan(Cluster("c", ()), 100, 0.0)
        standing.learn(Evidence.SYN_DATA_LOST, plan, 0.0, 100)
    for _ in range(5):
        memory.patience("web", "api", {443}).server_spoke()


def test_what_was_learned_outlives_the_process(tmp_path: Path) -> None:
    first, _ = remembering(tmp_path / "state.json")
    learn(first)
    first.save(1.0)
    second, events = remembering(tmp_path / "state.json")
    second.load(1000.0)
    standing = second.standings.peek(ENDPOINT)
    assert standing is not None
    assert standing.state is State.QUARANTINED
    assert second.patience("web", "api", {443}).server_first == 1.0
    assert second.patience("web", "other", {443}).server_first < 0.5
    assert events.said == [("state_read", {"path": str(tmp_path / "state.json"), "endpoints": 1})]


def test_without_a_path_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    memory, events = remembering(None)
    memory.load(0.0)
    learn(memory)
    memory.save(1.0)
    assert not list(tmp_path.iterdir())
    assert not events.said


def test_a_damaged_file_is_a_line_in_the_log_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text('{"format": ')
    memory, events = remembering(path)
    memory.load(0.0)
    ((event, _),) = events.said
    assert event == "state_not_read"
    assert len(memory.standings) == 0


def test_a_disk_that_takes_nothing_is_complained_about_once(tmp_path: Path) -> None:
    memory, events = remembering(tmp_path / "nowhere" / "state.json")
    learn(memory)
    for _ in range(3):
        memory.save(1.0)
    assert [event for event, _ in events.said] == ["state_not_saved"]


def test_patience_is_one_for_each_listener_and_cluster() -> None:
    memory, _ = remembering(None)
    assert memory.patience("a", "c", set()) is memory.patience("a", "c", set())
    assert memory.patience("a", "c", set()) is not memory.patience("b", "c", set())
    assert memory.patience("mail", "c", {25}).server_first == 1.0


def test_patiences_are_bounded() -> None:
    memory, _ = remembering(None)
    first = memory.patience("a", "0", set())
    for number in range(1, MOST_PATIENCES + 1):
        memory.patience("a", str(number), set())
    assert len(memory._patience) == MOST_PATIENCES
    assert memory.patience("a", "0", set()) is not first


async def test_it_is_saved_now_and_then_while_sessions_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "SAVE_EVERY", 0.01)
    memory, events = remembering(tmp_path / "state.json")
    for number in range(2000):
        memory.standings.get(Endpoint("192.0.2.2", number + 1)).learn_rtt(0.1)
    began = trio.current_time()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(memory.save_now_and_then)
            while trio.current_time() < began + 0.5 or not os.path.exists(tmp_path / "state.json"):  # noqa: ASYNC240
                for number in range(2000):
                    memory.standings.get(Endpoint("192.0.2.2", number + 1))
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert not events.said
    again, _ = remembering(tmp_path / "state.json")
    again.load(0.0)
    assert len(again.standings) == 2000
