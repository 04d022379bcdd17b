"""A session's packets beside its log line: each field that the packets tell, and whether both say the same.

A capture made on the proxy's host (``tcpdump -w``, pcap or pcapng) and the JSON log are joined by the addresses and
ports of each dial and by the time at which its SYN was sent.
"""

from __future__ import annotations

from proxy.explain.captures import BadCapture, read_capture
from proxy.explain.connections import Connection, connections
from proxy.explain.lines import Explained, explain, session_lines, unclaimed

__all__ = [
    "BadCapture", "Connection", "Explained", "connections", "explain", "read_capture", "session_lines", "unclaimed",
]  # fmt: skip
