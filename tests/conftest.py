"""What every test may use: async tests under trio, a WAN in a box, tiers that cannot be skipped in CI.

- ``async def test_…`` runs under ``trio.run``. With ``@pytest.mark.autojump`` on a clock that jumps over every
  sleep (no sockets then); otherwise within `PATIENCE` seconds.
- the fixture ``wan`` is an open `proxy.lab.wan.Wan`, and *the test runs in the client's namespace*: its sockets,
  and the programs it starts, are the client's. ``@pytest.mark.wan(rtt=0.02)`` passes arguments. Servers come
  from ``wan.serve(...)``; anything else is put there with ``with wan.server.entered():``.
- a run that has tests outside of `PURE` runs in a network namespace of its own, with loopback up and the kernel's
  default settings: ports, sysctls and Fast Open cookies of the machine do not reach it. What installs packages
  asks for the fixture ``machine_network``, and goes back for that.
- ``netns``, ``root``, ``account``, ``podman``, ``browser``, ``prometheus`` name what a test needs. Without it the test
  is skipped with the reason, but fails when ``CI=true``. The head of the report lists what this machine lacks.
- where what failed is run once more (``--reruns 1``: `.ci/run`, docs/decisions/0026), all that it said first is told,
  and a run in which that was needed more than `MOST_ASKED_AGAIN` times has failed.
- hypothesis draws new examples on every run, but the same ones when ``CI=true``: what passed there passes again.
"""

from __future__ import annotations

import functools
import inspect
import os
import pwd
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import xdist.remote
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from proxy.lab import namespaces
from proxy.lab.rtnetlink import rtnetlink
from proxy.lab.wan import Wan

TESTS = Path(__file__).parent
PATIENCE = 120.0
MOST_ASKED_AGAIN = 3
NEEDS = ("netns", "root", "account", "podman", "browser", "prometheus")
HOST_NETWORK = pytest.StashKey[namespaces.Namespace | None]()  # None: it cannot be had again
TOGETHER = {  # the beginning of a file's path → the group that one process runs, and starts with
    "tests/e2e/test_co": "podman",
    "tests/e2e/test_make_in_a_container": "podman",
    "tests/e2e/test_packages": "podman",
    "tests/bench/": "bench",
}
PURE = frozenset({"core", "config"})  # folders whose tests use no network

MARKERS = (
    "autojump: runs on trio's fake clock, which jumps ahead whenever every task sleeps",
    "wan(rtt=0.1, mtu=1500, wire=None): how the `wan` fixture is made",
    "netns: needs network namespaces of its own (root, or user namespaces)",
    "root: needs uid 0",
    "account: needs a user with a home and a shell, in passwd(5)",
    "browser: drives Chromium",
    "prometheus: runs Prometheus and its promtool",
    "podman: builds and runs containers with podman and buildah, as root",
    "slow: takes longer than a few seconds",
)


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() == "true"


# Before any test is imported: `@settings(...)` takes what it does not name from the profile of that moment.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if _in_ci() else "local")


@pytest.hookimpl(tryfirst=True)  # pytest-rerunfailures starts a thread, and then it is too late
def pytest_configure(config: pytest.Config) -> None:
    """Without root the process must move into a user namespace before it has its first thread."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    wants = any(not _is_pure(Path(argument.partition("::")[0]).resolve()) for argument in config.args)
    if wants and not config.option.collectonly and not namespaces.allowed() and _missing("netns") is None:
        namespaces.enter_user_namespace()  # which has a network namespace of its own
        config.stash[HOST_NETWORK] = None


# --- what a test needs, and whether it is here


@functools.cache
def _missing(need: str) -> str | None:
    match need:
        case "netns":
            return namespaces.obstacle()
        case "root":
            return None if os.geteuid() == 0 else "needs root"
        case "account":
            return _no_account()
        case "browser":
            return None if shutil.which("chromium") else "needs chromium"
        case "prometheus":
            tools = shutil.which("prometheus"), shutil.which("promtool")
            return None if all(tools) else "needs prometheus (Debian package prometheus)"
        case "podman":
            if os.geteuid() != 0:
                return "needs podman and root"
            lacking = [tool for tool in ("podman", "buildah", "debootstrap") if not shutil.which(tool)]
            return f"needs {', '.join(lacking)}" if lacking else None
        case _:
            raise ValueError(need)


def _no_account() -> str | None:
    uid = os.geteuid()
    try:
        entry = pwd.getpwuid(uid)
        shells = Path("/etc/shells").read_text().split()
    except (KeyError, OSError):
        return f"needs an account: nobody in passwd(5) has uid {uid}, or there is no /etc/shells"
    return None if entry.pw_shell in shells else f"needs an account with a shell: {entry.pw_name} has none"


def _require(need: str) -> None:
    reason = _missing(need)
    if reason is None:
        return
    if _in_ci():
        pytest.fail(f"{need} is not to be had, and under CI nothing is skipped: {reason}", pytrace=False)
    pytest.skip(reason)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for need in NEEDS:
        if item.get_closest_marker(need) is not None:
            _require(need)


def pytest_report_header() -> list[str]:
    """What this machine lacks, before the first test runs."""
    lacking = [reason for need in NEEDS if (reason := _missing(need)) is not None]
    verdict = "the tests that need it fail" if _in_ci() else "the tests that need it are skipped"
    return [f"lacking here ({verdict}): {reason}" for reason in lacking]


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist ships no types
    """Share a run by file between processes; what shares an image, or measures the machine, stays in one of them."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid.partition("::")[0])


def _group(file: str) -> str:
    return next((group for start, group in TOGETHER.items() if file.startswith(start)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: xdist.remote.Producer) -> ByFile:
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, so that nothing waits for them at the end."""
    items.sort(key=lambda item: _group(item.nodeid) not in TOGETHER.values())


def pytest_collection_finish(session: pytest.Session) -> None:
    """Move into a network namespace before the first test starts a thread: a thread keeps the one it was started in."""
    config = session.config
    wants = any(not _is_pure(item.path) for item in session.items)
    if wants and not config.option.collectonly and HOST_NETWORK not in config.stash and namespaces.allowed():
        config.stash[HOST_NETWORK] = namespaces.Namespace.current("host")
        namespaces.Namespace.create("tests").enter()
        with rtnetlink() as netlink:
            netlink.bring_up("lo")


def _is_pure(path: Path) -> bool:
    parts = path.relative_to(TESTS).parts if path.is_relative_to(TESTS) else ()
    return bool(parts) and parts[0] in PURE


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A busy machine spoils a test now and then. Where it is more than that, something is wrong with what is tested."""
    if len(_asked_again(session.config)) > MOST_ASKED_AGAIN and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    again = _asked_again(terminalreporter.config)
    for report in again:
        terminalreporter.section(f"{report.nodeid} failed first")
        terminalreporter.line(report.longreprtext)
    if len(again) > MOST_ASKED_AGAIN:
        too_many = f"{len(again)} tests were run again, and no more than {MOST_ASKED_AGAIN} may be: this run has failed"
        terminalreporter.line(too_many, red=True)


def _asked_again(config: pytest.Config) -> list[pytest.TestReport]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return reporter.stats.get("rerun", []) if isinstance(reporter, pytest.TerminalReporter) else []


# --- the network


@pytest.fixture(scope="session")
def machine_network(request: pytest.FixtureRequest) -> Callable[[], AbstractContextManager[None]]:
    """A context in which the calling thread is in the machine's network again."""
    host = request.config.stash.get(HOST_NETWORK, None)
    return nullcontext if host is None else host.entered


@pytest.fixture
def wan(request: pytest.FixtureRequest) -> Iterator[Wan]:
    """A fresh `Wan`; the test runs in its client's namespace."""
    _require("netns")
    marker = request.node.get_closest_marker("wan")
    with Wan(**(marker.kwargs if marker else {})) as wan, wan.client.entered():
        yield wan


# --- async tests


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    function = pyfuncitem.obj
    hypothesis = getattr(function, "hypothesis", None)
    if hypothesis is not None and inspect.iscoroutinefunction(hypothesis.inner_test):
        hypothesis.inner_test = _under_trio(hypothesis.inner_test, pyfuncitem)
        return None
    if not inspect.iscoroutinefunction(function):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    _under_trio(function, pyfuncitem)(**{name: pyfuncitem.funcargs[name] for name in names})
    return True


def _under_trio(function: Callable[..., Any], item: pytest.Function) -> Callable[..., None]:
    autojump = item.get_closest_marker("autojump") is not None

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        async def main() -> None:
            if autojump:
                await function(*args, **kwargs)
                return
            with trio.fail_after(PATIENCE):
                await function(*args, **kwargs)

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0) if autojump else None)

    return run
