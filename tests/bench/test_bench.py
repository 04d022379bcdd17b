"""The whole benchmark, once and quickly: that it works and says what it left out, not how fast it is."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bench.load import OUT
from bench.peers import PEERS
from bench.rows import ROWS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("cc"), reason="the load generator needs a C compiler"),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="the benchmark needs two cores"),
]
ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "bench"]


@pytest.fixture
def name() -> Iterator[str]:
    chosen = f"test-{os.getpid()}"
    yield chosen
    (OUT / f"{chosen}.json").unlink(missing_ok=True)


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=400, check=False
    )


def descendants(pid: int) -> list[int]:
    children: list[int] = []
    with suppress(OSError):  # it has ended meanwhile
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (task / "children").read_text().split())
    return children + [deeper for child in children for deeper in descendants(child)]


def test_a_quick_run_measures_every_row_of_every_relay_that_is_here(name: str) -> None:
    done = bench("relay", "--quick", "--seconds", "0.1", "--name", name)
    assert done.returncode == 0, done.stderr
    result = json.loads((OUT / f"{name}.json").read_text())
    default = {peer.name for peer in PEERS if not peer.extra}
    assert set(result["peers"]) | set(result["left_out"]) == default
    for peer, why in result["left_out"].items():
        assert f"left out: {peer}: {why}" in done.stdout
    rows = [row for row in ROWS if not row.extra]
    ways = {peer.name: peer.way for peer in PEERS}
    for peer in set(result["peers"]) - set(result["left_out"]):
        for row in rows:
            if ways[peer] != row.way or not row.takes(peer):
                continue
            found = result["summary"][row.name][peer]
            assert "failed" not in found, (row.name, peer, found)
            for metric in row.metrics:
                value = found[metric.key]["value"]
                # What a relay adds is a difference: on a busy machine the direct connection may be the slower one.
                least = -math.inf if metric.key.startswith("added_") else 0
                assert least <= value["min"] <= value["median"] <= value["max"] < math.inf
            assert row.title in done.stdout
    assert {sample["row"] for sample in result["samples"]} == {row.name for row in rows}


def test_rows_and_relays_can_be_chosen(name: str) -> None:
    done = bench("--quick", "--rows", "short", "--only", "direct", "--seconds", "0.1", "--name", name)
    assert done.returncode == 0, done.stderr
    samples = json.loads((OUT / f"{name}.json").read_text())["samples"]
    assert [(sample["row"], sample["peer"]) for sample in samples] == [("short", "direct")]


@pytest.mark.parametrize(("option", "value"), [("--rows", "shrot"), ("--only", "apache"), ("--rounds", "0")])
def test_a_wrong_choice_is_a_usage_error(option: str, value: str) -> None:
    done = bench("relay", option, value)
    assert done.returncode == 2
    assert value in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_stopping_it_ends_everything_it_started(name: str, how: signal.Signals) -> None:
    running = subprocess.Popen([*COMMAND, "relay", "--name", name], cwd=ROOT, stderr=subprocess.DEVNULL)
    family: list[int] = []
    deadline = time.monotonic() + 60
    while len(family) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
        family = descendants(running.pid)
    time.sleep(0.5)
    family = sorted({*family, *descendants(running.pid)})
    running.send_signal(how)
    assert running.wait(60) == 1
    assert len(family) >= 1
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]
    assert not (OUT / f"{name}.json").exists()
