"""Real clients, run now: is what the installed versions say first still known?"""

from __future__ import annotations

import os

import pytest

from proxy.core.replay import classify
from tests.core.first_flights.clients import CLIENTS
from tests.core.first_flights.record import record

pytestmark = pytest.mark.slow


# ssh asks passwd(5) who it is before anything else.
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.account] * (name == "ssh")) for name in CLIENTS]
)
def test_the_installed_client_is_known(name: str) -> None:
    client = CLIENTS[name]
    if client.program is None:
        missing = f"{client.argv[0]} is not installed"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    flight = record(name)
    assert classify(flight) == (client.safe(flight), client.protocol), flight
