from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.reader import Malformed, NotMine, Parsed, Reading, TooLong
from proxy.core.tls import MAX_HELLO, ClientHello, HelloSpan, client_hello, hello_span
from tests.core import hellos
from tests.core.hellos import TYPICAL, alpn, extension, message, record, records, server_name, vector

LIMIT = 2 * MAX_HELLO
EARLY_DATA, PRE_SHARED_KEY, ECH = extension(42), extension(41, b"psk"), extension(0xFE0D, b"ech")


def read(data: bytes) -> Parsed[ClientHello] | None:
    return Reading(client_hello, LIMIT).feed(data)


def test_says_what_is_in_a_hello() -> None:
    parsed = read(record(message(TYPICAL)))
    assert parsed is not None
    assert parsed.value == ClientHello(
        "example.org", (b"h2", b"http/1.1"), has_early_data=False, has_ech=False
    )


@pytest.mark.parametrize(
    ("extensions", "hello"),
    [
        (None, ClientHello(None, (), False, False)),
        (b"", ClientHello(None, (), False, False)),
        (EARLY_DATA + PRE_SHARED_KEY, ClientHello(None, (), True, False)),
        (server_name(b"public.example") + ECH, ClientHello("public.example", (), False, True)),
        (alpn(b"\x0a\x0a", b"h2"), ClientHello(None, (b"\x0a\x0a", b"h2"), False, False)),
    ],
    ids=["none", "empty list", "early data", "ECH", "GREASE in ALPN"],
)
def test_extensions(extensions: bytes | None, hello: ClientHello) -> None:
    framed = record(message(extensions))
    assert read(framed) == Parsed(hello, len(framed))
    assert hello_span(framed) == HelloSpan(len(framed), complete=True)


SPLITS = [(), (1,), (3,), (4,), (5,), (1, 1, 1, 1, 1), (40, 3), (100,), (1,) * 60]


@pytest.mark.parametrize("sizes", SPLITS, ids=lambda sizes: f"{len(sizes) + 1} records")
@pytest.mark.parametrize("tail", [b"", b"\x14\3\3\0\1\1", b"\x17\3\3\0\5early", b"\x16\3\1\0\1\1"])
def test_any_split_into_records(sizes: tuple[int, ...], tail: bytes) -> None:
    framed = records(message(TYPICAL), *sizes)
    parsed = read(framed + tail)
    assert parsed is not None
    assert (parsed.value.server_name, parsed.consumed) == ("example.org", len(framed))
    assert hello_span(framed + tail) == HelloSpan(len(framed), complete=True)


@pytest.mark.parametrize("sizes", SPLITS, ids=lambda sizes: f"{len(sizes) + 1} records")
def test_truncated_anywhere_it_is_incomplete_and_all_hello(sizes: tuple[int, ...]) -> None:
    framed = records(message(TYPICAL), *sizes)
    for length in range(1, len(framed)):
        assert read(framed[:length]) is None
        assert hello_span(framed[:length]) == HelloSpan(length, complete=False)


def test_truncated_without_extensions_is_incomplete() -> None:
    framed = record(message(None, compressions=b"\1\0"))
    for length in range(1, len(framed)):
        assert hello_span(framed[:length]) == HelloSpan(length, complete=False)


def test_byte_by_byte() -> None:
    framed = records(message(TYPICAL), 7, 50)
    reading = Reading(client_hello, LIMIT)
    answers = [reading.feed(framed[i : i + 1]) for i in range(len(framed))]
    assert answers[:-1] == [None] * (len(framed) - 1)
    assert answers[-1] == read(framed)


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1", b"\x80\x2e\1\3\1", b"\x17\3\3\0\1", b"\x16\2\0\0\1\1", b"\x16\3\5\0\1\1"]
)
def test_other_protocols_are_not_mine(data: bytes) -> None:
    with pytest.raises(NotMine):
        read(data)
    with pytest.raises(NotMine):
        hello_span(data)


def name_list(body: bytes) -> bytes:
    return message(extension(0, body))


GOOD = message(TYPICAL)
BROKEN = {
    "empty record": record(b"") + record(GOOD),
    "record too long": b"\x16\3\1\x40\x01" + b"\1\0\x50\0\3\3" + b"r" * 50,
    "alert inside": record(GOOD[:50]) + record(b"\1\0", kind=21) + record(GOOD[50:]),
    "version changes to nonsense": record(GOOD[:50]) + record(GOOD[50:], version=b"\3\5"),
    "not a hello": record(message(TYPICAL, kind=2)),
    "not a hello, first byte alone": record(b"\2") + record(GOOD[1:]),
    "unknown version": record(message(TYPICAL, version=b"\2\0")),
    "bytes behind it in the record": record(GOOD + b"\x14"),
    "another message behind it": record(GOOD + GOOD),
    "shorter than its fixed part": record(b"\1" + vector(3, b"\3\3" + b"r" * 20)),
    "ends in the ciphers' length": record(b"\1" + vector(3, b"\3\3" + b"r" * 32 + b"\0" + b"\0")),
    "session id of 33": record(message(TYPICAL, session_id=b"s" * 33)),
    "no ciphers": record(message(TYPICAL, ciphers=b"")),
    "half a cipher": record(message(TYPICAL, ciphers=b"\x13\1\x13")),
    "no compressions": record(message(TYPICAL, compressions=b"")),
    "ciphers longer than the hello": record(message(None, ciphers=b"\0\1")[:-4] + b"\xff\xff\0\1"),
    "one byte of an extensions' length": record(b"\1" + vector(3, hellos.body(None) + b"\0")),
    "extensions too short": record(b"\1" + vector(3, hellos.body(TYPICAL) + b"\0")),
    "extensions too long": record(b"\1" + vector(3, hellos.body(None) + b"\0\x09" + extension(42))),
    "extension cut off": record(message(extension(43) + b"\0\1")),
    "extension too long": record(message(b"\0\x2b\0\5\0")),
    "extension twice": record(message(EARLY_DATA + EARLY_DATA)),
    "pre_shared_key not last": record(message(PRE_SHARED_KEY + EARLY_DATA)),
    "empty server_name": record(name_list(b"")),
    "empty name": record(message(server_name(b""))),
    "name with NUL": record(message(server_name(b"good.example\0.evil"))),
    "name not ASCII": record(message(server_name("bücher.example".encode()))),
    "name of 256": record(message(server_name(b"a" * 256))),
    "name shorter than it says": record(name_list(vector(2, b"\0\0\5abcd"))),
    "list shorter than it says": record(name_list(b"\0\x09\0\0\4abcd")),
    "two names": record(name_list(vector(2, b"\0\0\1a\0\0\1b"))),
    "name of another kind": record(name_list(vector(2, b"\1\0\1a"))),
    "empty ALPN": record(message(alpn())),
    "empty ALPN name": record(message(alpn(b"h2", b""))),
    "ALPN name too long": record(message(extension(16, b"\0\3\5h2"))),
    "ALPN list too long": record(message(extension(16, b"\0\5\2h2"))),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        read(data)
    with pytest.raises(Malformed):
        hello_span(data)


def test_a_partial_record_header_is_checked() -> None:
    for tail in (b"\x17", b"\x16\2", b"\x16\3\5"):
        with pytest.raises(Malformed):
            hello_span(record(GOOD[:50]) + tail)


def test_size_is_bounded() -> None:
    first = b"\1" + (MAX_HELLO - 3).to_bytes(3, "big") + b"\3\3" + b"r" * 100
    with pytest.raises(TooLong):
        read(record(first))
    with pytest.raises(TooLong):
        hello_span(record(first))


def test_a_large_hello_over_several_records() -> None:
    large = message(TYPICAL + extension(21, b"\0" * 40_000))
    framed = records(large, 16_384, 16_384)
    assert hello_span(framed + b"more") == HelloSpan(len(framed), complete=True)
    assert hello_span(framed[:20_000]) == HelloSpan(20_000, complete=False)


@settings(max_examples=60)
@given(st.data())
def test_both_readers_agree_on_a_damaged_hello(data: st.DataObject) -> None:
    framed = bytearray(records(message(TYPICAL), *data.draw(st.lists(st.integers(1, 60), max_size=4))))
    for _ in range(data.draw(st.integers(1, 3))):
        framed[data.draw(st.integers(0, len(framed) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(framed)
    try:
        span = hello_span(damaged)
    except (Malformed, NotMine) as seen:
        # The waiting reader may not have got there yet; it never takes what the other refuses.
        try:
            assert read(damaged) is None
        except (Malformed, NotMine) as also_seen:
            assert type(also_seen) is type(seen)  # noqa: PT017
    else:
        parsed = read(damaged)
        assert (parsed is not None) == span.complete
        assert parsed is None or parsed.consumed == span.length
