"""A session is cut off at its n-th step, for every n: the anomaly law holds.

A step is whatever a task does between two checkpoints. Cut off is one session alone, all of them at once as at the
end of a drain, or one by the clock that watches over sessions that relay. Each way takes every third step; with
``THOROUGH=1`` (`make faults`) all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

import pytest
import trio

from proxy.core.outcomes import EndedBy, Reason
from tests.faults.every import EVERY, every, place
from tests.faults.law import LATE, House, Scenario, come_to_rest, hurry, opened

Cut = Callable[[House], None]
THOROUGH = os.environ.get("THOROUGH") == "1"
MOST_STEPS = 400 if THOROUGH else 60
STRIDE = 1 if THOROUGH else 3


def alone(house: House) -> None:
    """The tasks of the sessions, and nothing else."""
    for scope in house.scopes:
        scope.cancel()


def overdue(house: House) -> None:
    for session in list(house.worker.sessions):
        if session.relay is not None:
            session.interrupt(EndedBy.TIMEOUT, Reason.IDLE)


def all_of_them(house: House) -> None:
    house.worker.cut_off()


class Steps(trio.abc.Instrument):
    """Counts the steps of all tasks, and does something after one of them."""

    def __init__(self, at: int | None, cut: Callable[[], None]) -> None:
        self.count = 0
        self._at, self._cut = at, cut

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.count == self._at:
            self._cut()
        self.count += 1


async def tried(scenario: Scenario, cut: Cut, at: int | None) -> tuple[int, list[str]]:
    """One session that is cut off, and one that is not: how many steps there were, and what is wrong after them."""
    async with AsyncExitStack() as stack:
        house = await opened(stack, await scenario.made(stack), cancellable=True)
        if scenario.prepare is not None:
            scenario.prepare(house.worker)
        steps = Steps(at, partial(cut, house))
        trio.lowlevel.add_instrument(steps)
        try:
            await house.call(scenario.client)
            complaints = await come_to_rest(house, 1)
        finally:
            trio.lowlevel.remove_instrument(steps)
        if not complaints:
            served = await house.call(scenario.client)
            complaints = await come_to_rest(house, 2)
            if not scenario.is_as_meant(served, 2):
                complaints.append(f"the next session: served {served}, {house.events.records[-1]}")
    return steps.count, complaints


@pytest.mark.parametrize("cut", [alone, overdue])
@every
@pytest.mark.usefixtures(place.__name__)
async def test_whenever_it_is_cut_off(name: str, cut: Cut, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    scenario, broken, count = EVERY[name], list[str](), MOST_STEPS
    for at in range(int(cut is overdue) % STRIDE, MOST_STEPS, STRIDE):
        if at >= count:
            break
        count, complaints = await tried(scenario, cut, at)
        if complaints and all(one.startswith(LATE) for one in complaints):
            count, complaints = await tried(scenario, cut, at)  # the machine was busy for too long?
        if complaints:
            broken.append(f"{at}: {complaints}")
    assert count > 3
    assert not broken, "\n" + "\n".join(broken)


@every
@pytest.mark.usefixtures(place.__name__)
async def test_whenever_all_are_cut_off(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at the end of a drain: nothing goes on, and everything is accounted for."""
    hurry(monkeypatch)
    scenario, broken, count = EVERY[name], list[str](), MOST_STEPS
    for at in range(2 % STRIDE, MOST_STEPS, STRIDE):
        if at >= count:
            break
        async with AsyncExitStack() as stack:
            house = await opened(stack, await scenario.made(stack))
            if scenario.prepare is not None:
                scenario.prepare(house.worker)
            steps = Steps(at, partial(all_of_them, house))
            trio.lowlevel.add_instrument(steps)
            try:
                await house.call(scenario.client, 0.25)  # perhaps nobody is there any more
                complaints = await come_to_rest(house, None)
            finally:
                trio.lowlevel.remove_instrument(steps)
            count = steps.count
            if len(house.events.records) > 1:
                complaints.append(f"{len(house.events.records)} records")
            if complaints:
                broken.append(f"{at}: {complaints}")
    assert not broken, "\n" + "\n".join(broken)
