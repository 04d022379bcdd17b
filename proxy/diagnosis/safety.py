"""Whether the process has the privileges it needs and no others, and what strangers could do to this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from proxy.core.snapshot import Snapshot
from proxy.diagnosis.finding import Finding, Level
from proxy.diagnosis.machine import Machine
from proxy.net import conntrack
from proxy.service import privileges

_FOR = {
    privileges.NET_ADMIN: "tproxy listeners, or a source's mark, need CAP_NET_ADMIN",
    privileges.NET_BIND_SERVICE: "a port below net.ipv4.ip_unprivileged_port_start needs CAP_NET_BIND_SERVICE",
}


def capabilities(machine: Machine, snapshot: Snapshot | None) -> Iterator[Finding]:
    """What the configuration needs and this process has not."""
    if snapshot is None:
        return
    held = privileges.permitted()
    for number in sorted(privileges.needed(snapshot) - held):
        if number not in _FOR:
            continue  # a source interface needs one on old kernels only
        name = f"CAP_{privileges.NAMES[number].upper()}"
        container = {
            "docker": f"docker run --cap-add {name[4:]} …",
            "podman": f"podman run --cap-add {name[4:]} …",
        }
        mend = container.get(machine.container, f"AmbientCapabilities={name}  # in the systemd unit")
        yield Finding("privileges", Level.MEND, f"{name} is missing", f"{_FOR[number]}.", mend)


def root(_: Machine, snapshot: Snapshot | None) -> Iterator[Finding]:
    """Root where nobody needs to be."""
    if snapshot is not None and snapshot.user is None and os.geteuid() == 0:
        why = "no mode but tproxy needs it; a mistake of ours would be root's."
        yield Finding("root", Level.NOTE, "this is root", why, "user: nobody  # in the configuration")


def hashes(_: Machine, __: Snapshot | None) -> Iterator[Finding]:
    """Python's own tables are attacked with keys that collide where their seed is known."""
    if not sys.flags.hash_randomization:
        why = "clients choose names; with a known seed they can choose such that look-ups take for ever."
        yield Finding("hashes", Level.WARNING, "PYTHONHASHSEED fixes the seed", why, "unset PYTHONHASHSEED")


def tracking(machine: Machine, _: Snapshot | None) -> Iterator[Finding]:
    """A full conntrack table drops the first packets of new connections."""
    trouble = conntrack.trouble()
    if trouble:
        most = machine.number("net.netfilter.nf_conntrack_max") or 65536
        why = "netfilter drops the first packets of new connections, and dials time out."
        yield Finding(
            "conntrack", Level.MEND, trouble, why, f"sysctl -w net.netfilter.nf_conntrack_max={2 * most}"
        )
