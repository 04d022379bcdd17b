"""Lengths and checksums of packets that a middlebox has changed or made."""

from __future__ import annotations

import pytest

from proxy.lab.packets import ACK
from proxy.lab.rewrite import reset_to, too_big, unreachable, with_addresses, with_payload, without_options
from tests.lab.segments import COOKIE, checksums_hold, segment


@pytest.mark.parametrize("version", [4, 6])
def test_rewriting_keeps_everything_else_and_the_checksums(version: int) -> None:
    packet = segment(version)
    bare = without_options(packet, {34})
    assert (bare.cookie, bare.mss, bare.payload, bare.length) == (None, 1460, b"ping", packet.length)
    cut = with_payload(packet, b"p")
    assert (cut.payload, cut.cookie, cut.length) == (b"p", COOKIE, packet.length - 3)
    source = "10.79.0.1" if version == 4 else "fd77:9::1"
    moved = with_addresses(packet, src=source)
    assert (moved.src, moved.dst, moved.options) == (source, packet.dst, packet.options)
    assert with_addresses(moved, src=packet.src) == packet
    for made in (bare, cut, moved, with_payload(packet, b"odd"), with_payload(packet, b"")):
        assert checksums_hold(made)


@pytest.mark.parametrize("version", [4, 6])
def test_invented_packets_are_what_a_host_or_router_would_send(version: int) -> None:
    packet = segment(version)
    reset = reset_to(packet)
    assert reset.flow == packet.reverse_flow
    assert reset.is_reset
    assert (reset.seq, reset.ack, reset.flags & ACK) == (0, 1005, ACK)
    assert reset_to(segment(version, flags=ACK)).flags & ACK == 0
    refused, big = unreachable(packet), too_big(packet, 1400)
    assert (refused.icmp, big.icmp) == (((3, 13), (3, 4)) if version == 4 else ((1, 1), (2, 0)))
    assert big.raw[big.ip_header + 4 : big.ip_header + 8] == (1400).to_bytes(4, "big")
    assert big.raw[big.ip_header + 8 :].startswith(packet.raw[: packet.ip_header + 20])
    assert refused.dst == packet.src
    for made in (reset, refused, big):
        assert checksums_hold(made)
