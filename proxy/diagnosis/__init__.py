"""What `tfo-proxy doctor` looks at: small checks in a table, each yielding what it found and the line that mends it.

``machine``   this kernel, namespace and container, and how a setting is changed here
``kernel``    the kernel's version and its settings
``process``   descriptors, the state file, binds
``safety``    privileges it needs and has not, or has and needs not
``loopback``  a listener and two dials on 127.0.0.1: does the kernel really do it?
``upstreams`` what the kernel's cookie cache says of the endpoints
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from proxy.core.snapshot import Snapshot
from proxy.diagnosis import kernel, loopback, process, safety, upstreams
from proxy.diagnosis.finding import Finding, Level
from proxy.diagnosis.machine import Machine

__all__ = ["CHECKS", "Finding", "Level", "Machine", "diagnose"]

Check: TypeAlias = Callable[[Machine, Snapshot | None], Iterator[Finding]]

CHECKS: Sequence[Check] = (
    kernel.version,
    kernel.sandbox,
    kernel.surroundings,
    kernel.client_bit,
    kernel.server_bit,
    kernel.cookieless_bits,
    kernel.blackhole_pause,
    kernel.syn_cookies,
    kernel.queue_lengths,
    kernel.shared_key,
    kernel.local_ports,
    process.descriptors,
    process.state_file,
    process.binds,
    process.multipath,
    safety.capabilities,
    safety.root,
    safety.hashes,
    safety.tracking,
    loopback.self_test,
    upstreams.cookies,
)


def diagnose(snapshot: Snapshot | None, machine: Machine | None = None) -> list[Finding]:
    """Every finding, in the table's order. Blocks for a moment; looks at the calling thread's network namespace."""
    here = machine or Machine()
    return [finding for check in CHECKS for finding in check(here, snapshot)]
