"""What real clients said first, as recorded in first_flights/, against `safe_prefix` and the ClientHello reader."""

from __future__ import annotations

import pytest

from proxy.core.replay import classify
from proxy.core.tls import client_hello
from tests.core.first_flights.clients import CLIENTS, recording
from tests.core.reading import in_pieces

HELLOS = ("curl_https", "openssl", "openssl_tls12", "node_post_quantum", "chromium_https")


@pytest.mark.parametrize("name", CLIENTS)
def test_a_recorded_first_flight_is_known(name: str) -> None:
    client, flight = CLIENTS[name], recording(name)
    assert classify(flight) == (client.safe(flight), client.protocol)


@pytest.mark.parametrize("name", CLIENTS)
def test_truncated_it_is_never_safer(name: str) -> None:
    """Cut anywhere, no byte counts that would not count in the whole flight, but in a head cut before its body."""
    client, flight = CLIENTS[name], recording(name)
    bound = client.safe(flight)
    lengths = [classify(flight[:length])[0] for length in range(len(flight) + 1)]
    if name in ("curl_get_with_body", "curl_websocket"):
        telling = min(flight.find(name) % len(flight) for name in (b"\nContent-Length: ", b"\nUpgrade: "))
        assert not any(lengths[telling + 20 :])
    else:
        assert max(lengths) == bound
        assert lengths == sorted(lengths)


@pytest.mark.parametrize("name", HELLOS)
@pytest.mark.parametrize("step", [1, 700, 65_536])
def test_what_is_in_a_recorded_hello(name: str, step: int) -> None:
    flight = recording(name)
    hello, consumed = in_pieces(client_hello, flight + b"\x14\3\3\0\1\1", step)
    assert consumed == len(flight)
    assert hello.server_name == "example.org"
    assert not hello.has_early_data
    assert hello.alpn == ((b"h2", b"http/1.1") if name != "openssl_tls12" else ())
    assert hello.has_ech == (name == "chromium_https")


def test_early_data_behind_a_hello_is_seen_and_waits() -> None:
    flight = recording("openssl_early_data")
    hello, consumed = in_pieces(client_hello, flight, len(flight))
    assert hello.has_early_data
    assert consumed < len(flight)
    assert classify(flight)[0] == consumed


@pytest.mark.parametrize("name", ["node_post_quantum", "chromium_https"])
def test_a_post_quantum_share_outgrows_a_packet(name: str) -> None:
    flight = recording(name)
    assert len(flight) > 1_460
    assert b"\x11\xec\x04\xc0" in flight  # X25519MLKEM768, a share of 1,216 bytes
    assert classify(flight[:1_460]) == (1_460, "tls")
