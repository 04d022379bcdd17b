"""The n-th system call of a session fails, for every n, with what it plausibly may: the anomaly law holds.

Each call fails once, each kind of call with each of its errnos in turn; with ``THOROUGH=1`` (`make faults`) each call
with all of them, in parts, so that none takes long: some thousands of sessions.

What is left behind is a mistake at once. A session that is not served may be one that a busy machine kept waiting for
longer than the short timeouts here: it has a second try.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import cycle, islice

import pytest

from tests.faults.every import EVERY, every, place
from tests.faults.injection import PLAUSIBLE, Calls, injected
from tests.faults.law import LATE, Scenario, come_to_rest, hurry, opened

THOROUGH = os.environ.get("THOROUGH") == "1"
PARTS = 8 if THOROUGH else 1
UNFAULTED = "without a fault: served"


def planned(made: list[str]) -> Iterator[tuple[int, str, int]]:
    """Which call fails, and with what."""
    turns = {name: cycle(codes) for name, codes in PLAUSIBLE.items()}
    for number, name in enumerate(made):
        codes = PLAUSIBLE[name] if THOROUGH else (next(turns[name]),)
        for code in codes:
            yield number, name, code


async def tried(scenario: Scenario, calls: Calls, fault: tuple[int, str, int] | None) -> list[str]:
    """One session with, and one without a fault; what is wrong after them."""
    async with AsyncExitStack() as stack:
        house = await opened(stack, await scenario.made(stack))
        if scenario.prepare is not None:
            scenario.prepare(house.worker)
        calls.made.clear()
        calls.fail_at, calls.planned, calls.errno = fault or (None, "", 0)
        calls.counting = True
        served = await house.call(scenario.client)
        complaints = await come_to_rest(house, 1)
        calls.counting = False
        if fault is None and served is not scenario.served:
            complaints.append(f"{UNFAULTED} {served}")
        if not complaints:
            served = await house.call(scenario.client)
            complaints = await come_to_rest(house, 2)
            if not scenario.is_as_meant(served, 2):
                complaints.append(f"the next session: served {served}, {house.events.records[-1]}")
    return complaints


async def tried_again(scenario: Scenario, calls: Calls, fault: tuple[int, str, int] | None) -> list[str]:
    """As `tried`, with a second try where a session was only not served: the machine may have been busy."""
    complaints = await tried(scenario, calls, fault)
    if complaints and all(one.startswith((LATE, UNFAULTED)) for one in complaints):
        complaints = await tried(scenario, calls, fault)
    return complaints


@pytest.mark.parametrize("part", range(PARTS))
@every
@pytest.mark.usefixtures(place.__name__)
async def test_whichever_call_fails(name: str, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    scenario, broken = EVERY[name], list[str]()
    with injected() as calls:
        assert await tried_again(scenario, calls, None) == []
        for fault in islice(planned(list(calls.made)), part, None, PARTS):
            complaints = await tried_again(scenario, calls, fault)
            if complaints:
                number, call, code = fault
                broken.append(f"{number} {call} {errno.errorcode[code]}: {complaints}")
    assert not broken, "\n" + "\n".join(broken)
