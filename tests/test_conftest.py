from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def conftest(request: pytest.FixtureRequest) -> ModuleType:
    modules = [one for one in request.config.pluginmanager.get_plugins() if hasattr(one, "_under_trio")]
    assert isinstance(modules[0], ModuleType)
    return modules[0]


@pytest.mark.parametrize("number", [1, 2])
async def test_async_tests_run_under_trio_with_parameters_and_fixtures(number: int, tmp_path: object) -> None:
    await trio.lowlevel.checkpoint()
    assert number in (1, 2)
    assert tmp_path is not None


@given(st.integers())
async def test_also_with_hypothesis(number: int) -> None:
    await trio.lowlevel.checkpoint()
    assert isinstance(number, int)


@pytest.mark.autojump
async def test_the_clock_jumps_over_sleeps() -> None:
    started = time.monotonic()
    before = trio.current_time()
    await trio.sleep(80_000)
    assert trio.current_time() - before == pytest.approx(80_000)
    assert time.monotonic() - started < 5


def test_what_is_missing_is_skipped_here_and_fails_in_ci(
    conftest: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conftest, "_missing", lambda need: f"no {need}")
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception, match="no podman"):
        conftest._require("podman")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no podman"):
        conftest._require("podman")


SPOILT = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range({number}))
def test_spoilt(number: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    marks = Path({marks!r})
    marks.joinpath(str(number)).open("a").write("x")
    assert marks.joinpath(str(number)).stat().st_size > {failures}, "noise of the machine"
"""


@pytest.mark.parametrize(
    ("number", "failures", "closing", "code"),
    [(3, 1, "3 passed, 3 rerun", 0), (4, 1, "4 passed, 4 rerun", 1), (2, 2, "2 failed, 2 rerun", 1)],
)
def test_what_failed_first_is_told_and_spares_few(
    tmp_path: Path, number: int, failures: int, closing: str, code: int
) -> None:
    (tmp_path / "marks").mkdir()
    (tmp_path / "test_it.py").write_text(
        SPOILT.format(number=number, failures=failures, marks=str(tmp_path / "marks"))
    )
    ran = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "--rootdir", tmp_path,
            "--reruns", "1", tmp_path / "test_it.py",
        ],
        cwd=Path(__file__).parents[1], env=os.environ | {"PYTHONPATH": "."}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert ran.returncode == code, ran.stdout
    assert closing in ran.stdout.splitlines()[-1]
    assert ran.stdout.count("failed first") == number
    assert ran.stdout.count("noise of the machine") >= 2 * number, "with all it said"
    assert ("this run has failed" in ran.stdout) is (number > 3)


@pytest.mark.netns
def test_the_network_is_not_the_machines(conftest: ModuleType, request: pytest.FixtureRequest) -> None:
    """Ports, sysctls and Fast Open cookies of the machine do not reach a test."""
    if os.geteuid() == 0:
        machine = request.config.stash[conftest.HOST_NETWORK]
        assert Path("/proc/self/ns/net").stat().st_ino != os.fstat(machine.fd).st_ino
    assert Path("/proc/sys/net/ipv4/tcp_fastopen").read_text() == "1\n", "the kernel's default"
