"""The kernel: its version, its settings for this network namespace, and what stands around it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from proxy.core.snapshot import Snapshot
from proxy.diagnosis.finding import Finding, Level
from proxy.diagnosis.machine import Machine

FAST_OPEN = "net.ipv4.tcp_fastopen"
BLACKHOLE = "net.ipv4.tcp_fastopen_blackhole_timeout_sec"
CLIENT, SERVER, COOKIELESS_CLIENT, COOKIELESS_SERVER, ALL_LISTENERS = 0x1, 0x2, 0x4, 0x200, 0x400
_FEW_PORTS = 10_000
_GVISOR = "4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016"  # what its /proc/version says, whatever its version is


def version(machine: Machine, _: Snapshot | None) -> Iterator[Finding]:
    """Linux 3.7 can dial, 5.5 says why a fast open failed, 6.7 how often it waited."""
    found = re.match(r"(\d+)\.(\d+)", machine.release)
    known = [int(part) for part in found.groups()] if found else [0, 0]
    newer = "run it on a host with Linux 5.15 or newer (6.7 is best)"
    if known < [3, 13]:
        why = "TCP Fast Open for clients and servers came with Linux 3.7 and is on by default since 3.13."
        yield Finding("kernel", Level.MEND, f"Linux {machine.release} is too old", why, newer)
    elif known < [5, 5]:
        why = "before 5.5 the kernel does not say why a fast open failed, so bad paths are found later."
        yield Finding("kernel", Level.WARNING, f"Linux {machine.release}", why, newer)
    else:
        yield Finding("kernel", Level.OK, f"Linux {machine.release}")


def sandbox(machine: Machine, _: Snapshot | None) -> Iterator[Finding]:
    """GVisor and WSL 1 answer system calls themselves, and know no Fast Open."""
    banner = machine.text("proc/version") or ""
    if "gvisor" in banner.lower() or _GVISOR in banner:
        why = "its network stack has no Fast Open: every dial is plain, and no round trip is saved."
        yield Finding(
            "sandbox",
            Level.MEND,
            "this is gVisor",
            why,
            "docker run --runtime=runc …  # or runsc --network=host",
        )
    elif "Microsoft" in banner and machine.release.startswith("4.4."):
        why = "it translates Linux's system calls, and does not know Fast Open."
        yield Finding("sandbox", Level.MEND, "this is WSL 1", why, "wsl --set-version <distribution> 2")


def surroundings(machine: Machine, _: Snapshot | None) -> Iterator[Finding]:
    """Whose settings these are: each network namespace has its own, and begins with the client bit alone."""
    container, own = machine.container, machine.own_namespace
    where = f"a {container} container" if container else "no container that shows"
    if own is not None:
        where += ", a network namespace of its own" if own and not container else ""
    why = "cookies and settings belong to the network namespace; a new one starts with none, whatever the host has."
    yield Finding(
        "surroundings", Level.NOTE if container or own else Level.OK, where, why if container or own else ""
    )


def client_bit(machine: Machine, _: Snapshot | None) -> Iterator[Finding]:
    """Bit 1: we may dial with SYN data."""
    bits = machine.number(FAST_OPEN)
    if bits is None:
        why = "without it nobody can say whether Fast Open is on; the loopback test below tries."
        mend = "ProcSubset=all  # in the systemd unit, if it hides /proc/sys"
        yield Finding("client-bit", Level.WARNING, f"{FAST_OPEN} cannot be read", why, mend)
    elif bits & CLIENT:
        yield Finding("client-bit", Level.OK, f"{FAST_OPEN} = {bits}: dials may carry data")
    else:
        why = "every dial is plain, and no round trip is saved."
        mend = machine.line_to_set(FAST_OPEN, bits | CLIENT)
        yield Finding(
            "client-bit", Level.MEND, f"{FAST_OPEN} = {bits}: bit 1, the client's, is off", why, mend
        )


def server_bit(machine: Machine, snapshot: Snapshot | None) -> Iterator[Finding]:
    """Bit 2: our listeners may take SYN data."""
    bits = machine.number(FAST_OPEN)
    if bits is None:
        return
    if bits & SERVER:
        yield Finding("server-bit", Level.OK, f"{FAST_OPEN} = {bits}: listeners may take data")
        return
    listeners = snapshot.listeners if snapshot is not None else ()
    wanting = [one.name for one in listeners if one.fast_open and not all(bind.is_unix for bind in one.binds)]
    if snapshot is not None and not wanting:
        return
    what = f"{FAST_OPEN} = {bits}: bit 2, the server's, is off"
    why = "clients cannot send data in their SYN to us; TCP_FASTOPEN on a listener does nothing, silently."
    level = Level.WARNING if wanting else Level.NOTE
    if wanting:
        what += f" (wanted by {', '.join(wanting)})"
    yield Finding("server-bit", level, what, why, machine.line_to_set(FAST_OPEN, bits | SERVER))


def cookieless_bits(machine: Machine, _: Snapshot | None) -> Iterator[Finding]:
    """Bits 4 and 0x200: no cookies; nobody on the Internet wants that."""
    bits = machine.number(FAST_OPEN) or 0
    if bits & COOKIELESS_CLIENT:
        why = "dials carry data without a cookie: servers ignore it, and no cookie is ever learned."
        mend = machine.line_to_set(FAST_OPEN, bits & ~COOKIELESS_CLIENT)
        yield Finding("client-without-cookie", Level.MEND, f"{FAST_OPEN} has bit 4", why, mend)
    if bits & COOKIELESS_SERVER:
        why = "listeners take data from forged addresses, and never give a cookie to ordinary clients."
        mend = machine.line_to_set(FAST_OPEN, bits & ~COOKIELESS_SERVER)
        yield Finding("server-without-cookie", Level.WARNING, f"{FAST_OPEN} has bit 0x200", why, mend)
    if bits & ALL_LISTENERS:
        why = "every listener of this namespace takes SYN data, whether its program asked for it or not."
        yield Finding("all-listeners", Level.NOTE, f"{FAST_OPEN} has bit 0x400", why)


def blackhole_pause(machine: Machine, _: Snapshot | None) -> Iterator[Finding]:
    """The kernel's own answer to a bad path: it stops Fast Open for the whole namespace."""
    seconds = machine.number(BLACKHOLE)
    if seconds:
        why = "one bad path switches Fast Open off for every server; tfo-proxy keeps a memory of its own for each."
        mend = machine.line_to_set(BLACKHOLE, 0)
        yield Finding("blackhole-pause", Level.MEND, f"{BLACKHOLE} = {seconds}, it must be 0", why, mend)
    else:
        yield Finding("blackhole-pause", Level.OK, f"{BLACKHOLE} = {'0' if seconds == 0 else 'not there'}")


def syn_cookies(machine: Machine, snapshot: Snapshot | None) -> Iterator[Finding]:
    """SYN cookies for every SYN leave no room for SYN data (net/ipv4/tcp_input.c, tcp_conn_request)."""
    if machine.number("net.ipv4.tcp_syncookies") == 2:
        wanted = snapshot is None or any(listener.fast_open for listener in snapshot.listeners)
        why = "listeners answer every SYN statelessly and never take its data; 1 does so under attack only."
        mend = machine.line_to_set("net.ipv4.tcp_syncookies", 1)
        level = Level.WARNING if wanted else Level.NOTE
        yield Finding("syn-cookies", level, "net.ipv4.tcp_syncookies = 2", why, mend)


def queue_lengths(machine: Machine, snapshot: Snapshot | None) -> Iterator[Finding]:
    """listen(2) and TCP_FASTOPEN are capped at somaxconn without a word."""
    most = machine.number("net.core.somaxconn")
    for listener in snapshot.listeners if snapshot is not None else ():
        if most is not None and listener.backlog > most:
            what = f"listener {listener.name}: backlog {listener.backlog}, but net.core.somaxconn = {most}"
            why = (
                "the kernel caps the queues of connections and of SYN data at it; bursts beyond are dropped."
            )
            mend = machine.line_to_set("net.core.somaxconn", listener.backlog)
            yield Finding("queue-length", Level.WARNING, what, why, mend)


def shared_key(machine: Machine, snapshot: Snapshot | None) -> Iterator[Finding]:
    """Whose key our cookies are made with."""
    if snapshot is not None and snapshot.tfo_keys:
        count = "one key" if len(snapshot.tfo_keys) == 1 else "two keys, the newer one makes the cookies"
        yield Finding("key", Level.OK, f"tfo_keys: {count}")
        return
    key = machine.setting("net.ipv4.tcp_fastopen_key")
    if key is not None and not key.replace("-", "").strip("0"):
        why = (
            "the kernel makes a random key for the first listener; clients' cookies die with this namespace."
        )
        what = "net.ipv4.tcp_fastopen_key is not set yet, and neither is tfo_keys"
        yield Finding(
            "key", Level.NOTE, what, why, 'tfo_keys: "${file:/run/secrets/tfo}"  # openssl rand -hex 16'
        )


def local_ports(machine: Machine, _: Snapshot | None) -> Iterator[Finding]:
    """As many connections to one endpoint at a time as there are ports to dial from."""
    name = "net.ipv4.ip_local_port_range"
    bounds = [int(word) for word in (machine.setting(name) or "").split() if word.isdigit()]
    if len(bounds) == 2 and (count := bounds[1] - bounds[0] + 1) < _FEW_PORTS:
        why = "no more connections than that to one endpoint can be open, or just closed, at a time."
        mend = machine.line_to_set(name, "'1024 65535'")
        yield Finding("local-ports", Level.WARNING, f"{name} leaves {count} ports", why, mend)
