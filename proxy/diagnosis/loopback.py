"""Ask the kernel, not its settings: a listener with Fast Open on 127.0.0.1, a few dials, TCP_INFO of both ends."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import suppress

from proxy.core.address import Endpoint
from proxy.core.evidence import TcpInfo
from proxy.core.fastopen import Open, Plan
from proxy.core.snapshot import Snapshot
from proxy.diagnosis.finding import Finding, Level
from proxy.diagnosis.kernel import CLIENT, FAST_OPEN, SERVER
from proxy.diagnosis.machine import Machine
from proxy.net import dial, sockopt
from proxy.net.upstream import DialFailed

_DATA = b"tfo-proxy doctor"
_QUEUE = 256
_TRIES = 3  # the first fetches a cookie, or finds an old one; one in reserve
_PATIENCE = 1000  # milliseconds


def self_test(machine: Machine, _: Snapshot | None) -> Iterator[Finding]:
    """Data in a SYN, from ourselves to ourselves."""
    try:
        ends = _try()
    except (OSError, DialFailed) as error:
        why = "the loopback interface answers no connection, so nothing can be said."
        yield Finding(
            "self-test", Level.WARNING, f"loopback cannot be used: {error}", why, "ip link set lo up"
        )
        return
    bits = machine.number(FAST_OPEN)
    if any(client.syn_data and server.syn_data for client, server in ends):
        yield Finding(
            "self-test", Level.OK, "data was taken from a SYN on loopback, and acknowledged in the SYN-ACK"
        )
    elif bits is not None and not bits & SERVER:
        asked = any(client.client_fail == 1 for client, _ in ends)
        level = Level.OK if asked else Level.NOTE
        said = "cookies are asked for" if asked else "no cookie is asked for"
        yield Finding(
            "self-test", level, f"on loopback {said}; nobody may give one without bit 2 of {FAST_OPEN}"
        )
    elif bits is not None and not bits & CLIENT:
        yield Finding("self-test", Level.NOTE, f"nothing to test without bit 1 of {FAST_OPEN}")
    else:
        why = "the settings allow Fast Open and the kernel does not do it: a sandbox, a firewall rule, or SYN cookies."
        mend = "iptables-save | grep -i tcpopt; nft list ruleset; uname -a"
        yield Finding("self-test", Level.MEND, "no data was taken from a SYN on loopback", why, mend)


def _try() -> list[tuple[TcpInfo, TcpInfo]]:
    """What both ends say of each dial: client, server."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        with suppress(OSError):  # where there is no such option the dials will show it
            sockopt.accept_syn_data(listener, _QUEUE)
        listener.listen(_QUEUE)
        listener.settimeout(_PATIENCE / 1e3)
        endpoint = Endpoint("127.0.0.1", listener.getsockname()[1])
        return [_dial(endpoint, listener) for _ in range(_TRIES)]


def _dial(endpoint: Endpoint, listener: socket.socket) -> tuple[TcpInfo, TcpInfo]:
    plan = Plan(Open.DATA, len(_DATA), None, probe=False, era=0)
    with dial.begin(endpoint, _DATA, plan, lambda: 0.0).sock as client:
        poll = select.poll()
        poll.register(client, select.POLLOUT)
        poll.poll(_PATIENCE)
        error = sockopt.pending_error(client)
        if error:
            raise DialFailed.because(error)
        server, _ = listener.accept()
        with server:
            return sockopt.tcp_info(client), sockopt.tcp_info(server)
