"""What the kernel remembers of the endpoints: cookies, lost SYNs, round trips."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from proxy.core.address import Authority, Endpoint, Target
from proxy.core.snapshot import FastOpen, Snapshot
from proxy.diagnosis.finding import Finding, Level
from proxy.diagnosis.machine import Machine
from proxy.net.cookies import Cookie, CookieCache

_MOST = 64  # endpoints told of


def cookies(_: Machine, snapshot: Snapshot | None) -> Iterator[Finding]:
    """One finding for each endpoint of each cluster that fast-opens."""
    targets: dict[Target, None] = {}
    for cluster in snapshot.clusters.values() if snapshot is not None else ():
        if cluster.fast_open is not FastOpen.OFF:
            targets.update((one, None) for one in cluster.endpoints if isinstance(one, Authority | Endpoint))
    with CookieCache() as cache:
        for target in list(targets)[:_MOST]:
            yield from _of_target(target, cache)


def _of_target(target: Target, cache: CookieCache) -> Iterator[Finding]:
    if isinstance(target, Endpoint):
        addresses = [] if target.is_unix else [target.host]
    else:
        try:
            rows = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except OSError as error:
            why = "sessions to it fail until the name has an address."
            yield Finding(
                "endpoint",
                Level.WARNING,
                f"{target}: {error.strerror or error}",
                why,
                f"getent ahosts {target.host}",
            )
            return
        addresses = list(dict.fromkeys(str(row[4][0]) for row in rows))
    for address in addresses:
        found = cache.lookup(address)
        if cache.problem:
            mend = "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK  # in the systemd unit"
            yield Finding(
                "endpoint", Level.NOTE, cache.problem, "cookies cannot be shown; nothing else is lost.", mend
            )
            return
        yield _of_address(target, address, found)


def _of_address(target: Target, address: str, found: list[Cookie]) -> Finding:
    name = str(target) if isinstance(target, Endpoint) else f"{target} ({address})"
    cookie = found[0] if found else None
    if cookie is None or not cookie.has_cookie:
        return Finding("endpoint", Level.OK, f"{name}: no cookie yet; the first dial asks for one")
    said = f"{name}: cookie known" + (f", round trip {cookie.rtt * 1e3:.1f} ms" if cookie.rtt else "")
    if cookie.syn_drops:
        why = "SYNs with data went unanswered: loss, or a middlebox that drops them, where we dial plainly."
        what = f"{said}, but the last {cookie.syn_drops} SYNs with it were lost"
        return Finding("endpoint", Level.WARNING, what, why, f"tfo-proxy probe {target}")
    return Finding("endpoint", Level.OK, said)
