from __future__ import annotations

from pathlib import Path

import pytest

from proxy.commands import group
from proxy.config import load

GOOD = 'listeners: {a: {bind: "127.0.0.1:18000", mode: forward, to: "10.77.2.10:80"}}\n'


def test_what_is_shown_loads_to_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, shown = tmp_path / "first.yaml", tmp_path / "shown.yaml"
    first.write_text(GOOD)
    assert group.main(["show", str(first)]) == 0
    shown.write_text(capsys.readouterr().out)
    assert load(str(shown)).snapshot == load(str(first)).snapshot
    assert "      half_closed: 1m\n" in shown.read_text()


def test_secrets_are_hidden(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = "00112233445566778899aabbccddeeff"
    (tmp_path / "key").write_text(key)
    (tmp_path / "c.yaml").write_text(f'{GOOD}tfo_keys: "${{file:{tmp_path}/key}}"\n')
    assert group.main(["show", str(tmp_path / "c.yaml")]) == 0
    out, err = capsys.readouterr()
    assert "***" in out
    assert key not in out + err
