from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.commands.process_number import NoProcess, Process
from tests.commands.running import Running


def test_a_process_is_known_for_itself(tmp_path: Path) -> None:
    with Running(tmp_path) as proxy:
        process = Process(proxy.process.pid)
        assert not process.ended(0.01)
        process.send(signal.SIGTERM)
        assert process.ended(15)
        proxy.process.wait()
        with pytest.raises(NoProcess, match="No such process"):
            process.send(signal.SIGTERM)
        with pytest.raises(NoProcess, match="No such process"):
            Process(proxy.process.pid)


def test_others_are_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        with pytest.raises(NoProcess, match="no `tfo-proxy run`"):
            Process(other.pid)
        other.kill()
