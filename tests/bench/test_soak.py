"""The soak in short; `make soak` is the real one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.service import Holdings
from bench.soak import Verdict, grown
from proxy.lab.namespaces import python_environment

SOAKED = """
from bench.soak import soaked
verdict = soaked(9.0, 25.0, pause=0.8)
print(verdict)
raise SystemExit(bool(verdict.complaints) or verdict.balance.clients < 60 or len(verdict.deeds) < 4)
"""


@pytest.mark.netns
def test_traffic_of_all_kinds_while_everything_is_disturbed() -> None:
    # In a process of its own: trio keeps threads for later, and these would stay in the lab's namespace.
    done = subprocess.run(
        [sys.executable, "-c", SOAKED],
        env=python_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_verdict_says_what_is_wrong() -> None:
    assert "everything is accounted for" in str(Verdict())
    assert "3 were lost" in str(Verdict(complaints=["3 were lost"]))


def test_what_is_left_is_complained_of() -> None:
    before = Holdings(50 << 20, [25, 25, 40], [15, 23, 23])
    assert not grown("near", before, before)
    assert not grown("near", before, Holdings(60 << 20, [25, 26, 42], [14, 22, 23]))
    assert grown("near", before, Holdings(80 << 20, [25, 25, 40], [15, 23, 23]))
    assert grown("near", before, Holdings(50 << 20, [25, 25, 43], [15, 23, 23]))
    assert grown("near", before, Holdings(50 << 20, [25, 25, 40], [15, 23, 24]))
    assert grown("near", before, Holdings(50 << 20, [25, 40], [15, 23]))
