"""Reloads, one at a time; what becomes of them is tested with the supervisor."""

from __future__ import annotations

import threading
from pathlib import Path

import trio
import trio.testing

from proxy.config import Loaded, load
from proxy.core.snapshot import Bind
from proxy.net.accept import CannotListen
from proxy.service.reload import Reloads, Source
from tests.serving import Recorder

GOOD = 'listeners: {{a: {{bind: "127.0.0.1:0", mode: forward, to: "127.0.0.1:{port}"}}}}\n'


class Applied:
    """What was put in force."""

    def __init__(self) -> None:
        self.loaded: list[Loaded] = []
        self.problem: CannotListen | None = None

    async def __call__(self, loaded: Loaded) -> list[str]:
        await trio.lowlevel.checkpoint()
        if self.problem is not None:
            raise self.problem
        self.loaded.append(loaded)
        return ["dns"]


async def test_a_good_file_is_applied_and_a_bad_one_is_explained(tmp_path: Path) -> None:
    file, applied, events = tmp_path / "proxy.yaml", Applied(), Recorder()
    file.write_text(GOOD.format(port=9))
    reloads = Reloads(Source(str(file), lambda: load(str(file))), applied, events)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reloads.run)
        good = await reloads.reload()
        assert (good.ok, good.changed, good.mistakes) == (True, ["dns"], [])
        file.write_text("listeners: {a: {bind: nowhere, mode: fourward}}\n")
        bad = await reloads.reload()
        assert not bad.ok
        assert len(bad.mistakes) > 1
        assert f"{file}:1:" in bad.mistakes[0]
        assert reloads.last is bad
        applied.problem = CannotListen("a", Bind("127.0.0.1", 80), OSError(13, ""))
        file.write_text(GOOD.format(port=9))
        refused = await reloads.reload()
        (mistake,) = refused.mistakes
        assert mistake.startswith(
            "listener a cannot listen on 127.0.0.1:80: Permission denied (EACCES); a port below"
        )
        assert (reloads.done, reloads.refused, len(applied.loaded)) == (1, 2, 1)
        nursery.cancel_scope.cancel()
    assert [event for event, _ in events.said] == ["reloaded", "not_reloaded", "not_reloaded"]


async def test_without_a_file_there_is_nothing_to_read() -> None:
    reloads = Reloads(None, Applied(), Recorder())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reloads.run)
        nursery.start_soon(reloads.follow_files)
        assert (await reloads.reload()).mistakes == ["there is no configuration to read again"]
        nursery.cancel_scope.cancel()


async def test_a_storm_of_requests_is_two_reloads_and_the_last_one_sees_all(tmp_path: Path) -> None:
    file, applied, gate = tmp_path / "proxy.yaml", Applied(), threading.Event()
    file.write_text(GOOD.format(port=1))

    def read() -> Loaded:
        found = load(str(file))
        gate.wait(60)
        return found

    reloads = Reloads(Source(str(file), read), applied, Recorder())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reloads.run)
        reloads.ask()
        await trio.testing.wait_all_tasks_blocked(0.05)
        for port in range(2, 100):
            file.write_text(GOOD.format(port=port))
            reloads.ask()
        gate.set()
        last = await reloads.reload()
        assert last.ok
        ports = [loaded.snapshot.listeners[0].cluster.only[0].port for loaded in applied.loaded]
        assert ports == [1, 99]
        nursery.cancel_scope.cancel()


async def test_a_file_that_changes_is_reloaded_by_itself(tmp_path: Path) -> None:
    file, applied, events = tmp_path / "proxy.yaml", Applied(), Recorder()
    file.write_text(GOOD.format(port=1))
    reloads = Reloads(Source(str(file), lambda: load(str(file))), applied, events)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reloads.run)
        nursery.start_soon(reloads.follow_files)
        await trio.sleep(0.1)
        assert not applied.loaded
        file.write_text(GOOD.format(port=22))
        with trio.fail_after(30):
            while not applied.loaded:  # noqa: ASYNC110  # it is what is tested
                await trio.sleep(0.02)
        assert applied.loaded[0].snapshot.listeners[0].cluster.only[0].port == 22
        nursery.cancel_scope.cancel()
    assert ("config_changed", {"files": [str(file)]}) in events.said


async def test_a_file_that_is_gone_is_explained(tmp_path: Path) -> None:
    reloads = Reloads(
        Source(str(tmp_path / "none.yaml"), lambda: load(str(tmp_path / "none.yaml"))), Applied(), Recorder()
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reloads.run)
        found = await reloads.reload()
        assert "none.yaml" in found.mistakes[0]
        nursery.cancel_scope.cancel()


async def test_a_mistake_of_ours_is_no_end(tmp_path: Path) -> None:
    faults: list[str] = []

    class Listening(Recorder):
        def background_fault(self, work: str, fault: BaseException) -> None:
            faults.append(work)

    file = tmp_path / "proxy.yaml"
    file.write_text(GOOD.format(port=9))

    async def fails(loaded: Loaded) -> list[str]:
        raise RuntimeError("no")

    reloads = Reloads(Source(str(file), lambda: load(str(file))), fails, Listening())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reloads.run)
        assert "RuntimeError: no" in (await reloads.reload()).mistakes[0]
        nursery.cancel_scope.cancel()
    assert faults == ["reload"]
