"""Whether this machine still remembers new connections: where netfilter's table is full, it drops their first packets.

The kernel tells connect(2) nothing of that, so a dial just times out (nf_conntrack_in() in net/netfilter/
nf_conntrack_core.c; tcp_connect() in net/ipv4/tcp_output.c minds no error but ECONNREFUSED).
"""

from __future__ import annotations

_COUNT, _MOST = "/proc/sys/net/netfilter/nf_conntrack_count", "/proc/sys/net/netfilter/nf_conntrack_max"
_NEARLY = 0.99  # what is full is cleared of its oldest all the time


def trouble() -> str:
    """What is wrong, in words; nothing where nothing is, or where there is no such table."""
    try:
        count, most = _read(_COUNT), _read(_MOST)
    except (OSError, ValueError):
        return ""
    if not most or count < _NEARLY * most:
        return ""
    return f"the connection tracking table of this machine is full ({count} of {most}: net.netfilter.nf_conntrack_max)"


def _read(path: str) -> int:
    with open(path, encoding="ascii") as file:
        return int(file.read())
