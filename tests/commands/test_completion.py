from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.commands import group

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert group.main(["completion", shell]) == 0
    assert f"_TFO_PROXY_COMPLETE={shell}_complete" in capsys.readouterr().out


def test_bash_reads_its_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert group.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "position", "completed"),
    [
        ("tfo-proxy ch", 1, ["check"]),
        ("tfo-proxy ", 1, list(group.COMMANDS)),
        ("tfo-proxy run --fo", 2, ["--forward"]),
    ],
)
def test_what_the_script_is_told(words: str, position: int, completed: list[str]) -> None:
    environment = {"_TFO_PROXY_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(position)}
    done = subprocess.run(
        [sys.executable, "-m", "proxy"],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line.partition(",")[2] for line in done.stdout.splitlines()] == completed
