from __future__ import annotations

from pathlib import Path

import pytest

from proxy.commands import group

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "c.yaml"


def test_a_good_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text(
        "listeners:\n  a: {bind: '127.0.0.1:1', mode: forward, to: 'h:1'}\n"
        "  b: {bind: '127.0.0.1:2', mode: forward, to: 'h:1'}\n"
    )
    assert group.main(["check", str(path)]) == 0
    assert capsys.readouterr() == (f"{path}: ok, 2 listeners, 1 cluster\n", "")


def test_warnings_are_told_beside(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text(
        "listeners: {a: {bind: '127.0.0.1:1', mode: forward, to: 'h:1'}}\nclusters:\n  c: {endpoints: 'h:1'}\n"
    )
    assert group.main(["check", str(path)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{path}: ok, 1 listener, 2 clusters\n"
    assert err.splitlines() == [
        f"{path}:3:3: warning: cluster 'c' is not used; name it in a `to`, or leave it out",
        "      c: {endpoints: 'h:1'}",
        "      ^",
    ]


def test_a_bad_file(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text("drain: 5\nlistners: {}\n")
    assert group.main(["check", str(path)]) == 78
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"{path}:1:8: drain: '5' has no unit; write 5s, 5ms or 5m",
        "    drain: 5",
        "           ^",
        f"{path}:2:1: unknown key 'listners' in the file; did you mean 'listeners'?",
        "    listners: {}",
        "    ^",
    ]


def test_the_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert group.main(["check", str(EXAMPLE)]) == 0
    assert capsys.readouterr().out == f"{EXAMPLE}: ok, 1 listener, 1 cluster\n"
