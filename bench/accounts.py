"""What clients say and what the log says, compared session by session and byte by byte."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bench.traffic import Call

CLOCKS = 0.1  # seconds that the log's clock may be behind ours: it counts from the accept
UNSAID = 0.5  # seconds that a line of the log may wait for others, and is lost with its worker
DYING = 0.05  # that a killed worker may go on
AFTER_A_KILL = 5.0  # seconds within which a client notices that its worker was killed


@dataclass
class Balance:
    """``complaints`` is empty where every byte is accounted for and nobody was harmed who need not be."""

    clients: int = 0
    sessions: int = 0  # in the log
    up: int = 0
    down: int = 0
    killed: int = 0  # clients whose worker was killed
    outcomes: Counter[str] = field(default_factory=Counter[str])
    complaints: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        return (
            f"{self.clients} clients, {self.sessions} sessions in the log, {self.up + self.down} bytes, "
            f"{self.killed} lost with a killed worker"
        )


def balance(
    calls: Sequence[Call],
    lines: Iterable[Mapping[str, Any]],
    kills: Sequence[float],
    leave_out: Sequence[str] = (),
) -> Balance:
    """Compare; ``leave_out`` names listeners that serve no client of ours."""
    logged: dict[tuple[str, str], list[tuple[float, Mapping[str, Any]]]] = defaultdict(list)
    found = Balance()
    for line in lines:
        if line["listener"] not in leave_out:
            ended = datetime.fromisoformat(line["time"]).timestamp()
            logged[line["listener"], line["client"]].append((ended - line["duration"], line))
            found.sessions += 1
    for call in sorted(calls, key=lambda call: -call.began):
        found.clients += 1
        found.outcomes[call.outcome] += 1
        own = _own(call, logged.get((call.listener, call.client), []))
        complaint = _judged(call, own, kills)
        if complaint:
            found.complaints.append(
                f"{call.kind} {call.client} after {call.ended - call.began:.2f} s: {complaint}"
            )
        elif own is None:
            found.killed += 1
        else:
            found.up += own["up_bytes"]
            found.down += own["down_bytes"]
    left = sum(map(len, logged.values()))
    if left:
        found.complaints.append(f"{left} sessions in the log that no client knows of")
    return found


def _own(call: Call, lines: list[tuple[float, Mapping[str, Any]]]) -> Mapping[str, Any] | None:
    """The line of the session that began after ``call`` did; calls that came later have had theirs."""
    for number, (began, line) in enumerate(lines):
        if began > call.began - CLOCKS:
            del lines[number]
            return line
    return None


def _judged(call: Call, line: Mapping[str, Any] | None, kills: Sequence[float]) -> str:
    if call.outcome in {"refused", "late", "wrong"}:
        return f"{call.outcome}: {_told(line)}"
    if line is None:
        if any(
            call.began < kill + DYING and kill - UNSAID < call.ended < kill + AFTER_A_KILL for kill in kills
        ):
            return ""
        return f"{call.outcome}, and there is no session of it in the log"
    if call.outcome == "broken":
        return f"broken off: {_told(line)}"
    if call.orderly and (line["up_bytes"], line["down_bytes"]) != (call.up, call.down):
        return f"{call.up} bytes up and {call.down} down: {_told(line)}"
    return ""


def _told(line: Mapping[str, Any] | None) -> str:
    if line is None:
        return "there is no session of it in the log"
    told = ("up_bytes", "down_bytes", "ended_by", "during", "reason", "detail", "endpoint")
    return ", ".join(f"{name} {line[name]}" for name in told if name in line)
