from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.duplicates import Duplicates, identify

OPTIONS = bytes([2, 4, 5, 180, 34, 10, *range(8), 1, 1])


def syn(*, seq: int = 7, port: int = 40000, ttl: int = 64, ident: int = 1, options: bytes = OPTIONS) -> bytes:
    tcp = struct.pack(
        "!HHIIBBHHH", port, 80, seq, 0, (20 + len(options)) * 4, 2, 64240, ident * 3 & 0xFFFF, 0
    )
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 140, ident, 0x4000, ttl, 6, ttl) + bytes(
        [10, 0, 0, 1, 10, 0, 0, 2]
    )
    return ip + tcp + options


def syn6(*, seq: int = 7, hops: int = 64) -> bytes:
    tcp = struct.pack("!HHIIBBHHH", 40000, 80, seq, 0, 0x50, 2, 64240, 0, 0)
    return struct.pack("!IHBB", 6 << 28, 120, 6, hops) + bytes(15) + b"\1" + bytes(15) + b"\2" + tcp


def test_the_same_syn_is_recognised_however_it_travelled() -> None:
    duplicates = Duplicates()
    assert not duplicates.seen(syn(), 0.0)
    assert duplicates.seen(syn(ttl=51, ident=999), 0.4)
    assert duplicates.seen(syn(), 599.0)


@pytest.mark.parametrize(
    "other", [syn(seq=8), syn(port=40001), syn(options=OPTIONS[:-3] + b"\xff\1\1"), syn(options=b"")]
)
def test_another_syn_is_another(other: bytes) -> None:
    duplicates = Duplicates()
    duplicates.seen(syn(), 0.0)
    assert not duplicates.seen(other, 0.1)


def test_ipv6() -> None:
    duplicates = Duplicates()
    assert not duplicates.seen(syn6(), 0.0)
    assert duplicates.seen(syn6(hops=3), 0.1)
    assert not duplicates.seen(syn6(seq=8), 0.1)


def test_it_forgets_in_time() -> None:
    duplicates = Duplicates(window=10.0)
    duplicates.seen(syn(), 0.0)
    assert duplicates.seen(syn(), 9.9)
    assert duplicates.seen(syn(), 19.8), "a replay is remembered anew"
    assert not duplicates.seen(syn(), 29.8)


def test_it_never_holds_more_than_it_may() -> None:
    duplicates = Duplicates(most=100)
    for seq in range(1000):
        assert not duplicates.seen(syn(seq=seq), float(seq) / 1000)
        assert len(duplicates) <= 100
    assert duplicates.seen(syn(seq=950), 1.0)
    assert not duplicates.seen(syn(seq=1), 1.0)
    duplicates.seen(syn(), 1e9)
    assert len(duplicates) == 1


@pytest.mark.parametrize("whole", [syn(), syn6()])
def test_what_is_cut_off_is_never_a_duplicate(whole: bytes) -> None:
    ip = 20 if whole[0] >> 4 == 4 else 40
    duplicates = Duplicates()
    for length in range(ip + 20):
        assert not duplicates.seen(whole[:length], 0.0)
        assert not duplicates.seen(whole[:length], 0.0)
    assert len(duplicates) == 0


@settings(max_examples=50)
@given(st.binary(max_size=120))
def test_noise_never_raises(data: bytes) -> None:
    identify(data)
    Duplicates().seen(data, 0.0)
