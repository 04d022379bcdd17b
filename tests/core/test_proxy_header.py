"""PROXY protocol headers, both versions: there and back, cut off, and broken."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.address import Endpoint
from proxy.core.proxy_header import (
    LIMIT,
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
    assert version1(FOUR[0], SIX[0]) == b"PROXY UNKNOWN\r\n"
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
    ],
)
def test_a_header_that_says_nothing(data: bytes) -> None:
    assert in_pieces(header, data + b"x", 3) == (Proxied(), len(data))


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
        SIGNATURE + b"\x21\x12\x00\x0c" + bytes(12),
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
