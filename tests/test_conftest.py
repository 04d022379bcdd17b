from __future__ import annotations

import time
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
