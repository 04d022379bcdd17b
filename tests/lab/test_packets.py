from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.lab.packets import ACK, SYN, Packet, decode, decode_options
from proxy.lab.rewrite import (
    checksum,
    reset_to,
    too_big,
    unreachable,
    with_addresses,
    with_payload,
    without_options,
)

# A SYN as tcpdump saw it leave Linux 6.18, with a cookie and 4 bytes of data; checksums as the kernel made them.
COOKIE = bytes.fromhex("a27990dfe584dda7")
OPTIONS = (
    bytes.fromhex("020405b4 0402 080a 0102030405060708 01 03030a") + bytes([34, 10]) + COOKIE + bytes([1, 1])
)


def segment(version: int = 4, options: bytes = OPTIONS, payload: bytes = b"ping", flags: int = SYN) -> Packet:
    offset = (20 + len(options)) // 4 << 4
    tcp = struct.pack("!HHIIBBHHH", 40000, 80, 1000, 0, offset, flags, 64240, 0, 0) + options
    if version == 4:
        header = bytes.fromhex("4500000012344000400600000a4d01010a4d0201")
    else:
        header = bytes.fromhex(
            "6000000000000640" + "fd770001" + 22 * "0" + "01" + "fd770002" + 22 * "0" + "01"
        )
    packet = decode(header + tcp)
    assert packet is not None
    return with_payload(packet, payload)


def checksums_hold(packet: Packet) -> bool:
    """A checksum over data that includes its checksum is zero."""
    body = packet.raw[packet.ip_header :]
    if packet.version == 4 and checksum(packet.raw[: packet.ip_header]):
        return False
    addresses = packet.raw[12:20] if packet.version == 4 else packet.raw[8:40]
    pseudo = b"" if packet.protocol == 1 else addresses + struct.pack("!II", len(body), packet.protocol)
    return checksum(pseudo + body) == 0


@pytest.mark.parametrize("version", [4, 6])
def test_a_syn_is_read_whole(version: int) -> None:
    packet = segment(version)
    assert (packet.src, packet.dst) == (
        ("10.77.1.1", "10.77.2.1") if version == 4 else ("fd77:1::1", "fd77:2::1")
    )
    assert (packet.sport, packet.dport, packet.seq, packet.window) == (40000, 80, 1000, 64240)
    assert packet.is_syn
    assert packet.has_syn_data
    assert not packet.is_syn_ack
    assert (packet.mss, packet.window_scale, packet.sack_permitted) == (1460, 10, True)
    assert packet.timestamps == (0x01020304, 0x05060708)
    assert packet.fast_open == (34, COOKIE)
    assert packet.payload == b"ping"
    assert checksums_hold(packet)
    assert str(packet).endswith(
        "[S] seq 1000 <mss 1460,sackOK,TS,wscale 10,tfo cookie a27990dfe584dda7> length 4"
    )


def test_the_experimental_option_needs_its_magic() -> None:
    ours = segment(options=bytes([254, 12]) + b"\xf9\x89" + COOKIE)
    assert ours.fast_open == (254, COOKIE)
    request = segment(options=bytes([254, 4]) + b"\xf9\x89")
    assert (request.cookie, request.fast_open) == (b"", (254, b""))
    other = segment(options=bytes([254, 4]) + b"\x12\x34")
    assert other.fast_open is None
    assert without_options(other, {254}).option(254) == b"\x12\x34"
    assert without_options(ours, {254}).option(254) is None


@given(st.binary(max_size=120))
def test_nothing_makes_decoding_fail(raw: bytes) -> None:
    decode(raw)
    decode(b"\x45" + raw)
    decode(b"\x60" + raw)
    decode_options(raw)


@pytest.mark.parametrize("version", [4, 6])
def test_a_truncated_packet_still_says_what_it_can(version: int) -> None:
    whole = segment(version, payload=bytes(1000))
    for size in range(len(whole.raw)):
        cut = decode(whole.raw[:size], whole.length)
        if size >= whole.ip_header + 20:
            assert cut is not None
            assert (cut.dport, cut.payload_length, cut.length) == (80, 1000, whole.length)


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
