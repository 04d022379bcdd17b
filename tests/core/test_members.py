from __future__ import annotations

from proxy.core.address import Endpoint
from proxy.core.members import members_of

A, B = Endpoint("192.0.2.1", 1), Endpoint("192.0.2.2", 1)


def test_each_endpoint_once_and_none_without_weight() -> None:
    members = members_of([(A, 2), (B, 0), (A, 5)])
    assert (members.endpoints, members.weights, members.at, len(members)) == ((A,), (2,), {A: 0}, 1)
