"""Signals that the real program gets before it is ready, and what a parent may have left it with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.lab.namespaces import python_environment

PATIENCE = 30.0
RUN = [sys.executable, "-m", "proxy", "run"]
ALONE = ["--mixed", "127.0.0.1:0"]
IN_A_CONTAINER = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


class Started:
    """The program, at whatever point of its start."""

    def __init__(self, folder: Path, command: Sequence[str]) -> None:
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=python_environment(), stderr=log)
        self.pid = self.process.pid

    def until_it_catches_signals(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not caught(self.pid) >> (signal.SIGUSR1 - 1) & 1:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def until(self, event: str, number: int = 1) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.events().count(event) < number:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)

    def events(self) -> list[str]:
        lines = self.log.read_text().splitlines()
        return [json.loads(line)["event"] for line in lines if line.startswith("{")]


def caught(pid: int) -> int:
    """The mask of signals that a process handles (proc(5), SigCgt)."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(text.partition("SigCgt:")[2].split()[0], 16)


@contextmanager
def started(folder: Path, command: Sequence[str]) -> Iterator[Started]:
    program = Started(folder, command)
    try:
        yield program
    finally:
        program.process.kill()
        program.process.wait(PATIENCE)


@pytest.fixture(params=[1, 2])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """How it is started, with one worker and with two."""
    file = tmp_path / "proxy.yaml"
    listener = {"bind": "127.0.0.1:0", "mode": "mixed"}
    file.write_text(json.dumps({"listeners": {"a": listener}, "workers": request.param}))
    return [*RUN, str(file)]


@pytest.mark.parametrize("delay", [0.0, 0.2])
def test_no_signal_before_it_is_ready_ends_it(tmp_path: Path, run: list[str], delay: float) -> None:
    with started(tmp_path, run) as program:
        program.until_it_catches_signals()
        time.sleep(delay)
        for number in (signal.SIGHUP, signal.SIGUSR1):
            program.process.send_signal(number)
        if not delay:  # it would begin an upgrade if it were ready
            program.process.send_signal(signal.SIGUSR2)
        program.until("ready")
        for event in ("status", "reloaded"):
            program.until(event)
        program.process.send_signal(signal.SIGTERM)
        program.process.wait(PATIENCE)
        assert program.process.returncode == 0
        assert ("not_upgraded" in program.events()) is (delay == 0.0)


@pytest.mark.parametrize("delay", [0.0, 0.15, 0.35])
def test_a_stop_before_it_is_ready_is_obeyed(tmp_path: Path, run: list[str], delay: float) -> None:
    with started(tmp_path, run) as program:
        program.until_it_catches_signals()
        time.sleep(delay)
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(PATIENCE) == 0, program.log.read_text()


def test_a_second_stop_before_it_is_ready_ends_it_at_once(tmp_path: Path) -> None:
    with started(tmp_path, [*RUN, *ALONE]) as program:
        program.until_it_catches_signals()
        program.process.send_signal(signal.SIGTERM)
        program.process.send_signal(signal.SIGINT)
        assert program.process.wait(PATIENCE) in {0, 1}


def test_blocked_and_ignored_signals_of_a_parent_are_not_inherited(tmp_path: Path, run: list[str]) -> None:
    parent = (
        "import os, signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
        "for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    with started(tmp_path, [sys.executable, "-c", parent, *run]) as program:
        program.until("ready")
        program.process.send_signal(signal.SIGUSR1)
        program.until("status")
        program.process.send_signal(signal.SIGHUP)
        program.until("reloaded")
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(PATIENCE) == 0


@pytest.mark.root
def test_process_1_obeys_an_early_stop(tmp_path: Path) -> None:
    with started(tmp_path, [*IN_A_CONTAINER, *RUN, *ALONE]) as unshare:
        pid = child(unshare.pid)
        deadline = time.monotonic() + PATIENCE
        while not caught(pid) >> (signal.SIGTERM - 1) & 1:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        os.kill(pid, signal.SIGTERM)
        assert unshare.process.wait(PATIENCE) == 0, unshare.log.read_text()


@pytest.mark.root
def test_process_1_reaps_orphans_and_still_replaces_its_workers(tmp_path: Path, run: list[str]) -> None:
    orphans = "sh -c 'sleep 0.01 & sleep 0.5 & sleep 2 & sleep 2.2 &'; exec \"$@\""
    with started(tmp_path, [*IN_A_CONTAINER, "sh", "-c", orphans, "sh", *run]) as program:
        program.until("ready")
        pid = child(program.pid)
        workers = json.loads((tmp_path / "proxy.yaml").read_text())["workers"]
        deadline = time.monotonic() + PATIENCE
        while any(name == "sleep" for name, _ in children(pid).values()):
            assert time.monotonic() < deadline, children(pid)
            time.sleep(0.05)
        left = children(pid)
        assert len(left) == (2 if workers == 2 else 0), left
        if workers == 2:
            os.kill(next(iter(left)), signal.SIGKILL)
            program.until("worker_died")
            assert '"signal":"SIGKILL"' in program.log.read_text()


def child(pid: int) -> int:
    deadline = time.monotonic() + PATIENCE
    while not (found := children(pid)):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return next(iter(found))


def children(pid: int) -> dict[int, tuple[str, str]]:
    """The children of a process: name and state of each (proc(5))."""
    found: dict[int, tuple[str, str]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, _, rest = entry.read_text().partition(" (")
        except OSError:
            continue
        name, _, fields = rest.rpartition(") ")
        state, parent, *_ = fields.split()
        if int(parent) == pid:
            found[int(number)] = (name, state)
    return found


@pytest.mark.parametrize("run", [2], indirect=True)
def test_a_second_stop_does_not_wait_for_workers_that_stand_still(tmp_path: Path, run: list[str]) -> None:
    with started(tmp_path, run) as program:
        program.until("ready")
        for pid in children(program.pid):
            os.kill(pid, signal.SIGSTOP)
        program.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert program.process.poll() is None
        began = time.monotonic()
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(PATIENCE) == 0
        assert time.monotonic() - began < 4.0, "less than it waits for workers otherwise"
