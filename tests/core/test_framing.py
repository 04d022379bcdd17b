from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.framing import Body, Chunked, Sized, UntilClose
from proxy.core.reader import Malformed

CHUNKED = b'5;name=value\r\nhello\r\n00A ;x="y"\r\n0123456789\r\n0\r\nTrailer-X:x\r\nHost: evil\r\n\r\n'
WHOLE = b"f\r\nhello0123456789\r\n0\r\nTrailer-X: x\r\n\r\n"


def taken(body: Body, data: bytes, step: int) -> tuple[int, bytes]:
    """How many bytes belong to it, and what is sent on for them."""
    size, given = 0, b""
    for at in range(0, len(data), step):
        count, piece = body.take(memoryview(data)[at : at + step])
        size += count
        given += bytes(piece)
    return size, given


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
@pytest.mark.parametrize(("body", "data"), [("sized", b"123456789"), ("sized", b""), ("chunked", CHUNKED)])
def test_a_body_ends_where_it_ends(body: str, data: bytes, step: int) -> None:
    reads = Sized(len(data)) if body == "sized" else Chunked()
    size, given = taken(reads, data + b"GET / HTTP/1.1\r\n\r\n", step)
    assert (size, reads.done) == (len(data), True)
    assert reads.take(b"more")[0] == 0
    if body == "sized":
        assert given == data
    else:
        assert taken(Chunked(encode=False), given, 1000)[1] == b"hello0123456789"
        assert given.endswith(b"\r\n0\r\nTrailer-X: x\r\n\r\n")
        assert step < 1000 or given == WHOLE


def test_a_body_until_the_end_of_its_connection() -> None:
    body = UntilClose()
    assert taken(body, b"abc", 1) == (3, b"abc")
    assert not body.done


# What servers read differently (RFC 9112, 7.1): sizes, line ends, extensions, trailers, and chunks of another length.
BAD = [
    b"x\r\n",
    b"-1\r\n",
    b"+5\r\nhello\r\n",
    b"-5\r\nhello\r\n",
    b"0x5\r\nhello\r\n",
    b"5_\r\nhello\r\n",
    b"_5\r\nhello\r\n",
    b" 5\r\nhello\r\n",
    b"5\t\r\nhello\r\n",
    b"5 \r\nhello\r\n",
    b"5 5\r\n",
    b"\r\n",
    b"g\r\n",
    "\uff15\r\nhello\r\n".encode(),
    b"1" * 17 + b"\r\n",
    b"0" * 16 + b"5\r\nhello\r\n",
    b"5\nhello\r\n",
    b"5\r\nhello\n",
    b"5\r\nhellox\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"5;\r\nhello\r\n",
    b"5;a\nhello\r\n",
    b"5;a\rb\r\nhello\r\n",
    b"5;a\0\r\nhello\r\n",
    b"5\r\r\nhello\r\n",
    b"0\r\n\nGET /evil HTTP/1.1\r\n\r\n",
    b"0\n\r\n",
    b"0\r\nX: y\n\r\n",
    b"0\r\nX y\r\n\r\n",
    b"0\r\n: y\r\n\r\n",
    b"0\r\nX : y\r\n\r\n",
    b"0\r\n X: y\r\n\r\n",
    b"0\r\nX: a\0\r\n\r\n",
    b"0\r\nX: a\rb\r\n\r\n",
    b"5;" + b"x" * 10_000,
    b"0\r\n" + b"X: y\r\n" * 9000,
]


@pytest.mark.parametrize("step", [1, 1 << 20])
@pytest.mark.parametrize("data", BAD, ids=lambda data: repr(data[:20]))
def test_chunks_that_break_the_rules_are_refused(data: bytes, step: int) -> None:
    with pytest.raises(Malformed):
        taken(Chunked(), data + b"0\r\n\r\n", step)


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (b"5 \t \r\nhello\r\n0  \r\n\r\n", b"hello"),
        (b"5\nhello\n0\n\n", b"hello"),
        (b"5\r\nhello\r\n0\r\nno trailer\r\n\r\n", b"hello"),
    ],
)
def test_a_server_may_be_sloppy(data: bytes, content: bytes) -> None:
    body = Chunked(lenient=True, encode=False)
    assert taken(body, data, 1) == (len(data), content)
    assert body.done
    for bad in (b"5\r\nhelloworld\r\n", b"0x5\r\n", b"-5\r\n", b"\r\n"):
        with pytest.raises(Malformed):
            Chunked(lenient=True).take(bad)


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from([b"5\r\n", b"hello", b"\r\n", b"0\r\n", b"A: b\r\n", b";", b"\n", b"a"])),
    st.integers(1, 10),
)
def test_pieces_change_nothing(parts: list[bytes], step: int) -> None:
    data = b"".join(parts)
    results: list[tuple[int, bytes] | None] = []
    for size in (step, len(data) or 1):
        try:
            count, given = taken(Chunked(encode=False), data, size)
            results.append((count, given))
        except Malformed:
            results.append(None)
    assert results[0] == results[1]


def test_the_smallest_chunks_keep_nobody_waiting() -> None:
    body, data = Chunked(), b"1\r\na\r\n" * 2700
    began = time.process_time()
    body.take(data)
    assert time.process_time() - began < 0.05, "one read's worth of a chunked body"
