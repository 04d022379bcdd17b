"""What this process may do: descriptors, the state file, binds, and what its sockets really are."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from proxy.core.snapshot import Bind, Listener, Snapshot
from proxy.diagnosis.finding import Finding, Level
from proxy.diagnosis.machine import Machine
from proxy.service import state

SESSIONS = 4_000  # what a busy proxy may hold; each has two descriptors
_SPARE = 100
_MPTCP = 262  # IPPROTO_MPTCP


def descriptors(machine: Machine, _: Snapshot | None) -> Iterator[Finding]:
    """RLIMIT_NOFILE, of which `run` takes all that it may."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = 2 * SESSIONS + _SPARE
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        yield Finding("descriptors", Level.OK, f"up to {'any number of' if hard < 0 else hard} descriptors")
        return
    lines = {
        "docker": f"docker run --ulimit nofile={wanted}:{wanted} …",
        "podman": f"podman run --ulimit nofile={wanted}:{wanted} …",
        "kubernetes": f"LimitNOFILE={wanted}  # in the container runtime's systemd unit, on the node",
    }
    mend = lines.get(
        machine.container, f"LimitNOFILE={wanted}  # in the systemd unit; in a shell: ulimit -Hn {wanted}"
    )
    why = f"a session takes two, so about {max(0, hard - _SPARE) // 2} sessions fit; further ones wait."
    yield Finding("descriptors", Level.WARNING, f"the hard limit is {hard} descriptors", why, mend)


def state_file(_: Machine, snapshot: Snapshot | None) -> Iterator[Finding]:
    """The state file and the folder it is replaced in."""
    if snapshot is None or snapshot.state is None:
        return
    path = Path(snapshot.state)
    owner = f"{os.geteuid()}:{os.getegid()}"
    why = "what was learned about endpoints is lost at every restart."
    if not path.parent.is_dir():
        mend = f"install -d -m 0700 -o {os.geteuid()} -g {os.getegid()} {path.parent}"
        yield Finding(
            "state", Level.MEND, f"the folder {path.parent} of the state file is not there", why, mend
        )
    elif not os.access(path.parent, os.W_OK | os.X_OK) or (path.exists() and not os.access(path, os.R_OK)):
        mend = f"chown -R {owner} {path.parent}"
        yield Finding("state", Level.MEND, f"the state file {path} cannot be written", why, mend)
    elif isinstance(found := state.load(str(path)), state.Damaged):
        yield Finding(
            "state", Level.WARNING, f"the state file is not used: {found.reason}", why, f"rm {path}"
        )
    else:
        yield Finding("state", Level.OK, f"state file {path}")


def binds(_: Machine, snapshot: Snapshot | None) -> Iterator[Finding]:
    """Whether each bind may be had. One that is in use is as it should be where the proxy is running."""
    for listener in snapshot.listeners if snapshot is not None else ():
        for bind in listener.binds:
            error = None if bind.is_unix else _trial(bind)
            if error is not None:
                yield _cannot_bind(listener, bind, error)


def _cannot_bind(listener: Listener, bind: Bind, code: int) -> Finding:
    what = f"listener {listener.name} cannot listen on {bind}: {os.strerror(code)}"
    why = "`run` opens all of its listeners or none."
    if code == errno.EACCES:
        mend = f"sysctl -w net.ipv4.ip_unprivileged_port_start={bind.port}  # or give CAP_NET_BIND_SERVICE"
    else:
        mend = f'bind: "*:{bind.port}"  # or an address that this namespace has: ip address'
    return Finding("bind", Level.MEND, what, why, mend)


def _trial(bind: Bind) -> int | None:
    """Bind and let go; the errno that says it can never be had."""
    host = "0.0.0.0" if bind.host == "*" else bind.host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, bind.port))
    except OSError as error:
        return None if error.errno == errno.EADDRINUSE else error.errno
    return None


def multipath(machine: Machine, _: Snapshot | None) -> Iterator[Finding]:
    """Whether somebody turns our TCP sockets into MPTCP ones (mptcpize, an eBPF program)."""
    with suppress(OSError), socket.socket() as sock:
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL) == _MPTCP:
            why = "with Fast Open an MPTCP server's answer waits for the client's next segment; the two do not mix."
            mend = "sysctl -w net.mptcp.enabled=0  # or start it without mptcpize"
            yield Finding("mptcp", Level.MEND, "our TCP sockets are MPTCP sockets", why, mend)
            return
    if machine.number("net.mptcp.enabled"):
        why = "ours are plain TCP; servers that listen with IPPROTO_MPTCP and Fast Open answer MPTCP clients late."
        yield Finding("mptcp", Level.NOTE, "net.mptcp.enabled = 1", why)
