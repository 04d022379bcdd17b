"""PROXY protocol headers, both versions: there and back, cut off, and broken."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core import proxy_header
from proxy.core.address import Endpoint
from proxy.core.proxy_header import (
    LIMIT,
    MOST_EXTENSIONS,
    PP2_CRC32C,
    SIGNATURE,
    Proxied,
    crc32c,
    header,
    version1,
    version2,
)
from proxy.core.reader import Malformed, NotMine, Reading, TooLong
from tests.core.reading import in_pieces

FOUR = Endpoint("192.0.2.1", 56324), Endpoint("198.51.100.7", 443)
SIX = Endpoint("2001:db8::1", 1), Endpoint("2001:db8::2", 65535)
EXTENSIONS = ((0x02, b"example.org"), (PP2_CRC32C, b""), (0xE0, b""))


@pytest.mark.parametrize("step", [1, 5, 1000])
@pytest.mark.parametrize("ends", [FOUR, SIX])
def test_there_and_back(ends: tuple[Endpoint, Endpoint], step: int) -> None:
    for data in (version1(*ends), version2(*ends)):
        parsed = in_pieces(header, data + b"GET /", step)
        assert parsed == (Proxied(*ends), len(data))
        for size in range(len(data)):
            assert Reading(header, LIMIT).feed(data[:size]) is None


def test_the_words_of_the_specification() -> None:
    assert version1(*FOUR) == b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"
    assert version2(*FOUR) == (
        SIGNATURE + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 1, 198, 51, 100, 7]) + b"\xdc\x04\x01\xbb"
    )
    assert version1(None, None) == b"PROXY UNKNOWN\r\n"
    assert version2(None, None) == SIGNATURE + b"\x21\x00\x00\x00"


def test_extensions_with_a_checksum() -> None:
    for source, destination in (FOUR, (None, None)):
        data = version2(source, destination, EXTENSIONS)
        parsed = in_pieces(header, data, 7)
        assert parsed.value.extensions[0] == EXTENSIONS[0]
        assert len(parsed.value.extensions[1][1]) == 4
        named, summed = data.index(b"example.org"), data.index(b"\x03\0\x04") + 3
        for at in (*range(named, named + 11), *range(summed, summed + 4)):
            broken = bytearray(data)
            broken[at] ^= 1
            with pytest.raises(Malformed):
                in_pieces(header, bytes(broken), 1000)


def test_crc32c_of_rfc_3720() -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ff:f 1 2 3\r\n",
        SIGNATURE + b"\x20\x00\x00\x00",
        SIGNATURE + b"\x20\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x20\x00\x00\x05xxxxx",
        SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216),
        SIGNATURE + b"\x21\x32\x00\xd8" + b"/run/a.sock".ljust(108, b"\0") + bytes(108),
    ],
)
def test_a_header_that_says_nothing(data: bytes) -> None:
    assert in_pieces(header, data + b"x", 3) == (Proxied(), len(data))


ADDRESSES = (
    bytes([192, 168, 0, 1, 192, 168, 0, 11]) + b"\xdc\x04\x01\xbb"
)  # as in netty's and the spec's vectors


@pytest.mark.parametrize("family", range(256))
def test_every_family_as_section_2_2_says(family: int) -> None:
    """LOCAL takes any family; of a PROXY command's, unspecified ones are skipped and unassigned ones refused."""
    for block in (b"", ADDRESSES, ADDRESSES + bytes(72), b"\xff" * 216, bytes(300)):
        data = bytes([family]) + len(block).to_bytes(2, "big") + block
        whole = SIGNATURE + b"\x20" + data
        assert in_pieces(header, whole + b"x", 1000) == (Proxied(), len(whole)), "LOCAL"
        whole = SIGNATURE + b"\x21" + data
        if family >> 4 > 3 or family & 15 > 2:
            with pytest.raises(Malformed):
                in_pieces(header, whole, 1000)
        elif family >> 4 == 0 or family & 15 == 0:
            parsed = in_pieces(header, whole + b"x", 1000)
            assert (parsed.value.source, parsed.consumed) == (None, len(whole))


@pytest.mark.parametrize(("family", "size"), [(0x12, 12), (0x22, 36), (0x31, 216), (0x32, 216)])
def test_families_that_are_not_tcp_count_as_unspecified(family: int, size: int) -> None:
    for rest in (b"", bytes(84 - 12), b"\4\0\1x"):
        block = bytes(range(size)) + rest
        whole = SIGNATURE + bytes([0x21, family]) + len(block).to_bytes(2, "big") + block
        parsed = in_pieces(header, whole + b"behind", 5)
        assert (parsed.value.source, parsed.value.destination) == (None, None)
        assert parsed.consumed == len(whole)
    with pytest.raises(Malformed):
        in_pieces(header, SIGNATURE + bytes([0x21, family, 0, size - 1]) + bytes(size - 1), 1000)


def test_padding_with_zeros_as_go_proxyproto_has_it() -> None:
    for ends, family, size in ((FOUR, 0x11, 12), (SIX, 0x21, 36)):
        block = version2(*ends)[16:] + bytes(84 - size)
        whole = SIGNATURE + bytes([0x21, family, 0, 84]) + block
        parsed = in_pieces(header, whole + b"\x99\x97\x98", 1000)
        assert (parsed.value.source, parsed.value.destination) == ends
        assert parsed.consumed == len(whole)


def test_a_mapped_address_is_the_ipv4_address_in_both_versions() -> None:
    block = (
        bytes(10)
        + b"\xff\xff\xc0\x00\x02\x01"
        + bytes(10)
        + b"\xff\xff\xc6\x33\x64\x07"
        + b"\xdc\x04\x01\xbb"
    )
    for data in (
        SIGNATURE + b"\x21\x21\x00\x24" + block,
        b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.7 56324 443\r\n",
        b"PROXY TCP6 ::ffff:c000:201 0:0:0:0:0:ffff:c633:6407 56324 443\r\n",
    ):
        source, destination = in_pieces(header, data, 1000).value[:2]
        assert (source, destination) == FOUR
        assert version2(source, destination)[13:16] == b"\x11\x00\x0c"
        assert version1(source, destination).startswith(b"PROXY TCP4 192.0.2.1 198.51.100.7 ")


def test_addresses_of_two_families_are_both_written_as_ipv6() -> None:
    """As HAProxy's make_proxy_line_v1 and _v2; mapped addresses are then read back as IPv4."""
    assert version1(FOUR[0], SIX[0]) == b"PROXY TCP6 ::ffff:c000:201 2001:db8::1 56324 1\r\n"
    for ends in ((FOUR[0], SIX[0]), (SIX[0], FOUR[0])):
        for data in (version1(*ends), version2(*ends)):
            assert in_pieces(header, data, 1000).value[:2] == ends
    scoped = Endpoint("fe80::1%eth0", 5)
    assert version1(scoped, SIX[0]) == b"PROXY TCP6 fe80::1 2001:db8::1 5 1\r\n"
    assert version2(scoped, SIX[0])[16:32].hex() == "fe80" + "0" * 27 + "1"
    assert version1(Endpoint("/run/x", 0), SIX[0]) == b"PROXY UNKNOWN\r\n"


def test_one_checksum_is_computed_whatever_a_header_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many checksums, right ones among them, are refused before any is computed."""
    summed: list[int] = []

    def count(data: bytes) -> int:
        summed.append(len(data))
        return crc32c(data)

    monkeypatch.setattr(proxy_header, "crc32c", count)
    many = [(PP2_CRC32C, b"")] * 469
    for extensions in (many, many[:2], [(4, bytes(4000)), *many[:2]], [*many[:1], (4, b""), *many[:1]]):
        data = version2(*FOUR, extensions)
        summed.clear()
        with pytest.raises(Malformed):
            in_pieces(header, data, 1 << 16)
        assert not summed
    data = version2(*FOUR, [(4, bytes(3000)), (PP2_CRC32C, b""), (4, bytes(1000))])
    summed.clear()
    assert in_pieces(header, data, 1).consumed == len(data)
    assert summed == [len(data)]
    most = [(4, b"")] * MOST_EXTENSIONS
    assert len(in_pieces(header, version2(*FOUR, most), 1 << 16).value.extensions) == MOST_EXTENSIONS
    with pytest.raises(Malformed):
        in_pieces(header, version2(*FOUR, [*most, (4, b"")]), 1 << 16)


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY TCP4 192.0.2.1 198.51.100.7 56324\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 056324 443\r\n",
        b"PROXY TCP4 192.0.2.01 198.51.100.7 56324 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 65536\r\n",
        b"PROXY TCP4 2001:db8::1 198.51.100.7 56324 443\r\n",
        b"PROXY TCP6 192.0.2.1 198.51.100.7 56324 443\r\n",
        b"PROXY  TCP4 192.0.2.1 198.51.100.7 56324 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443 \r\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY TCP5 a b 1 2\r\n",
        b"PROXY " + b"x" * 110,
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x13\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),
        SIGNATURE + b"\x21\x11\x00\x0e" + bytes(14),
        SIGNATURE + b"\x21\x11\x00\x10" + bytes(12) + b"\1\0\5x",
    ],
)
def test_a_header_that_is_broken(data: bytes) -> None:
    for step in (1, 1000):
        with pytest.raises(Malformed):
            in_pieces(header, data, step)


def test_a_header_that_is_too_long() -> None:
    with pytest.raises(TooLong):
        in_pieces(header, SIGNATURE + b"\x21\x11\xff\xff", 1)


@pytest.mark.parametrize("data", [b"PROXX", b"GET", b"\r\n\r\n\0\r\nQUIZ", b"\x16", b"P\0"])
def test_other_protocols_are_not_mine(data: bytes) -> None:
    with pytest.raises(NotMine):
        in_pieces(header, data, 1)


def test_mutations_end_the_same_in_any_pieces() -> None:
    rng = random.Random(3)
    samples = [version1(*FOUR), version2(*FOUR), version2(*SIX, EXTENSIONS)]
    for _ in range(300):
        data = bytearray(rng.choice(samples) + b"behind")
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        results: list[object] = []
        for step in (1, 1000):
            reading, parsed = Reading(header, LIMIT), None
            try:
                for at in range(0, len(data), step):
                    parsed = parsed or reading.feed(bytes(data[at : at + step]))
                results.append(parsed)
            except (NotMine, Malformed) as error:
                results.append((type(error), str(error)))
        assert results[0] == results[1], bytes(data)


@settings(max_examples=50)
@given(st.binary(max_size=60))
def test_any_binary_header_ends_in_an_answer(body: bytes) -> None:
    try:
        Reading(header, LIMIT).feed(SIGNATURE + body)
    except Malformed:
        return
