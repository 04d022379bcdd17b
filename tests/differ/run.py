"""Runs scenarios, compares what came of them, and asks again alone where something was worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from tests.differ.accepted import is_accepted
from tests.differ.actors import LAG
from tests.differ.judge import Complaint, compare, sessions_of
from tests.differ.scenarios import Scenario
from tests.differ.stage import By, Lane, Stage, installed, use_names

AT_ONCE = 72
BATCH = 160
AGAIN = 3

PAIRS = ((By.AUTO, By.OFF), (By.OFF, By.DIRECT), (By.OFF, By.PEER), (By.AUTO, By.DIRECT), (By.AUTO, By.PEER))


@dataclass(frozen=True, slots=True)
class Finding:
    """A scenario in which ours is worse, each time it was asked."""

    scenario: Scenario
    complaints: list[Complaint]
    lanes: list[Lane]

    def __str__(self) -> str:
        lines = [str(self.scenario), *_lines(self.complaints)]
        for lane in self.lanes:
            for line in lane.log:
                kept = {key: line[key] for key in LOGGED if key in line}
                lines.append(f"      {lane.by} log: {kept}")
        return "\n".join(lines)


LOGGED = (
    "reply", "open", "evidence", "standing_before", "standing_after", "first_byte", "saved", "lost", "hedged",
    "redialled", "tried", "ended_by", "reason", "detail", "duration",
)  # fmt: skip


def complaints_of(lanes: Sequence[Lane]) -> list[Complaint]:
    """All that is worse in the lanes of one scenario, and not documented."""
    by = {lane.by: lane for lane in lanes}
    found: list[Complaint] = []
    for ours, theirs in PAIRS:
        if theirs in by:
            known = {one.what for one in found if one.theirs is By.OFF or one.theirs is theirs}
            worse = compare(by[ours], by[theirs], by[By.DIRECT])
            found += [one for one in worse if one.what not in known]
    return [one for one in found if not is_accepted(by[one.ours].scenario, one)]


def _lines(complaints: Sequence[Complaint]) -> list[str]:
    """One for each kind of difference, with the sessions that have it."""
    kinds: dict[tuple[By, By, str], list[Complaint]] = {}
    for one in complaints:
        kinds.setdefault((one.ours, one.theirs, one.what), []).append(one)
    lines: list[str] = []
    for (ours, theirs, what), found in kinds.items():
        sessions = ",".join(str(one.session + 1) for one in found)
        lines.append(f"    {ours} against {theirs}: {what}, session {sessions}: {found[-1].text}")
    return lines


def perform(
    scenarios: Sequence[Scenario], *, at_once: int = AT_ONCE, code: Path | None = None
) -> dict[int, list[Lane]]:
    """Run scenarios in one lab; the lanes of each, by its place."""
    with Stage(scenarios, installed(), code=code) as stage:

        async def main() -> None:
            use_names()
            limit = trio.CapacityLimiter(at_once)

            async def one(lane: Lane) -> None:
                async with limit:
                    await stage.run(lane, sessions_of(lane.scenario))

            async with trio.open_nursery() as background:
                background.start_soon(LAG.measure)
                async with trio.open_nursery() as nursery:
                    for lane in stage.lanes:
                        nursery.start_soon(one, lane)
                background.cancel_scope.cancel()

        trio.run(main)
        stage.read_logs()
    found: dict[int, list[Lane]] = {}
    place = -1
    for lane in stage.lanes:
        place += lane.by is By.AUTO
        found.setdefault(place, []).append(lane)
    return found


def examine(scenarios: Sequence[Scenario], *, again: int = AGAIN, code: Path | None = None) -> list[Finding]:
    """Run scenarios, and those that seem worse again, a few at a time: what stays is a finding."""
    suspects: list[tuple[Scenario, list[Complaint], list[Lane]]] = []
    for at in range(0, len(scenarios), BATCH):
        part = scenarios[at : at + BATCH]
        for place, lanes in perform(part, code=code).items():
            if complaints := complaints_of(lanes):
                suspects.append((part[place], complaints, lanes))
    for attempt in range(again):
        if not suspects:
            break
        print(f"asking {len(suspects)} again", flush=True)
        repeated = perform(
            [scenario for scenario, _, _ in suspects], at_once=max(4, 16 >> attempt), code=code
        )
        still: list[tuple[Scenario, list[Complaint], list[Lane]]] = []
        for place, (scenario, complaints, _) in enumerate(suspects):
            lanes = repeated[place]
            known = {(one.ours, one.theirs, one.what) for one in complaints}
            same = [one for one in complaints_of(lanes) if (one.ours, one.theirs, one.what) in known]
            if same:
                still.append((scenario, same, lanes))
        suspects = still
    return [Finding(*suspect) for suspect in suspects]
