"""``python -m tests.faults [JOBS]``: the anomaly law for every call, every errno and every step, several at once.

Sessions mostly wait for a clock, so a few of them beside each other cost little. Exit code 1 if the law was broken.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
JOBS = 4


def collected(paths: Sequence[str]) -> list[str]:
    """The tests in ``paths`` as pytest calls them."""
    command = [*PYTEST, "--collect-only", "-o", "addopts=--import-mode=importlib", *paths]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [line for line in said.splitlines() if "::" in line]


def run(tests: Sequence[str], jobs: int) -> bool:
    """Whether all passed; what failed is printed."""
    began = time.monotonic()
    parts = [tests[number::jobs] for number in range(jobs) if tests[number::jobs]]
    running = [
        subprocess.Popen([*PYTEST, *part], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for part in parts
    ]
    failed = 0
    for process in running:
        said, _ = process.communicate()
        failed += process.returncode != 0
        print(said if process.returncode else said.splitlines()[-1], flush=True)
    minutes = (time.monotonic() - began) / 60
    print(
        f"faults: {len(tests)} tests in {minutes:.1f} minutes: {'some failed' if failed else 'the law holds'}"
    )
    return not failed


if __name__ == "__main__":
    os.environ["THOROUGH"] = "1"
    wanted = [str(HERE / f"test_{what}.py") for what in ("errnos", "cancelled")]
    sys.exit(not run(collected(wanted), int(sys.argv[1]) if sys.argv[1:] else JOBS))
