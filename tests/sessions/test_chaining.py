"""What is remembered of gateways; the dials themselves are in tests/wire/test_chains.py."""

from __future__ import annotations

from proxy.core.address import Endpoint
from proxy.sessions.chaining import STEPWISE_FOR, Gateways, Manner

GATEWAY = Endpoint("192.0.2.1", 1080)


def test_what_is_known_of_a_gateway() -> None:
    gateways = Gateways()
    assert gateways.manner(GATEWAY, 0.0) is Manner.UNKNOWN
    gateways.takes_all(GATEWAY)
    assert gateways.manner(GATEWAY, 0.0) is Manner.ALL
    gateways.stumbles(GATEWAY, 10.0)
    assert gateways.manner(GATEWAY, 10.0 + STEPWISE_FOR - 1) is Manner.STEPWISE
    assert gateways.manner(GATEWAY, 10.0 + STEPWISE_FOR) is Manner.UNKNOWN
