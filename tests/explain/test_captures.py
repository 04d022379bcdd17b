"""Captures in every form that tcpdump and Wireshark write, and files that are none."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.explain import BadCapture, connections, read_capture

WHEN = 1795418828.329757
# A SYN from 10.0.0.1:4000 to 10.0.0.2:80, and the same of IPv6.
_TCP = struct.pack("!HHIIBBHHH", 4000, 80, 1000, 0, 5 << 4, 2, 65535, 0, 0)
IPV4 = (
    struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)))
    + _TCP
)
IPV6 = struct.pack("!IHBB16s16s", 6 << 28, 20, 6, 64, bytes(15) + b"\1", bytes(15) + b"\2") + _TCP
HEADERS = {
    101: (b"", b""),
    0: (b"\2\0\0\0", b"\n\0\0\0"),
    1: (bytes(12) + b"\x08\x00", bytes(12) + b"\x86\xdd"),
    113: (bytes(14) + b"\x08\x00", bytes(14) + b"\x86\xdd"),
    276: (b"\x08\x00" + bytes(18), b"\x86\xdd" + bytes(18)),
}


def pcap(order: str, link: int, packet: bytes, *, fine: bool) -> bytes:
    magic, unit = (0xA1B23C4D, 1e9) if fine else (0xA1B2C3D4, 1e6)
    head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    seconds = int(WHEN)
    return (
        head
        + struct.pack(order + "IIII", seconds, round((WHEN - seconds) * unit), len(packet), len(packet))
        + packet
    )


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def pcapng(order: str, link: int, packet: bytes, *, fine: bool) -> bytes:
    unit, option = (10**9, struct.pack(order + "HHB3x", 9, 1, 9)) if fine else (10**6, b"")
    ticks = round(WHEN * unit)
    found = (
        struct.pack(order + "IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, len(packet), len(packet)) + packet
    )
    return (
        block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
        + block(order, 1, struct.pack(order + "HHI", link, 0, 0) + option)
        + block(order, 5, b"statistics")
        + block(order, 6, found)
    )


@pytest.mark.parametrize("written", [pcap, pcapng])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("fine", [False, True])
@pytest.mark.parametrize("link", list(HEADERS))
@pytest.mark.parametrize("version", [4, 6])
def test_every_form(written: Callable[..., bytes], order: str, fine: bool, link: int, version: int) -> None:
    header = HEADERS[link][version == 6]
    ((when, packet),) = read_capture(
        written(order, link, header + (IPV4 if version == 4 else IPV6), fine=fine)
    )
    assert when == pytest.approx(WHEN, abs=2e-6)
    assert (packet.version, packet.sport, packet.dport, packet.is_syn) == (version, 4000, 80, True)
    assert len(connections([(when, packet)])) == 1


def test_a_packet_that_was_captured_twice_on_its_way_counts_once() -> None:
    one = pcap("<", 101, IPV4, fine=True)
    assert len(read_capture(one + one[24:])) == 1


def test_link_types_that_are_not_known_are_named() -> None:
    with pytest.raises(BadCapture, match="link type 147 is not known"):
        read_capture(pcap("<", 147, IPV4, fine=True))


@settings(max_examples=300)
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", pcap("<", 101, b"", fine=True)[:24], pcapng(">", 1, b"", fine=True)]),
)
def test_whatever_a_file_holds(data: bytes, before: bytes) -> None:
    """It is read or refused, also where it was cut off."""
    with contextlib.suppress(BadCapture):
        connections(read_capture(before + data))
