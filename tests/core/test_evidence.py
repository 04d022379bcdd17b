from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.evidence import INFO_SIZE, LOSSES, Evidence, TcpInfo, read_handshake

RTT = 0.1
REPEATED = 1.0  # the kernel's first SYN timeout


def info(
    options: int = 7, fail: int = 0, retransmits: int = 0, timeouts: int | None = 0, rtt: float = RTT
) -> TcpInfo:
    """What the kernel says, from the columns of the table that was measured."""
    raw = bytearray(INFO_SIZE)
    raw[0], raw[5], raw[7] = 1, options, fail << 1
    struct.pack_into("=II", raw, 68, round(rtt * 1e6), round(rtt * 5e5))
    struct.pack_into("=I", raw, 100, retransmits)
    struct.pack_into("=H", raw, 240, timeouts or 0)
    return TcpInfo.parse(bytes(raw[:240] if timeouts is None else raw))


MEASURED = [
    # situation, bytes that sendto took, elapsed, what the kernel says, what it means
    ("first contact", 0, RTT, info(fail=1), Evidence.COOKIE_REQUESTED),
    ("second contact", 100, RTT, info(39), Evidence.SYN_DATA_ACKED),
    ("empty, with a cookie", 0, RTT, info(), Evidence.EMPTY_OPEN),
    ("server without Fast Open", 0, RTT, info(fail=1), Evidence.COOKIE_REQUESTED),
    ("stale cookie", 100, RTT, info(fail=2, retransmits=1), Evidence.SYN_DATA_NOT_ACKED),
    ("server gave Fast Open up", 100, RTT, info(fail=2, retransmits=1), Evidence.SYN_DATA_NOT_ACKED),
    ("listener's queue is full", 100, RTT, info(fail=2, retransmits=1), Evidence.SYN_DATA_NOT_ACKED),
    ("option stripped, warm", 100, RTT, info(fail=2, retransmits=1), Evidence.SYN_DATA_NOT_ACKED),
    ("payload stripped", 100, RTT, info(fail=2, retransmits=1), Evidence.SYN_DATA_NOT_ACKED),
    ("payload cut", 100, RTT, info(fail=2, retransmits=1), Evidence.SYN_DATA_NOT_ACKED),
    ("SYN with data dropped", 100, 1.1, info(fail=3, retransmits=2, timeouts=1), Evidence.SYN_DATA_LOST),
    ("SYN with option dropped, cold", 0, 1.1, info(fail=1, retransmits=1, timeouts=1), Evidence.OPTION_LOST),
    ("the same, warm", 100, 1.1, info(fail=3, retransmits=2, timeouts=1), Evidence.SYN_DATA_LOST),
    ("the same, warm and empty", 0, 1.1, info(fail=3, retransmits=1, timeouts=1), Evidence.OPTION_LOST),
    ("SYN-ACK lost, data", 100, 1.1, info(39, retransmits=1, timeouts=1, rtt=1.103), Evidence.SYN_DATA_ACKED),
    ("SYN-ACK lost, cold", 0, 1.1, info(fail=1, retransmits=1, timeouts=1, rtt=1.111), Evidence.SYN_ACK_LOST),
    ("SYN-ACK lost, empty", 0, 1.1, info(retransmits=1, timeouts=1, rtt=1.118), Evidence.SYN_ACK_LOST),
    ("SYN-ACK lost, data not taken", 100, 1.1, info(fail=3, retransmits=2, timeouts=1, rtt=1.1), Evidence.SYN_ACK_LOST),
    ("what the client sends later is dropped", 100, RTT, info(39), Evidence.SYN_DATA_ACKED),
    ("new source address each time", 100, RTT, info(fail=2, retransmits=1), Evidence.SYN_DATA_NOT_ACKED),
    ("path MTU with ICMP", 1420, 0.13, info(fail=3, retransmits=3), Evidence.PATH_MTU),
    ("path MTU without ICMP", 1420, 1.1, info(fail=3, retransmits=2, timeouts=1), Evidence.SYN_DATA_LOST),
]  # fmt: skip


@pytest.mark.parametrize(
    ("syn_bytes", "elapsed", "said", "means"), [row[1:] for row in MEASURED], ids=[row[0] for row in MEASURED]
)
def test_every_situation_that_was_measured(
    syn_bytes: int, elapsed: float, said: TcpInfo, means: Evidence
) -> None:
    assert read_handshake(said, syn_bytes, elapsed) is means


@pytest.mark.parametrize(
    ("elapsed", "said", "means"),
    [
        (1.1, info(fail=3, retransmits=2, timeouts=None), Evidence.SYN_DATA_LOST),
        (0.13, info(fail=3, retransmits=3, timeouts=None), Evidence.PATH_MTU),
        (
            1.1,
            info(fail=0, retransmits=2, timeouts=None),
            Evidence.SYN_DATA_LOST,
        ),  # before 5.5: no client_fail
    ],
)
def test_older_kernels_are_read_by_the_clock(elapsed: float, said: TcpInfo, means: Evidence) -> None:
    assert said.timeouts is None
    assert read_handshake(said, 1420, elapsed) is means


def test_the_fields_are_where_the_kernel_puts_them() -> None:
    raw = bytearray(range(256))[:INFO_SIZE]
    found = TcpInfo.parse(bytes(raw))
    assert found.rtt == int.from_bytes(raw[68:72], "little") / 1e6
    assert found.rtt_variation == int.from_bytes(raw[72:76], "little") / 1e6
    assert found.retransmits == int.from_bytes(raw[100:104], "little")
    assert found.timeouts == int.from_bytes(raw[240:242], "little")
    assert found.client_fail == (7 >> 1) & 3


@pytest.mark.parametrize(
    ("options", "syn_data", "child"),
    [(7, False, False), (39, True, False), (135, False, True), (167, True, True)],
)
def test_options(options: int, syn_data: bool, child: bool) -> None:
    found = info(options)
    assert (found.syn_data, found.fast_open_child) == (syn_data, child)


@pytest.mark.parametrize("state", range(1, 13))
def test_only_an_established_connection_is_established(state: int) -> None:
    raw = bytearray(INFO_SIZE)
    raw[0] = state
    assert TcpInfo.parse(bytes(raw)).established is (state == 1)


@settings(max_examples=50)
@given(st.binary(min_size=104, max_size=INFO_SIZE), st.integers(0, 65535), st.floats(0, 100))
def test_whatever_the_kernel_says_means_something(raw: bytes, syn_bytes: int, elapsed: float) -> None:
    evidence = read_handshake(TcpInfo.parse(raw), syn_bytes, elapsed)
    assert evidence not in {Evidence.REFUSED, Evidence.SILENT, Evidence.PLAIN, Evidence.UNAVAILABLE}
    if not syn_bytes:
        assert evidence not in {Evidence.SYN_DATA_ACKED, Evidence.SYN_DATA_LOST, Evidence.PATH_MTU}


def test_losses_are_what_a_plain_dial_would_have_survived() -> None:
    assert {*LOSSES} == {Evidence.SYN_DATA_LOST, Evidence.OPTION_LOST, Evidence.REFUSED, Evidence.SILENT}
