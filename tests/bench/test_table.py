from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.rows import ROWS, Metric, Row, choose
from bench.table import Figures, Spread, Taken, draw, summarize, write

WORK = Row("work", "some work", (Metric("cost", "cost us", 1), Metric("busy", "busy %")), None, baseline="a")


def taken(*costs: tuple[int, str, float]) -> list[Taken]:
    return [Taken(turn, "work", peer, {"cost": cost, "busy": 50.0}) for turn, peer, cost in costs]


def test_a_figure_is_the_median_with_its_spread() -> None:
    figures = summarize(taken((0, "a", 3), (1, "a", 1), (2, "a", 8)), {"work": "a"})
    assert figures["work"]["a"]["cost"].value == Spread(3, 1, 8)


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that halves its speed between rounds changes every value and no ratio."""
    figures = summarize(taken((0, "a", 10), (0, "b", 20), (1, "a", 20), (1, "b", 40)), {"work": "a"})
    assert figures["work"]["b"]["cost"].ratio == Spread(2, 2, 2)


def test_a_round_the_baseline_missed_gives_no_ratio() -> None:
    figures = summarize(taken((0, "b", 20), (1, "a", 10), (1, "b", 30)), {"work": "a"})
    assert figures["work"]["b"]["cost"].ratio == Spread(3, 3, 3)
    assert figures["work"]["b"]["cost"].value == Spread(25, 20, 30)


def test_without_the_baseline_there_are_values_and_no_ratios() -> None:
    figures = summarize(taken((0, "b", 20)), {"work": "a"})
    assert figures["work"]["b"]["cost"].ratio is None
    assert "×" not in draw([WORK], figures)


def test_the_table_lines_up() -> None:
    figures = summarize(
        taken((0, "short", 1), (0, "a-long-name", 1234.56), (1, "short", 2)), {"work": "short"}
    )
    title, *lines = draw([replace(WORK, baseline="short")], figures).splitlines()
    assert title == "some work"
    assert len({len(line) for line in lines}) == 1
    assert lines[1].split() == ["short", "1.5", "(1.0–2.0)", "1.00×", "50"]
    assert lines[2].split() == ["a-long-name", "1,234.6", "1234.56×", "50"]


def test_failed_connections_are_never_silent() -> None:
    figures = summarize([Taken(0, "work", "a", {"cost": 1, "failed": 3})], {"work": "a"})
    assert "! a: up to 3 connections failed" in draw([WORK], figures)


def test_a_machine_that_was_not_calm_is_said_not_to_have_been() -> None:
    calm = summarize([Taken(0, "work", "a", {"cost": 1, "disturbed": 1.0})], {"work": "a"})
    assert "!" not in draw([WORK], calm)
    busy = summarize([Taken(0, "work", "a", {"cost": 1, "disturbed": 40.0})], {"work": "a"})
    assert "! other programs were running" in draw([WORK], busy)


def test_what_a_relay_adds_is_taken_within_a_round() -> None:
    samples = [
        Taken(turn, "work", peer, {"p50_us": value})
        for turn, peer, value in ((0, "direct", 10), (0, "a", 40), (1, "direct", 20), (1, "a", 44))
    ]
    figures = summarize(samples, {"work": "a"})
    assert figures["work"]["a"]["added_p50_us"].value == Spread(27, 24, 30)
    assert "added_p50_us" not in figures["work"]["direct"]


def test_nothing_measured_draws_nothing() -> None:
    nothing: Figures = {}
    assert draw(ROWS, nothing) == ""


def test_json_holds_samples_and_figures(tmp_path: Path) -> None:
    samples = taken((0, "a", 1), (0, "b", 2))
    write(tmp_path / "new" / "x.json", samples, summarize(samples, {"work": "a"}), {"rounds": 1})
    read = json.loads((tmp_path / "new" / "x.json").read_text())
    assert read["rounds"] == 1
    assert read["samples"][1] == {"round": 0, "row": "work", "peer": "b", "values": {"cost": 2, "busy": 50.0}}
    assert read["summary"]["work"]["b"]["cost"]["ratio"]["median"] == 2


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        ("short,idle", ["short", "idle"]),
        ("bulk", ["bulk-down", "bulk-up"]),
        ("bulk,bulk-up", ["bulk-down", "bulk-up"]),
        ("kept-1B", ["kept-1B"]),
        ("all", [row.name for row in ROWS]),
        ("", [row.name for row in ROWS if not row.extra]),
    ],
)
def test_rows_are_chosen_by_name_or_first_word(names: str, rows: list[str]) -> None:
    assert [row.name for row in choose(names)] == rows


def test_an_unknown_row_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"no row 'shrot'; there are: start, short"):
        choose("shrot")
