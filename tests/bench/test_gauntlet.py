"""That the gauntlet runs and judges; how good we are on it is `tests/wire/test_gauntlet.py`'s affair."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path as File

import pytest

from bench.gauntlet import QUICK, Result, draw, markdown, never_opened
from bench.load import OUT
from bench.paths import PATHS, Path, choose
from bench.runners import OWN, PLAIN

ROOT = File(__file__).parents[2]


@pytest.fixture
def name() -> Iterator[str]:
    chosen = f"test-{os.getpid()}"
    yield chosen
    (OUT / f"{chosen}.json").unlink(missing_ok=True)


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", "gauntlet", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)


@pytest.mark.netns
@pytest.mark.slow
def test_a_quick_run(name: str) -> None:
    done = bench("--quick", "--only", "plain,ours", "--rtt", "40ms", "--name", name)
    assert done.returncode in {0, 1}, (
        done.stderr
    )  # 1: a limit was missed, perhaps because the machine is busy
    written = json.loads((OUT / f"{name}.json").read_text())
    assert (written["rtt"], set(written["runners"])) == (0.04, {"plain", "ours"})
    assert [result["path"] for result in written["results"]] == [path for path in QUICK for _ in range(2)]
    for result in written["results"]:
        assert (result["failed"], len(result["times"]), result["left_out"]) == (0, 3, "")
    for path in choose(",".join(QUICK)):
        assert path.title in done.stdout


@pytest.mark.parametrize(("option", "value"), [("--paths", "caen"), ("--only", "apache"), ("--rtt", "100")])
def test_a_wrong_choice_is_a_usage_error(option: str, value: str) -> None:
    done = bench(option, value)
    assert done.returncode == 2
    assert value in done.stderr


def test_paths_are_chosen_by_name_and_once() -> None:
    assert choose("") == list(PATHS)
    assert [path.name for path in choose("clean,usual,clean")].count("clean") == 1
    assert len({path.name for path in PATHS}) == len(PATHS)


def result(runner: str, *times: float, failed: int = 0, twice: int = 0, repeated: int = 0) -> Result:
    return Result("p", runner, list(times), failed=failed, twice=twice, repeated=repeated)


PATH = Path("p", "a path [X]", mean=2.0, first=2.0, worst=3.0)


@pytest.mark.parametrize(
    ("own", "complaints"),
    [
        (result(OWN, 2.0, 2.0), []),
        (result(OWN, 1.0, 4.0), ["mean 2.50 > 2.00", "max 4.00 > 3.00"]),
        (result(OWN, 2.5, 1.0), ["first 2.50 > 2.00"]),
        (result(OWN, 2.0, failed=2), ["2 failed"]),
        (result(OWN, 2.0, failed=1), []),
        (result(OWN, 2.0, twice=9, repeated=8), ["9 bytes came twice, 8 in the log"]),
    ],
)
def test_what_is_missed_is_said(own: Result, complaints: list[str]) -> None:
    assert own.complaints(PATH, result(PLAIN, 2.0, failed=1)) == complaints
    table = draw([PATH], {"p": {PLAIN: result(PLAIN, 2.0), OWN: own}}, [PLAIN, OWN])
    assert all(complaint in table for complaint in complaints)


def test_the_table_for_the_readme() -> None:
    rows = {"p": {PLAIN: result(PLAIN, failed=12), OWN: result(OWN, 1.0, 1.5)}}
    table = markdown([PATH], rows, {PLAIN: "3", OWN: "1"}).splitlines()
    assert table[0] == "| path | a plain connect | tfo-proxy |"
    assert table[2] == "| a path | 12 of 12 failed | 1.25 |"


def test_a_peer_that_does_not_fast_open_is_found_out() -> None:
    assert never_opened({"clean": {PLAIN: result(PLAIN), OWN: result(OWN)}}, [PLAIN, OWN]) == [OWN]
    opened = result(OWN)
    opened.syn_data = 11
    assert never_opened({"clean": {PLAIN: result(PLAIN), OWN: opened}}, [PLAIN, OWN]) == []
