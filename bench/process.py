"""One program pinned to one core: started, measured, and ended for certain."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

PATIENCE = 5.0
"""Seconds a program has to end after SIGTERM before it is killed."""


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """What is started in here runs on `core` only, its threads and children included; None: on all."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def waited(pids: Iterable[int]) -> float:
    """Seconds these programs were ready to run and something else had their core.

    The second figure of /proc/PID/task/TID/schedstat, in nanoseconds; 0 where the kernel does not count it.
    """
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[1])
    return total / 1e9


class Process:
    """A running program with all its children. Use as a context manager: leaving ends it."""

    def __init__(
        self, command: list[str], *, core: int | None, directory: Path, env: Mapping[str, str]
    ) -> None:
        self.output = directory / "output"
        with self.output.open("wb") as output, pinned(core):
            # Its own session, so that Ctrl-C reaches the benchmark alone, which then ends it in order.
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **env},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def ended(self) -> bool:
        return self._popen.poll() is not None

    def last_words(self) -> str:
        """The end of what it has printed, for an error message."""
        with self.output.open("rb") as output:
            output.seek(max(0, self.output.stat().st_size - 2000))
            lines = output.read().decode(errors="replace").strip().splitlines()
        return " | ".join(line.strip() for line in lines[-3:]) or "no output"

    def pids(self) -> list[int]:
        """The program and its descendants."""
        found, queue = [], [self._popen.pid]
        while queue:
            pid = queue.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    queue += map(int, (task / "children").read_text().split())
        return found

    def cpu(self) -> float:
        """Seconds of CPU used so far by all threads of all processes, in nanosecond steps.

        A process's CPU clock is `~pid << 3 | CPUCLOCK_SCHED` (include/linux/posix-timers.h): what
        clock_getcpuclockid(3) returns. The figures of /proc/PID/stat move in steps of 10 ms.
        """
        total = 0.0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                total += time.clock_gettime(~pid << 3 | 2)
        return total

    def resident(self) -> int:
        """Bytes of resident memory, summed over the processes."""
        pages = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def end(self) -> None:
        """SIGTERM, then SIGKILL for whatever of it is left."""
        family = self.pids() if not self.ended else []
        if not self.ended:
            self._popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(PATIENCE)
        left = [pid for pid in family if pid != self._popen.pid or not self.ended]
        for pid in left:
            with contextlib.suppress(OSError):
                if os.getsid(pid) == self._popen.pid:
                    os.kill(pid, signal.SIGKILL)
        self._popen.wait()
        deadline = time.monotonic() + PATIENCE
        while any(Path(f"/proc/{pid}").exists() for pid in left) and time.monotonic() < deadline:
            time.sleep(0.01)  # whoever has inherited them takes note of their end
