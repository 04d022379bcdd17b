from __future__ import annotations

import itertools

import pytest
import trio

from proxy.service.supervised import FIRST_PAUSE, LONGEST_PAUSE, keep_running
from tests.serving import Recorder


class Listening(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def background_fault(self, work: str, fault: BaseException) -> None:
        self.told.append(f"{work}: {fault!r}")


@pytest.mark.autojump
async def test_it_begins_again_after_a_pause_that_grows_and_ends_when_the_work_does() -> None:
    events, began = Listening(), list[float]()

    async def work() -> None:
        began.append(trio.current_time())
        if len(began) == 9:
            await trio.sleep(2 * LONGEST_PAUSE)
        if len(began) < 11:
            raise ExceptionGroup("both", [KeyError(1), OSError(2)]) if len(began) % 2 else ValueError("x")

    await keep_running("a loop", work, events)
    pauses = [after - before for before, after in itertools.pairwise(began)]
    assert pauses[:8] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert pauses[8:] == [2 * LONGEST_PAUSE + FIRST_PAUSE, 2.0], "after a long time it is no trouble any more"
    assert len(events.told) == 10
    assert events.told[1] == "a loop: ValueError('x')"


@pytest.mark.autojump
async def test_a_cancelled_loop_is_no_fault() -> None:
    events = Listening()
    with trio.move_on_after(5) as scope:
        await keep_running("a loop", trio.sleep_forever, events)
    assert scope.cancelled_caught
    assert not events.told
