"""Everything that a snapshot will use, read before it is served.

`proxy.later` leaves out what most configurations have no use for. Read while sessions run it would keep one waiting,
and its file may be gone by then: another version was installed, or the process is a user who may not read it.
"""

from __future__ import annotations

from collections.abc import Iterator

from proxy import later
from proxy.core.clusters import Balance, Cluster
from proxy.core.snapshot import Listener, Snapshot

_HASHES = ("hashlib", "hmac", "secrets")


def fetch(snapshot: Snapshot) -> None:
    """Have it all; raises what an import may. Who will become another user has to have what a reload may ask for."""
    if snapshot.user is not None or snapshot.group is not None:
        later.read()
    else:
        later.read(wanted(snapshot))


def wanted(snapshot: Snapshot) -> frozenset[str]:
    """The modules of `later.LATER` that it cannot be served without."""
    return frozenset(_wanted(snapshot))


def _wanted(snapshot: Snapshot) -> Iterator[str]:
    if snapshot.admin is not None:
        yield "proxy.admin.server"
        if snapshot.admin.token is not None:
            yield from _HASHES
    if snapshot.limits.any:
        yield from _HASHES
    for listener in snapshot.listeners:
        yield from _of_listener(listener)
    for cluster in (*snapshot.clusters.values(), snapshot.direct):
        yield from _of_cluster(cluster)


def _of_listener(listener: Listener) -> Iterator[str]:
    if listener.users is not None or listener.limits.any or listener.far_side is not None:
        yield from _HASHES
    if listener.far_side is not None and listener.far_side.tls is not None:
        yield "ssl"


def _of_cluster(cluster: Cluster) -> Iterator[str]:
    if cluster.balance is Balance.SOURCE_HASH or cluster.via is not None:
        yield from _HASHES
    if cluster.via is not None and cluster.via.tls is not None:
        yield "ssl"
