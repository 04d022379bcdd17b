"""The systemd units: judged by systemd's own tools, and the program under a socket that systemd would hold."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
MOST_EXPOSED = 2.0


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as they would lie on a machine that has the program."""
    program = tmp_path / "tfo-proxy"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in UNITS.glob("tfo-proxy.*"):
        (tmp_path / unit.name).write_text(unit.read_text().replace("/usr/bin/tfo-proxy", str(program)))
    return tmp_path


def test_systemd_finds_nothing_wrong_with_the_units(installed: Path) -> None:
    units = [installed / "tfo-proxy.service", installed / "tfo-proxy.socket"]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "tfo-proxy" not in done.stderr


def test_a_misspelt_setting_would_be_found(installed: Path) -> None:
    unit = installed / "tfo-proxy.service"
    unit.write_text(unit.read_text().replace("ProtectHome=", "ProtectHouse="))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    assert "ProtectHouse" in done.stderr


def test_the_service_is_hardened() -> None:
    command = ["systemd-analyze", "security", "--offline=true", str(UNITS / "tfo-proxy.service")]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    exposure = re.search(r"Overall exposure level for .*: ([0-9.]+)", said)
    assert exposure is not None, said
    assert float(exposure[1]) <= MOST_EXPOSED, said


def add_the_user(root: Path) -> str:
    (root / "etc").mkdir()
    subprocess.run(
        ["systemd-sysusers", f"--root={root}", UNITS / "sysusers.d/tfo-proxy.conf"],
        check=True,
        capture_output=True,
    )
    return (root / "etc/passwd").read_text()


def test_the_file_for_sysusers_is_understood(tmp_path: Path) -> None:
    assert "tfo-proxy:" in add_the_user(tmp_path)


@pytest.mark.root
def test_the_file_for_tmpfiles_is_understood(tmp_path: Path) -> None:
    """Which gives files to a user."""
    (tmp_path / "usr/share/doc/tfo-proxy").mkdir(parents=True)
    (tmp_path / "usr/share/doc/tfo-proxy/config.example.yaml").write_text("listeners: {}\n")
    add_the_user(tmp_path)
    root = f"--root={tmp_path}"
    subprocess.run(
        ["systemd-tmpfiles", root, "--create", UNITS / "tmpfiles.d/tfo-proxy.conf"],
        check=True,
        capture_output=True,
    )
    assert (tmp_path / "etc/tfo-proxy/config.yaml").read_text() == "listeners: {}\n"


@pytest.mark.root
def test_the_sysctls_are_the_kernels() -> None:
    """Set in a namespace of the test's own, where nobody else is."""
    ours = UNITS / "sysctl.d/60-tfo-proxy.conf"
    script = f"sysctl --quiet --load={ours} && sysctl -n net.ipv4.tcp_fastopen net.core.somaxconn"
    said = subprocess.run(
        ["unshare", "--net", "sh", "-c", script], check=True, capture_output=True, text=True
    ).stdout
    assert said.split() == ["3", "4096"]
