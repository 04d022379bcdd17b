from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.lab.packets import decode, decode_options
from proxy.lab.rewrite import without_options
from tests.lab.segments import COOKIE, checksums_hold, segment


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
