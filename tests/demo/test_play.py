"""Scenes really played; tests/commands/test_demo.py sees them as a user does."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.demo.play import play
from proxy.demo.scenes import scene
from proxy.demo.words import Result, chosen

pytestmark = pytest.mark.netns


def test_a_clear_path_saves_a_round_trip(tmp_path: Path) -> None:
    said: list[str] = []
    pcap = tmp_path / "seen.pcap"
    played = play(scene("clean"), 0.1, 2, said.append, pcap)
    result = Result.of(played)
    assert result.plain is not None
    assert 1.9 < result.plain < 2.6
    assert all(trips is not None and 0.95 < trips < 1.6 for trips in (*result.through, *result.trusting))
    assert [run.session["evidence"] for run in played.through] == ["syn_data_acked"] * 2
    assert [arrow.label for arrow in played.warm_up.shown()][:2] == ["SYN + cookie?", "SYN-ACK + cookie"]
    assert len(chosen(played)) == 2
    # What the log says is what crossed the line.
    early = [
        arrow for run in played.through for arrow in run.arrows if arrow.label == "SYN + cookie + request"
    ]
    assert len(early) == 2
    assert said[0] == "building the lab"
    assert said[-1] == "through the proxy, 2 of 2"
    assert pcap.stat().st_size > 1000


def test_where_nobody_gets_through_once_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.demo.play.PATIENCE", 1.0)
    played = play(scene("loses-every-syn-ack"), 0.02, 3)
    assert played.plain.first_byte is None
    assert [run.first_byte for run in played.through] == [None]
    assert Result.of(played).footnote == "Nobody gets through here, with or without a proxy."
