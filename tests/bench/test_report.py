from __future__ import annotations

from pathlib import Path

import pytest

from bench.report import BEGIN, END, Document, between, markdown, plots, write


def figure(median: float, ratio: float | None = None) -> Document:
    spread = {"median": median, "min": median - 1, "max": median + 1}
    return {
        "value": spread,
        "ratio": None if ratio is None else {"median": ratio, "min": ratio, "max": ratio},
    }


RELAY: Document = {
    "began": "2026-01-02T03:04:05+00:00",
    "machine": {"cpu": "Z80", "cores": 2, "kernel": "6.1", "python": "3.11"},
    "effort": {"seconds": 1.0},
    "rounds": 3,
    "peers": {"haproxy": "2.6", "ours": "0.1"},
    "left_out": {"squid": "it is not installed"},
    "summary": {
        "short": {
            "haproxy": {"cpu_us": figure(90, 1.0), "rate": figure(1000)},
            "ours": {"cpu_us": figure(126, 1.4), "failed": figure(3), "disturbed": figure(20)},
            "direct": {"rate": figure(2000)},
        }
    },
}
GROWTH: Document = {
    "sweeps": {
        "routes": {
            "title": "CPU, by routes", "across": "routes", "up": "us",
            "series": {"ours": [[10, 100], [1000, 101]]}, "fits": {"ours": [100, 0.001, 0.9]},
        }
    }
}  # fmt: skip


def test_the_page_says_everything_that_was_measured() -> None:
    text = markdown(RELAY, GROWTH)
    assert "| haproxy | 90.0 (89.0–91.0) | 1.00 | 1,000 (999–1,001) | – | – |" in text
    assert "| ours | 126.0 (125.0–127.0) | 1.40 | – | – | – |" in text
    assert "failed in a run, at most: ours: 4" in text
    assert "Left out: squid (it is not installed)" in text
    assert "waited up to 20 %" in text
    assert "| CPU, by routes | 10: 100 us, 1,000: 101 us | 0.001 us | 0.90 |" in text


def test_there_is_a_plot_for_every_picture_of_the_page() -> None:
    text, drawn = markdown(RELAY, GROWTH), plots(RELAY, GROWTH)
    assert set(drawn) == {"short.svg", "routes.svg"}
    assert all(f"(plots/{name})" in text for name in drawn)
    assert "direct" not in drawn["short.svg"]


def test_it_goes_between_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nbehind\n")
    for _ in range(2):
        write("new", {"a.svg": "<svg/>"}, page, tmp_path / "plots")
    assert page.read_text() == f"before\n{BEGIN}\nnew\n{END}\nbehind\n"
    assert (tmp_path / "plots" / "a.svg").read_text() == "<svg/>"
    with pytest.raises(ValueError, match="has no"):
        between("a page", "new")
