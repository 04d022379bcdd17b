"""The PROXY header that tells an upstream whom a session is for; it rides in the SYN with the first bytes."""

from __future__ import annotations

import socket
from contextlib import suppress

from proxy.core import proxy_header
from proxy.core.clusters import SendHeader
from proxy.core.outcomes import Reason
from proxy.core.record import SessionRecord
from proxy.core.snapshot import Cluster
from proxy.net import silence, sockopt
from proxy.net.upstream import DialFailed, Upstream


def header(record: SessionRecord, cluster: Cluster, downstream: socket.socket) -> bytes:
    """The header, which may be repeated as often as need be: it does nothing but name the client."""
    source, destination = record.source, record.destination
    if source is not None and destination is None:
        with suppress(OSError):
            destination = sockopt.dialled_address(downstream)
    old = cluster.proxy_header is SendHeader.V1
    return (proxy_header.version1 if old else proxy_header.version2)(source, destination)


def completed(upstream: Upstream, preface: bytes) -> Upstream:
    """All of the header has been sent, and what counts as sent are the client's bytes; raises `DialFailed`."""
    size = len(preface)
    if upstream.sent < size:  # a socket that was connected just now takes so little at once
        upstream.sent += silence.say(upstream.sock, preface[upstream.sent :])
    if upstream.sent < size:
        upstream.sock.close()
        raise DialFailed(Reason.RESET)
    upstream.sent -= size
    return upstream
