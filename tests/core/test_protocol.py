from __future__ import annotations

import re

from proxy.core.protocol import Protocol
from tests.core.first_flights.clients import CLIENTS


def test_a_name_is_a_label() -> None:
    assert all(re.fullmatch("[a-z][a-z0-9]*", protocol) for protocol in Protocol)
    assert f"{Protocol.HTTP1}" == "http1"


def test_every_protocol_is_spoken_by_a_client_we_recorded() -> None:
    assert {Protocol(client.protocol) for client in CLIENTS.values()} == set(Protocol)
