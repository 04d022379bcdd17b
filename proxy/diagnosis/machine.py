"""This machine as the checks see it. Everything is read below ``root``, so that a test can show them another."""

from __future__ import annotations

import os
from pathlib import Path


class Machine:
    """Kernel, network namespace and container of the calling thread."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def text(self, path: str) -> str | None:
        """A small file's text without its last newline; None where it cannot be read."""
        try:
            return (self._root / path).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None

    def setting(self, name: str) -> str | None:
        """A sysctl's text, like ``net.ipv4.tcp_fastopen``; None where this kernel has none, or hides it."""
        return self.text(f"proc/sys/{name.replace('.', '/')}")

    def number(self, name: str) -> int | None:
        """A sysctl that is one number."""
        text = self.setting(name)
        return int(text) if text is not None and text.lstrip("-").isdigit() else None

    @property
    def release(self) -> str:
        """The kernel's release, like ``6.18.44``."""
        return self.text("proc/sys/kernel/osrelease") or os.uname().release

    @property
    def container(self) -> str:
        """Which kind of container this is: kubernetes, docker, podman, another's name; "" for none that shows."""
        if (self._root / "var/run/secrets/kubernetes.io").exists() or "kubepods" in (
            self.text("proc/1/cgroup") or ""
        ):
            return "kubernetes"
        if (self._root / "run/.containerenv").exists():
            return "podman"
        if (self._root / ".dockerenv").exists():
            return "docker"
        environment = (self.text("proc/1/environ") or "").split("\0")
        return next((entry[10:] for entry in environment if entry.startswith("container=")), "")

    @property
    def own_namespace(self) -> bool | None:
        """Whether the network namespace is another than the first process's; None where it may not be known."""
        try:
            ours = (self._root / "proc/thread-self/ns/net").stat().st_ino
            return ours != (self._root / "proc/1/ns/net").stat().st_ino
        except OSError:
            return None

    def line_to_set(self, name: str, value: object) -> str:
        """What to type, here, to change a setting of the network namespace."""
        match self.container:
            case "kubernetes":
                return (
                    f'spec: {{securityContext: {{sysctls: [{{name: {name}, value: "{value}"}}]}}}}'
                    f"  # and kubelet --allowed-unsafe-sysctls={name}"
                )
            case "docker" | "podman" as engine:
                return f"{engine} run --sysctl {name}={value} …"
            case _:
                return f"sysctl -w {name}={value}"
