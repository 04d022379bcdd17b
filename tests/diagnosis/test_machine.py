"""Which machine this is, shown trees of files that stand for others."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.diagnosis.machine import Machine


def put(root: Path, path: str, text: str = "") -> Machine:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)
    return Machine(root)


@pytest.mark.parametrize(
    ("path", "text", "container"),
    [
        (".dockerenv", "", "docker"),
        ("run/.containerenv", "", "podman"),
        ("proc/1/cgroup", "0::/kubepods.slice/pod1", "kubernetes"),
        ("var/run/secrets/kubernetes.io/serviceaccount/token", "x", "kubernetes"),
        ("proc/1/environ", "A=1\0container=lxc\0", "lxc"),
        ("proc/1/environ", "A=container=no\0", ""),
    ],
)
def test_containers(path: str, text: str, container: str, tmp_path: Path) -> None:
    assert put(tmp_path, path, text).container == container


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (".dockerenv", "docker run --sysctl a.b=3 …"),
        ("run/.containerenv", "podman run --sysctl a.b=3 …"),
        ("nothing", "sysctl -w a.b=3"),
    ],
)
def test_how_a_setting_is_changed_there(path: str, line: str, tmp_path: Path) -> None:
    assert put(tmp_path, path).line_to_set("a.b", 3) == line


def test_how_a_pod_is_told(tmp_path: Path) -> None:
    line = put(tmp_path, "proc/1/cgroup", "kubepods").line_to_set("a.b", 3)
    assert line.startswith('spec: {securityContext: {sysctls: [{name: a.b, value: "3"}]}}')


def test_settings(tmp_path: Path) -> None:
    machine = put(tmp_path, "proc/sys/net/ipv4/tcp_fastopen", "519\n")
    assert machine.setting("net.ipv4.tcp_fastopen") == "519"
    assert machine.number("net.ipv4.tcp_fastopen") == 519
    assert machine.number("net.ipv4.nothing") is None
    assert put(tmp_path, "proc/sys/a", "1 2").number("a") is None
    assert put(tmp_path, "proc/sys/kernel/osrelease", "5.4.0-x\n").release == "5.4.0-x"


def test_a_namespace_of_its_own_is_seen(tmp_path: Path) -> None:
    first, ours = tmp_path / "proc/1/ns/net", tmp_path / "proc/thread-self/ns/net"
    machine = put(tmp_path, "proc/1/ns/net")
    ours.parent.mkdir(parents=True)
    ours.hardlink_to(first)
    assert machine.own_namespace is False
    ours.unlink()
    ours.touch()
    assert machine.own_namespace is True


def test_where_it_cannot_be_known(tmp_path: Path) -> None:
    assert Machine(tmp_path).own_namespace is None
