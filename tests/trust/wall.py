"""A clock on the wall that a test sets, for programs that it starts; see wall.c.

Not libfaketime: that one also replaces sleeps, polls and the times of files, and fails some of them.
"""

from __future__ import annotations

import mmap
import shutil
import subprocess
import time
from pathlib import Path

SOURCE = Path(__file__).with_name("wall.c")
DAY, HOUR = 86400.0, 3600.0


class Wall:
    """Programs started with ``env`` see it."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        assert compiler, "needs a C compiler (Debian package gcc)"
        library, file = folder / "wall.so", folder / "wall.clock"
        command = [compiler, "-O2", "-Wall", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True)
        file.write_bytes(bytes(8))
        with file.open("r+b") as opened:
            self._memory = mmap.mmap(opened.fileno(), 8)
        self.env = {"LD_PRELOAD": str(library), "WALL_CLOCK": str(file)}
        self.ahead = 0.0  # seconds

    def set(self, ahead: float) -> None:
        """So many seconds ahead of the real one from now on."""
        with memoryview(self._memory) as view, view.cast("q") as numbers:
            numbers[0] = round(ahead * 1e9)  # one store: nobody sees half of it
        self.ahead = ahead

    def now(self) -> float:
        """What it says."""
        return time.time() + self.ahead  # it is that clock we are about
