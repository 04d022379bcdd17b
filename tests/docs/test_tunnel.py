"""The test vectors of docs/tunnel.md, read from the page."""

from __future__ import annotations

import re

from proxy.core import tunnel
from proxy.core.address import Authority, Endpoint
from proxy.core.nonces import SLICE, SLOTS
from proxy.core.reader import Reading
from proxy.core.tunnel import Ticket
from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "tunnel.md"
NOW = 1_800_000_000.25


def test_vectors() -> None:
    text = PAGE.read_text()
    key, nonce = (bytes.fromhex(found) for found in re.findall(r"`([0-9a-f]{64}|[0-9a-f]{32})`", text)[:2])
    first, second = (
        bytes.fromhex(block) for block in blocks(PAGE, "text") if re.fullmatch(r"[0-9a-f\n]+", block)
    )
    pay = Ticket(
        nonce,
        NOW,
        Authority("pay.example.com", 443),
        Endpoint("192.0.2.1", 56324),
        Endpoint("198.51.100.7", 1080),
    )
    early = b"POST / HTTP/1.1\r\n\r\n"
    assert first == tunnel.seal(key, pay, 1, early, final=False)
    assert second == tunnel.seal(key, Ticket(nonce, NOW, Endpoint("2001:db8::1", 22)), 2, b"", final=True)
    for data in (first + early, second):
        parsed = Reading(tunnel.opening, tunnel.LIMIT).feed(data)
        assert parsed is not None
        tunnel.verify([key], parsed.value, NOW)


def test_numbers() -> None:
    text = PAGE.read_text()
    assert f"{SLOTS * 3 // 4:,} sessions within {SLICE} s" in text
    assert f"0 to {tunnel.MOST_COVERED}" in text
    assert len(tunnel._LABEL) == 27
