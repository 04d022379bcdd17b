"""Each setting is changed for real in a namespace: its finding appears, and what it says to type makes it go."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.core.snapshot import Snapshot
from proxy.diagnosis import kernel
from proxy.diagnosis.finding import Level
from proxy.diagnosis.machine import Machine
from proxy.lab.namespaces import Namespace

Configured = Callable[..., Snapshot]


class Bare(Machine):
    """This machine, were it no container: what mends it is a sysctl."""

    @property
    def container(self) -> str:
        return ""


def levels(check: str, snapshot: Snapshot | None = None) -> list[tuple[str, Level]]:
    return [(one.check, one.level) for one in getattr(kernel, check)(Bare(), snapshot)]


def mend(check: str, snapshot: Snapshot | None = None) -> None:
    """Type what the first finding says."""
    line = next(one.mend for one in getattr(kernel, check)(Bare(), snapshot) if one.mend)
    subprocess.run(["sh", "-c", line], check=True, capture_output=True)


@pytest.mark.netns
@pytest.mark.parametrize(
    ("check", "setting", "bad", "found"),
    [
        ("client_bit", "net.ipv4.tcp_fastopen", 2, ("client-bit", Level.MEND)),
        ("cookieless_bits", "net.ipv4.tcp_fastopen", 0x5, ("client-without-cookie", Level.MEND)),
        ("cookieless_bits", "net.ipv4.tcp_fastopen", 0x203, ("server-without-cookie", Level.WARNING)),
        (
            "blackhole_pause",
            "net.ipv4.tcp_fastopen_blackhole_timeout_sec",
            60,
            ("blackhole-pause", Level.MEND),
        ),
        ("syn_cookies", "net.ipv4.tcp_syncookies", 2, ("syn-cookies", Level.WARNING)),
        ("local_ports", "net.ipv4.ip_local_port_range", "60000 61000", ("local-ports", Level.WARNING)),
    ],
)
def test_a_bad_setting_is_found_and_mended(
    namespace: Namespace, check: str, setting: str, bad: object, found: tuple[str, Level]
) -> None:
    assert not set(dict(levels(check)).values()) & {Level.MEND, Level.WARNING}
    namespace.sysctl(setting, bad)
    assert levels(check) == [found]
    mend(check)
    assert not set(dict(levels(check)).values()) & {Level.MEND, Level.WARNING}


@pytest.mark.netns
def test_the_servers_bit_matters_where_a_listener_wants_it(
    namespace: Namespace, configured: Configured
) -> None:
    assert levels("server_bit") == [("server-bit", Level.NOTE)]
    assert levels("server_bit", configured()) == [("server-bit", Level.WARNING)]
    assert levels("server_bit", configured(", fast_open: false")) == []
    assert levels("server_bit", configured(bind="unix:/tmp/x")) == []
    mend("server_bit", configured())
    assert namespace.sysctl("net.ipv4.tcp_fastopen") == "3"
    assert levels("server_bit", configured()) == [("server-bit", Level.OK)]


@pytest.mark.netns
def test_all_listeners(namespace: Namespace) -> None:
    namespace.sysctl("net.ipv4.tcp_fastopen", 0x403)
    assert levels("cookieless_bits") == [("all-listeners", Level.NOTE)]


@pytest.mark.netns
def test_queues_longer_than_the_kernel_allows(namespace: Namespace, configured: Configured) -> None:
    assert levels("queue_lengths", configured()) == []
    snapshot = configured(", backlog: 5000")
    assert levels("queue_lengths", snapshot) == [("queue-length", Level.WARNING)]
    mend("queue_lengths", snapshot)
    assert levels("queue_lengths", snapshot) == []


@pytest.mark.netns
def test_keys(namespace: Namespace, configured: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    assert levels("shared_key") == [("key", Level.NOTE)]  # a fresh namespace has none
    namespace.sysctl("net.ipv4.tcp_fastopen_key", "1-2-3-4")
    assert levels("shared_key") == []
    assert levels("shared_key", configured(more=f"tfo_keys: [{'ab' * 16}]")) == [("key", Level.OK)]


def machine(root: Path, **files: str) -> Machine:
    for path, text in files.items():
        file = root / "proc" / path.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Machine(root)


@pytest.mark.parametrize(
    ("release", "level"),
    [
        ("3.10.0-1160.el7", Level.MEND),
        ("4.18.0-553.el8", Level.WARNING),
        ("5.15.0", Level.OK),
        ("10.1", Level.OK),
        ("?", Level.MEND),
    ],
)
def test_versions(release: str, level: Level, tmp_path: Path) -> None:
    (found,) = kernel.version(machine(tmp_path, sys__kernel__osrelease=release), None)
    assert found.level is level
    assert release in found.what


@pytest.mark.parametrize(
    ("version", "release", "what"),
    [
        ("Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016", "4.4.0", "this is gVisor"),
        (
            "Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com)",
            "4.4.0-19041-Microsoft",
            "this is WSL 1",
        ),
        ("Linux version 5.15.90.1-microsoft-standard-WSL2", "5.15.90.1-microsoft-standard-WSL2", None),
        ("Linux version 6.1.0-13-amd64 (debian-kernel@lists.debian.org)", "6.1.0-13-amd64", None),
    ],
)
def test_sandboxes(version: str, release: str, what: str | None, tmp_path: Path) -> None:
    found = list(kernel.sandbox(machine(tmp_path, version=version, sys__kernel__osrelease=release), None))
    assert [one.what for one in found] == ([what] if what else [])


def test_hidden_settings_are_no_reason_to_worry_but_said(tmp_path: Path) -> None:
    nothing = Machine(tmp_path)
    assert [one.level for one in kernel.client_bit(nothing, None)] == [Level.WARNING]
    for check in (
        kernel.server_bit,
        kernel.cookieless_bits,
        kernel.syn_cookies,
        kernel.local_ports,
        kernel.shared_key,
    ):
        assert list(check(nothing, None)) == []


def test_surroundings(tmp_path: Path) -> None:
    assert [one.level for one in kernel.surroundings(Machine(tmp_path), None)] == [Level.OK]
    (tmp_path / ".dockerenv").touch()
    (found,) = kernel.surroundings(Machine(tmp_path), None)
    assert (found.level, found.what) == (Level.NOTE, "a docker container")
