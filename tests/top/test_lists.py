from __future__ import annotations

import io

import pytest
from rich.console import Console

from proxy.top import lists
from proxy.top.choice import Row, Section
from tests.top.sample import ENDPOINTS, LISTENERS, OPEN, SESSIONS

ROWS: dict[Section, list[Row]] = {
    Section.ENDPOINTS: [*ENDPOINTS],
    Section.SESSIONS: [*SESSIONS, *OPEN],
    Section.LISTENERS: [*LISTENERS],
}


def drawn(section: Section, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    with console.capture() as capture:
        console.print(lists.table(section, ROWS[section], width))
    return capture.get().splitlines()


@pytest.mark.parametrize("section", Section)
@pytest.mark.parametrize("width", [60, 80, 109, 110, 200])
def test_one_line_a_row_and_none_too_wide(section: Section, width: int) -> None:
    lines = drawn(section, width)
    assert len(lines) == 1 + len(ROWS[section])
    assert all(len(line) <= width for line in lines)


def test_endpoints_in_eighty_columns() -> None:
    head, first, *_, last = drawn(Section.ENDPOINTS, 80)
    assert head.split() == ["Endpoint", "Fast", "Open", "RTT", "Sessions", "Open", "Saved", "First", "byte"]
    assert first.split() == [
        "203.0.113.10:443",
        "fast",
        "48",
        "ms",
        "2,841",
        "4",
        "2m",
        "10s",
        "56",
        "ms",
        "/",
        "101",
        "ms",
    ]
    assert last.split() == ["192.0.2.201:6379", "down", "–", "0", "0", "–", "–"]


def test_why_where_there_is_room() -> None:
    assert "Why" not in drawn(Section.ENDPOINTS, 109)[0]
    assert "why 203.0.113.10:443 is confirmed" in drawn(Section.ENDPOINTS, 200)[1]


def test_sessions() -> None:
    _, first, hostile, lost, *_, still = drawn(Section.SESSIONS, 80)
    assert "host1.example:443" in first
    assert "517 B in the SYN" in first
    assert "client hung up" in first
    assert "-1.0 s server broke off" in lost
    assert still.startswith("– ")
    assert still.rstrip().endswith("open")
    assert not {"\x1b", "\x07", "\u202e"} & {*hostile}
    assert "[red]x[/red]" in drawn(Section.SESSIONS, 200)[2]


def test_listeners() -> None:
    _, web, db = drawn(Section.LISTENERS, 80)
    assert web.split() == ["web", "127.0.0.1:8080", "mixed", "yes", "3", "3,000", "2m", "0s", "7"]
    assert db.split() == ["db", "127.0.0.1:5432", "forward", "no", "1", "257", "10", "s", "0"]
