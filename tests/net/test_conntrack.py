from __future__ import annotations

from pathlib import Path

import pytest

from proxy.net import conntrack


@pytest.mark.parametrize(
    ("count", "most", "says"),
    [
        ("262144", "262144", "is full (262144 of 262144"),
        ("995", "1000", "is full (995 of 1000"),
        ("900", "1000", ""),
        ("0", "0", ""),
        ("x", "1000", ""),
        (None, "1000", ""),
    ],
)
def test_a_full_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: str | None, most: str, says: str
) -> None:
    if count is not None:
        (tmp_path / "count").write_text(f"{count}\n")
    (tmp_path / "max").write_text(f"{most}\n")
    monkeypatch.setattr(conntrack, "_COUNT", str(tmp_path / "count"))
    monkeypatch.setattr(conntrack, "_MOST", str(tmp_path / "max"))
    assert says in conntrack.trouble()
    assert bool(conntrack.trouble()) is bool(says)


def test_this_machine_is_read_without_an_error() -> None:
    assert isinstance(conntrack.trouble(), str)
