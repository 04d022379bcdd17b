"""A small share of a core for each of several processes: so two of them have twice the CPU of one, on any machine."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.peer import Missing
from bench.process import PATIENCE

PERIOD = 10_000
"""Microseconds in which a share is used up and given anew: the least time of waiting that one can see."""
_numbers = itertools.count()


class Shares:
    """Control groups below `parent`, made when they are asked for, and removed by `close` when nobody is left in them.

    Of version 1 or 2, by the files that a group has.
    """

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._made: list[Path] = []

    def give(self, pid: int, share: float) -> None:
        """A process, with all its threads, has `share` of a core from now on; raises OSError.

        Whatever else runs: it comes before others until it has had its share.
        """
        group = self._parent / f"bench-{os.getpid()}-{next(_numbers)}"
        group.mkdir()
        self._made.append(group)
        quota = round(share * PERIOD)
        if (group / "cpu.max").exists():
            (group / "cpu.max").write_text(f"{quota} {PERIOD}")
            (group / "cpu.weight").write_text("10000")
        else:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
            (group / "cpu.shares").write_text("262144")
        (group / "cgroup.procs").write_text(str(pid))

    def close(self) -> None:
        """Remove them, as soon as those who were in them are gone."""
        deadline = time.monotonic() + PATIENCE
        for group in self._made:
            while True:
                try:
                    group.rmdir()
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)
                else:
                    break
        self._made.clear()


@contextlib.contextmanager
def shares() -> Iterator[Shares]:
    """Raises `Missing` where no groups can be made."""
    made = Shares(place())
    try:
        yield made
    finally:
        made.close()


def place() -> Path:
    """A group below which others can be made that share out CPU; raises `Missing`."""
    for parent in _parents():
        probe = parent / f"bench-{os.getpid()}-probe"
        try:
            probe.mkdir()
        except OSError:
            continue
        try:
            if (probe / "cpu.max").exists() or (probe / "cpu.cfs_quota_us").exists():
                return parent
        finally:
            probe.rmdir()
    raise Missing("not measurable here: no control group can be made that shares out CPU (be root)")


def _parents() -> Iterable[Path]:
    """Our own group, and what is above it: of version 1 with the cpu controller, then of version 2."""
    groups = dict(_groups())
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, kind, options, *_ = line.split()
        if kind == "cgroup" and "cpu" in options.split(","):
            own = next((path for controllers, path in groups.items() if "cpu" in controllers.split(",")), "/")
        elif kind == "cgroup2":
            own = groups.get("", "/")
        else:
            continue
        yield from _upwards(Path(mount), Path(own.lstrip("/")))


def _groups() -> Iterator[tuple[str, str]]:
    """Controllers → our group, see cgroups(7); version 2 has no name."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        yield controllers, path


def _upwards(mount: Path, own: Path) -> Iterator[Path]:
    yield mount / own
    yield from (mount / above for above in own.parents if above != own)
