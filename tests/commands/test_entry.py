"""The command's first steps: on another system, and where the package `proxy` is not, or no longer, ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def started(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a console script starts it, with what is installed in ``folder``."""
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); import tfo_proxy; sys.exit(tfo_proxy.main())"
    command = [sys.executable, "-P", "-S", "-c", code, str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd="/")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "proxy", tmp_path / "proxy", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tfo_proxy.py", tmp_path)
    return tmp_path


def _overwritten(package: Path) -> None:
    (package / "__init__.py").write_text("from .missing import Proxy\n")


def _another(package: Path) -> None:
    (package / "__init__.py").write_text("__version__ = '2.4.4'\n")
    (package / "__main__.py").write_text("def main() -> None: raise SystemExit('not this one')\n")


def _broken(package: Path) -> None:
    (package / "__init__.py").write_text("raise RuntimeError('no event loop')\n")


def _removed(package: Path) -> None:
    """As pip does it, with the files that both have."""
    for shared in ("__init__.py", "__main__.py", "core/__init__.py"):
        (package / shared).unlink()


def _without_main(package: Path) -> None:
    (package / "__main__.py").unlink()


def _gone(package: Path) -> None:
    shutil.rmtree(package)


@pytest.mark.parametrize("change", [_overwritten, _another, _broken, _removed, _without_main, _gone])
def test_another_package_of_that_name_is_told_in_a_sentence(
    site: Path, change: Callable[[Path], None]
) -> None:
    assert started(site, "healthcheck", "--help").returncode == 0
    change(site / "proxy")
    done = started(site, "healthcheck", "--help")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert done.stderr.startswith("tfo-proxy: ")
    assert "pipx install tfo-proxy" in done.stderr


@pytest.mark.parametrize("command", ["run", "check", "healthcheck", "--help", "_worker"])
@pytest.mark.parametrize("platform", ["darwin", "win32", "freebsd14"])
def test_another_system_is_told_in_a_sentence(platform: str, command: str) -> None:
    code = (
        "import sys; sys.platform = sys.argv.pop(1); import proxy.__main__; sys.exit(proxy.__main__.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, platform, command, "x"],
        capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == f"tfo-proxy needs Linux, and this is {platform}\n"
