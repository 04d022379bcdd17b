"""Scenes really played; tests/commands/test_demo.py sees them as a user does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from proxy.demo.play import play
from proxy.demo.scenes import scene
from proxy.demo.words import Result, chosen
from tests.demo.seen import fast, lossy, played

pytestmark = pytest.mark.netns


def test_a_clear_path_saves_a_round_trip(tmp_path: Path) -> None:
    said: list[str] = []
    pcap = tmp_path / "seen.pcap"
    seen = play(scene("clean"), 0.25, 2, said.append, pcap)
    result = Result.of(seen)
    assert result.plain is not None
    assert result.settled is not None
    assert result.plain > 1.9
    assert 0.95 < result.settled < result.plain - 0.5
    assert [run.session["evidence"] for run in seen.through] == ["syn_data_acked"] * 2
    assert [arrow.label for arrow in seen.warm_up.shown()][:2] == ["SYN + cookie?", "SYN-ACK + cookie"]
    assert len(chosen(seen)) == 2
    # What the log says is what crossed the line.
    early = [arrow for run in seen.through for arrow in run.arrows if arrow.label == "SYN + cookie + request"]
    assert len(early) == 2
    assert said[0] == "building the lab"
    assert said[-1] == "through the proxy, 2 of 2"
    assert pcap.stat().st_size > 1000


@pytest.mark.slow
def test_where_nobody_gets_through_once_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.demo.play.PATIENCE", 1.0)
    seen = play(scene("loses-every-syn-ack"), 0.02, 3)
    assert seen.plain.first_byte is None
    assert [run.first_byte for run in seen.through] == [None]
    assert Result.of(seen).footnote == "Nobody gets through here, with or without a proxy."


def test_how_it_goes_in_the_end_is_told_by_the_one_in_the_middle() -> None:
    slower, slowest = (replace(fast(), first_byte=late) for late in (0.15, 0.9))
    assert played([lossy(), slowest, fast(), slower]).settled is slower
    assert played([fast(), lossy()]).settled.session["evidence"] == "syn_data_lost"
