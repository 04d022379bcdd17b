"""What sets two snapshots apart, in words for the operator, and what of it cannot be had without a restart."""

from __future__ import annotations

from collections.abc import Mapping

from proxy.core.snapshot import Snapshot

_SECTIONS = (
    "routes",
    "destinations",
    "dns",
    "log",
    "limits",
    "admin",
    "drain",
    "drain_delay",
    "state",
    "tfo_keys",
)
_CALLED = {"destinations": "direct"}  # where the file has another word


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """Like ``listener web``, ``new cluster api``, ``dns``; empty where they mean the same."""
    found = _named("listener", _by_name(before), _by_name(after))
    found += _named("cluster", before.clusters, after.clusters)
    found += [
        _CALLED.get(section, section)
        for section in _SECTIONS
        if getattr(before, section) != getattr(after, section)
    ]
    return found


def waiting(before: Snapshot, after: Snapshot) -> list[str]:
    """Keys of the file whose new values only a new program can have: a restart or an upgrade."""
    found: list[str] = []
    if before.tfo_keys and not after.tfo_keys:
        found.append("tfo_keys")  # the kernel has no way to take keys away from a socket
    found += [key for key in ("workers", "user", "group") if getattr(before, key) != getattr(after, key)]
    return found


def _by_name(snapshot: Snapshot) -> Mapping[str, object]:
    return {listener.name: listener for listener in snapshot.listeners}


def _named(kind: str, before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    found = [f"{kind} {name}" for name, one in after.items() if name in before and before[name] != one]
    found += [f"new {kind} {name}" for name in after if name not in before]
    found += [f"no {kind} {name}" for name in before if name not in after]
    return found
