"""Shares of a core in groups that the real kernel keeps; what has no right to make any is told so."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import shares
from bench.peer import Missing

BUSY = "import time\nend = time.monotonic() + 30\nwhile time.monotonic() < end: pass"


def cpu(pid: int) -> float:
    return time.clock_gettime(~pid << 3 | 2)


def groups(parent: Path) -> list[Path]:
    return list(parent.glob(f"bench-{os.getpid()}-*"))


@pytest.mark.root
def test_whoever_has_a_share_gets_no_more_of_the_core() -> None:
    try:
        parent = shares.place()
    except Missing as missing:
        pytest.skip(str(missing))
    with shares.shares() as made, subprocess.Popen([sys.executable, "-c", BUSY]) as busy:
        made.give(busy.pid, 0.1)
        assert len(groups(parent)) == 1
        before, began = cpu(busy.pid), time.monotonic()
        time.sleep(1.0)
        used = (cpu(busy.pid) - before) / (time.monotonic() - began)
        busy.kill()
    assert used < 0.2
    assert not groups(parent)


@pytest.mark.root
def test_nothing_is_left_of_it_when_the_run_is_stopped() -> None:
    try:
        parent = shares.place()
    except Missing as missing:
        pytest.skip(str(missing))
    with pytest.raises(KeyboardInterrupt), shares.shares() as made:
        with subprocess.Popen([sys.executable, "-c", BUSY]) as busy:
            made.give(busy.pid, 0.5)
            busy.kill()
        raise KeyboardInterrupt
    assert not groups(parent)


def test_no_group_to_be_had_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shares, "_parents", lambda: [tmp_path / "nowhere", tmp_path])
    with pytest.raises(Missing, match="not measurable here"):
        shares.place()
    assert list(tmp_path.iterdir()) == []


def test_version_2_is_written_as_it_wants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = shares.Shares(tmp_path)

    def mkdir(self: Path) -> None:  # as the kernel does, a directory comes with its files
        os.mkdir(self)
        (self / "cpu.max").write_text("max 100000")
        (self / "cpu.weight").write_text("100")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    made.give(4711, 0.25)
    (group,) = groups(tmp_path)
    assert (group / "cpu.max").read_text() == f"{shares.PERIOD // 4} {shares.PERIOD}"
    assert (group / "cgroup.procs").read_text() == "4711"
