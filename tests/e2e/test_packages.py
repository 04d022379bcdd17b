"""What a release carries can be installed: the wheel's metadata, and the Debian package in a bare Debian."""

from __future__ import annotations

import filecmp
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Network
from tests.e2e.containers import BASE, HOUSE, LIMITS, Engine

pytestmark = pytest.mark.slow

# Installs it where there is nothing but Python, uses it as its user would, and removes it.
INSTALL = """
set -e
dpkg --install /packages/tfo-proxy_*.deb >/dev/null
tfo-proxy version
tfo-proxy check /etc/tfo-proxy/config.yaml
cd /tmp && mkdir proxy && echo 'raise SystemExit("the working folder was imported")' > proxy/__init__.py
tfo-proxy run 2>/tmp/log & # without arguments: /etc/tfo-proxy/config.yaml
for second in $(seq 60); do grep -q ready /tmp/log && break; sleep 0.5; done
tfo-proxy healthcheck 127.0.0.1:8080 && echo healthy
kill -TERM $!
wait $! && echo "exit code $?"
test -e /usr/lib/systemd/system/tfo-proxy.service && ls /usr/share/man/man1 2>/dev/null | head -1
dpkg --purge tfo-proxy >/dev/null
test ! -e /usr/lib/tfo-proxy && echo removed
"""


@pytest.fixture(scope="module", autouse=True)
def network(machine_network: Network) -> Iterator[None]:
    """Packages are installed from their index."""
    with machine_network():
        yield


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "-qq",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
    ]
    subprocess.run([*pip, str(HOUSE)], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_index_would_take_the_wheel(wheel: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", wheel],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr


def test_the_wheel_brings_what_packagers_install(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    data = {name.partition(".data/data/share/")[2] for name in names if ".data/" in name}
    assert {
        "man/man1/tfo-proxy.1",
        "man/man1/tfo-proxy-run.1",
        "bash-completion/completions/tfo-proxy",
        "zsh/site-functions/_tfo-proxy",
        "fish/vendor_completions.d/tfo-proxy.fish",
        "tfo-proxy/systemd/tfo-proxy.service",
        "tfo-proxy/config.example.yaml",
    } <= data


@pytest.mark.podman
@pytest.mark.root
def test_the_debian_package_is_installed_used_and_removed(
    engine: Engine, python_version: str, tmp_path: Path
) -> None:
    for folder in ("one", "two"):
        subprocess.run([HOUSE / "tools" / "make-deb", tmp_path / folder], check=True, capture_output=True)
    package = next((tmp_path / "one").glob("*.deb"))
    assert filecmp.cmp(package, tmp_path / "two" / package.name, shallow=False), (
        "the same sources, the same bytes"
    )
    said = engine.podman(
        "run", "--rm", "--network", "none", *LIMITS, "--volume", f"{tmp_path}/one:/packages:ro", BASE, "sh", "-c",
        INSTALL,
    )  # fmt: skip
    lines = said.splitlines()
    assert lines[0].startswith("tfo-proxy ")
    assert any("config.yaml: ok" in line for line in lines)
    assert {"healthy", "exit code 0", "removed"} <= set(lines), said
