from __future__ import annotations

import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.core.snapshot import Snapshot
from proxy.diagnosis import process
from proxy.diagnosis.finding import Finding, Level
from proxy.diagnosis.machine import Machine
from proxy.lab.namespaces import Namespace

Configured = Callable[..., Snapshot]
HERE = Machine()


def test_descriptors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for hard, level in ((1024, Level.WARNING), (65536, Level.OK), (resource.RLIM_INFINITY, Level.OK)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, hard=hard: (256, hard))
        (found,) = process.descriptors(Machine(tmp_path), None)
        assert found.level is level
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1024))
    (found,) = process.descriptors(Machine(tmp_path), None)
    assert "about 462 sessions" in found.why
    assert "LimitNOFILE=" in found.mend
    (tmp_path / ".dockerenv").touch()
    assert next(process.descriptors(Machine(tmp_path), None)).mend.startswith("docker run --ulimit")


def state(configured: Configured, path: Path) -> Finding:
    (found,) = process.state_file(HERE, configured(more=f"state: {path}"))
    return found


def test_the_state_file(configured: Configured, tmp_path: Path) -> None:
    assert list(process.state_file(HERE, configured())) == []
    folder = tmp_path / "lib"
    missing = state(configured, folder / "state.json")
    assert missing.level is Level.MEND
    os.system(missing.mend)
    assert state(configured, folder / "state.json").level is Level.OK
    (folder / "state.json").write_text("{")
    damaged = state(configured, folder / "state.json")
    assert damaged.level is Level.WARNING
    os.system(damaged.mend)
    assert state(configured, folder / "state.json").level is Level.OK


@pytest.mark.root
def test_a_state_folder_of_somebody_elses(
    configured: Configured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may everything
    found = state(configured, tmp_path / "state.json")
    assert (found.level, found.mend) == (Level.MEND, f"chown -R 0:0 {tmp_path}")


@pytest.mark.netns
def test_binds(namespace: Namespace, configured: Configured) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for bind in ("127.0.0.1:0", "*:0", "[::1]:0", f"127.0.0.1:{port}", "unix:/nowhere/x"):
            assert list(process.binds(HERE, configured(bind=bind))) == []
    (found,) = process.binds(HERE, configured(bind="10.9.8.7:80"))
    assert found.level is Level.MEND
    assert "listener web cannot listen on 10.9.8.7:80" in found.what


def test_a_low_port_without_the_right(configured: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        return 13

    monkeypatch.setattr(process, "_trial", refuse)
    (found,) = process.binds(HERE, configured(bind="127.0.0.1:80"))
    assert found.mend.startswith("sysctl -w net.ipv4.ip_unprivileged_port_start=80")


@pytest.mark.netns
def test_multipath(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    namespace.sysctl("net.mptcp.enabled", 0)
    assert list(process.multipath(HERE, None)) == []
    namespace.sysctl("net.mptcp.enabled", 1)
    assert [one.level for one in process.multipath(HERE, None)] == [Level.NOTE]

    class Wrapped(socket.socket):
        """What mptcpize makes of socket(2)."""

        def __init__(self) -> None:
            super().__init__(proto=262)

    monkeypatch.setattr(socket, "socket", Wrapped)
    assert [one.level for one in process.multipath(HERE, None)] == [Level.MEND]
