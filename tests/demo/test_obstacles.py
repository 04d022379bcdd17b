from __future__ import annotations

from pathlib import Path

import pytest

from proxy.demo.obstacles import explanation, obstacles


def machine(proc: Path, status: str = "Seccomp:\t0\n", **settings: str) -> Path:
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "status").write_text(status)
    for name, value in settings.items():
        file = proc / "sys" / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
    return proc


@pytest.mark.parametrize(
    ("setting", "forbids", "allows"),
    [
        ("user__max_user_namespaces", "0", "15000"),
        ("user__max_net_namespaces", "0", "15000"),
        ("kernel__unprivileged_userns_clone", "0", "1"),
        ("kernel__apparmor_restrict_unprivileged_userns", "1", "0"),
    ],
)
def test_each_switch_is_seen_and_mended(tmp_path: Path, setting: str, forbids: str, allows: str) -> None:
    name = setting.replace("__", ".")
    ((what, mend),) = obstacles(machine(tmp_path / "a", **{setting: forbids}))
    assert what == f"{name} is {forbids}"
    assert mend.startswith(f"sysctl -w {name}=")
    assert obstacles(machine(tmp_path / "b", **{setting: allows})) == []
    assert mend in explanation("Operation not permitted", tmp_path / "a")


def test_a_filter_is_named(tmp_path: Path) -> None:
    proc = machine(tmp_path, status="Name:\tx\nSeccomp:\t2\n")
    assert "--security-opt seccomp=unconfined" in explanation("Operation not permitted", proc)


def test_without_a_clue_all_that_may_help_is_said(tmp_path: Path) -> None:
    text = explanation("No space left on device", machine(tmp_path))
    for word in (
        "No space left", "user.max_user_namespaces", "unprivileged_userns_clone", "apparmor", "seccomp", "sudo",
    ):  # fmt: skip
        assert word in text
