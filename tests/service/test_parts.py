from __future__ import annotations

from dataclasses import replace

import pytest

from proxy import later
from proxy.config import load
from proxy.core.address import Endpoint
from proxy.core.clusters import Balance, Cluster, Tls, Via
from proxy.core.limits import Caps
from proxy.core.snapshot import Admin, Bind, FarSide, Listener, Mode, Snapshot
from proxy.core.users import Users, read_secret
from proxy.service.parts import wanted

CLUSTER = Cluster("there", (Endpoint("192.0.2.1", 80),))
LISTENER = Listener("a", (Bind("127.0.0.1", 0),), Mode.FORWARD, CLUSTER)
VIA = Via("tunnel", Endpoint("192.0.2.2", 7413), keys=(b"k" * 16,))
HASHES = {"hashlib", "hmac", "secrets"}


def of(listener: Listener = LISTENER, cluster: Cluster = CLUSTER) -> Snapshot:
    return Snapshot((replace(listener, cluster=cluster),), {cluster.name: cluster})


def test_a_plain_forward_wants_nothing() -> None:
    assert wanted(of()) == set()


@pytest.mark.parametrize(
    ("snapshot", "names"),
    [
        (replace(of(), admin=Admin((Bind("127.0.0.1", 0),))), {"proxy.admin.server"}),
        (replace(of(), admin=Admin((Bind("127.0.0.1", 0),), token="x")), {"proxy.admin.server", *HASHES}),
        (replace(of(), limits=Caps(connections=10)), HASHES),
        (of(replace(LISTENER, limits=Caps(per_client=10))), HASHES),
        (of(replace(LISTENER, users=Users({"alice": read_secret("x")}))), HASHES),
        (of(replace(LISTENER, mode=Mode.TUNNEL, far_side=FarSide((b"k" * 16,)))), HASHES),
        (
            of(replace(LISTENER, mode=Mode.TUNNEL, far_side=FarSide((b"k" * 16,), tls=Tls()))),
            {"ssl", *HASHES},
        ),
        (of(cluster=replace(CLUSTER, balance=Balance.SOURCE_HASH)), HASHES),
        (of(cluster=replace(CLUSTER, via=VIA)), HASHES),
        (of(cluster=replace(CLUSTER, via=replace(VIA, tls=Tls()))), {"ssl", *HASHES}),
    ],
)
def test_what_is_wanted_is_told(snapshot: Snapshot, names: set[str]) -> None:
    assert wanted(snapshot) == names
    assert names <= later.LATER


def test_gateways_of_what_clients_name_count_too() -> None:
    loaded = load(mixed=["127.0.0.1:0"])
    assert wanted(loaded.snapshot) == set()
    routes = replace(loaded.snapshot.routes, direct=replace(loaded.snapshot.direct, via=VIA))
    assert wanted(replace(loaded.snapshot, routes=routes)) == HASHES
