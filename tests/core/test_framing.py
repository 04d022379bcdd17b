from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.framing import Chunked, Sized

CHUNKED = b"5;name=value\r\nhello\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
@pytest.mark.parametrize(("body", "data"), [(Sized(9), b"123456789"), (Sized(0), b""), (Chunked(), CHUNKED)])
def test_a_body_ends_where_it_ends(body: Sized | Chunked, data: bytes, step: int) -> None:
    body = Sized(len(data)) if isinstance(body, Sized) else Chunked()
    stream = data + b"GET / HTTP/1.1\r\n\r\n"
    taken = sum(body.take(memoryview(stream)[at : at + step]) for at in range(0, len(stream), step))
    assert taken == len(data)
    assert body.take(b"more") == 0


@pytest.mark.parametrize(
    "data", [b"x\r\n", b"-1\r\n", b"0x5\r\n", b"5 5\r\n", b"\r\n", b"5\n", b"1" * 16 + b"\r\n"]
)
def test_what_is_no_chunk_ends_the_body(data: bytes) -> None:
    body = Chunked()
    assert body.take(data + b"hello\r\n0\r\n\r\n") <= len(data)
    assert body.take(b"hello") == 0


def test_a_line_without_end_ends_the_body() -> None:
    body = Chunked()
    body.take(b"5;" + b"x" * 10_000)
    assert body.take(b"\r\nhello") == 0


@settings(max_examples=50)
@given(st.binary(max_size=60), st.integers(1, 10))
def test_pieces_change_nothing(data: bytes, step: int) -> None:
    whole, pieces = Chunked(), Chunked()
    taken = 0
    for at in range(0, len(data), step):
        part = data[at : at + step]
        took = pieces.take(part)
        taken += took
        if took < len(part):
            break
    assert whole.take(data) == taken
