"""What /proc says of a process (proc(5)): memory, processor time, descriptors."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGESIZE")


class Usage(NamedTuple):
    """Seconds and bytes."""

    cpu: float
    resident: int
    virtual: int
    descriptors: int
    started: float  # seconds since 1970


def usage(pid: int) -> Usage | None:
    """Of one process; None where it is gone or not ours to look into."""
    directory = Path("/proc", str(pid))
    try:
        # The second field is a name in parentheses, and may hold anything.
        fields = (directory / "stat").read_text(errors="replace").rpartition(")")[2].split()
        descriptors = len(os.listdir(directory / "fd"))
    except OSError:
        return None
    cpu = (int(fields[11]) + int(fields[12])) / _TICKS
    started = _booted() + int(fields[19]) / _TICKS
    return Usage(cpu, int(fields[21]) * _PAGE, int(fields[20]), descriptors, started)


def most_descriptors() -> int:
    """How many this process may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _booted() -> float:
    with open("/proc/stat", encoding="ascii") as file:
        return next((float(line.split()[1]) for line in file if line.startswith("btime")), 0.0)
