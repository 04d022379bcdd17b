"""The tests pass for a user without any privilege, apart from those that name what they need.

Here some of every room, as nobody; `make test-unprivileged` runs all of them so.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2]
NOBODY = "65534"
SOME = (
    "admin/test_server.py", "commands/test_run.py", "commands/test_doctor.py", "config/test_load.py",
    "deploy/test_systemd.py", "faults/test_resets.py", "net/test_accept.py", "net/test_dial.py",
    "net/test_sockopt.py", "service/test_listeners.py", "service/test_privileges.py", "service/test_state.py",
    "service/test_worker.py", "sessions/test_session.py", "telemetry/test_region.py", "trust/test_shortages.py",
    "wire/test_stopping.py",
)  # fmt: skip
NEEDS = re.compile(r"needs (root|podman|chromium|prometheus|an account)|cannot make a (user )?namespace")


@pytest.mark.netns
@pytest.mark.slow
def test_some_of_every_room() -> None:
    assert [name for name in SOME if not (HOUSE / "tests" / name).exists()] == []
    as_nobody = ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}"]
    tests = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rsf",
        "-p",
        "no:cacheprovider",
        *(f"tests/{name}" for name in SOME),
    ]
    with tempfile.TemporaryDirectory() as folder:  # a short name: paths of unix sockets have 107 bytes
        environment = {**os.environ, "CI": "", "TMPDIR": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [*as_nobody, *tests],
            cwd=HOUSE, env=environment, capture_output=True, text=True, check=False, timeout=400,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    skipped = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert [line for line in skipped if not NEEDS.search(line)] == []
    assert re.search(r"[1-9]\d\d passed", done.stdout), done.stdout[-300:]
