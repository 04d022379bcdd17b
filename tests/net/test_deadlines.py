from __future__ import annotations

import time

import pytest
import trio

from proxy.net.deadlines import Deadlines


class Calls:
    """Who was called, and when."""

    def __init__(self) -> None:
        self.deadlines: Deadlines[str] = Deadlines()
        self.made: list[tuple[str, float]] = []
        self.began = trio.current_time()

    def set(self, who: str, seconds: float) -> None:
        def call() -> None:
            self.made.append((who, round(trio.current_time() - self.began, 6)))

        self.deadlines.set(who, trio.current_time(), seconds, call)


@pytest.mark.autojump
async def test_each_is_called_in_time_and_once() -> None:
    calls = Calls()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(calls.deadlines.run)
        calls.set("slow", 5.0)
        await trio.sleep(1)
        calls.set("quick", 2.0)
        calls.set("slower", 5.0)
        assert sorted(calls.deadlines) == ["quick", "slow", "slower"]
        await trio.sleep(30)
        assert calls.made == [("quick", 3.0), ("slow", 5.0), ("slower", 6.0)]
        calls.set("later", 0.5)
        await trio.sleep(1)
        assert calls.made[3:] == [("later", 31.5)]
        assert not list(calls.deadlines)
        nursery.cancel_scope.cancel()


@pytest.mark.autojump
async def test_who_has_done_it_is_not_called() -> None:
    calls = Calls()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(calls.deadlines.run)
        for number in range(100):
            calls.set(str(number), 5.0)
            await trio.sleep(0.1)
            if number != 50:
                calls.deadlines.call_off(str(number), 5.0)
        calls.deadlines.call_off("nobody", 5.0)
        calls.deadlines.call_off("nobody", 7.0)
        await trio.sleep(30)
        assert calls.made == [("50", 10.0)]
        nursery.cancel_scope.cancel()


@pytest.mark.autojump
async def test_a_call_may_set_the_next() -> None:
    calls = Calls()

    def again() -> None:
        calls.made.append(("first", trio.current_time() - calls.began))
        calls.set("second", 1.0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(calls.deadlines.run)
        calls.deadlines.set("first", calls.began, 1.0, again)
        await trio.sleep(5)
        assert calls.made == [("first", 1.0), ("second", 2.0)]
        nursery.cancel_scope.cancel()


async def test_who_stood_still_hears_first_what_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.net.deadlines._LOOK_FIRST", 1.0)  # time enough for this machine, too
    calls = Calls()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(calls.deadlines.run)
        calls.set("heard", 1.5)
        calls.set("late", 1.5)
        await trio.testing.wait_all_tasks_blocked()
        time.sleep(2.7)  # noqa: ASYNC251  # the whole process
        await trio.sleep(0.01)
        calls.deadlines.call_off("heard", 1.5)
        with trio.fail_after(30):
            while not calls.made:  # noqa: ASYNC110  # nobody tells
                await trio.sleep(0.01)
        assert [who for who, _ in calls.made] == ["late"]
        nursery.cancel_scope.cancel()
