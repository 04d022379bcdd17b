"""Why the lab cannot be built here, and what would allow it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

NO_NEW_PRIVILEGES, FILTERED = "1", "2"

_SWITCHES: tuple[tuple[str, Callable[[str], bool], str], ...] = (
    ("user/max_user_namespaces", lambda value: value == "0", "sysctl -w user.max_user_namespaces=15000"),
    ("user/max_net_namespaces", lambda value: value == "0", "sysctl -w user.max_net_namespaces=15000"),
    (
        "kernel/unprivileged_userns_clone",
        lambda value: value == "0",
        "sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        lambda value: value != "0",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)


def explanation(reason: str, proc: Path = Path("/proc")) -> str:
    """What to tell somebody for whom the lab could not be built because of ``reason``."""
    found = obstacles(proc)
    lines = [f"the lab cannot be built here: {reason}."]
    if found:
        lines.append("What stands in the way on this machine, and what takes it away:")
        lines += [f"  {what}\n    → {mend}" for what, mend in found]
    else:
        lines.append("Nothing that this process can see forbids it; one of these may:")
        lines += [f"    → {mend}" for _, _, mend in _SWITCHES]
        lines.append("    → in a container: --cap-add SYS_ADMIN --security-opt seccomp=unconfined")
    lines.append("As root it works everywhere: sudo tfo-proxy demo")
    return "\n".join(lines)


def obstacles(proc: Path = Path("/proc")) -> list[tuple[str, str]]:
    """What forbids network namespaces here, as far as it can be seen, and the line that mends each."""
    found: list[tuple[str, str]] = []
    for name, forbids, mend in _SWITCHES:
        value = _read(proc / "sys" / name)
        if value and forbids(value):
            found.append((f"{name.replace('/', '.')} is {value}", mend))
    if _status(proc).get("Seccomp") == FILTERED:
        found.append((
            "a seccomp filter is in force, as in most containers; it may forbid unshare(2)",
            "in a container: --security-opt seccomp=unconfined (and perhaps --cap-add SYS_ADMIN)",
        ))  # fmt: skip
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _status(proc: Path) -> dict[str, str]:
    lines = (line.partition(":") for line in _read(proc / "self" / "status").splitlines())
    return {name: value.strip() for name, _, value in lines}
