from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.reader import Malformed, NotMine, Parsed, Parser, Reader, Reading, TooLong


def greeting(reader: Reader) -> Parser[tuple[int, bytes, bytes, int]]:
    """A small protocol: '!', a counted string, a line, two bytes."""
    if (yield from reader.peek(1)) != b"!":
        raise NotMine("no greeting")
    yield from reader.read_byte()
    size = yield from reader.read_byte()
    if size > 9:
        raise Malformed("more than nine")
    name = yield from reader.read_exactly(size)
    line = yield from reader.read_until(b"\r\n", 8)
    number = yield from reader.read_uint16()
    return size, name, line, number


WHOLE = b"!\3abcline\r\n\1\2"
VALUE = (3, b"abc", b"line", 258)


def test_whole_with_and_without_a_tail() -> None:
    assert Reading(greeting, 64).feed(WHOLE) == Parsed(VALUE, len(WHOLE))
    assert Reading(greeting, 64).feed(WHOLE + b"tail") == Parsed(VALUE, len(WHOLE))


def test_truncated_anywhere_needs_more() -> None:
    for length in range(len(WHOLE)):
        assert Reading(greeting, 64).feed(WHOLE[:length]) is None


@settings(max_examples=30)
@given(st.lists(st.integers(0, len(WHOLE)), max_size=8).map(sorted))
def test_in_any_pieces(cuts: list[int]) -> None:
    reading = Reading(greeting, 64)
    edges = [0, *cuts, len(WHOLE)]
    answers = [reading.feed(WHOLE[a:b]) for a, b in pairwise(edges) if a < b]
    assert answers == [None] * (len(answers) - 1) + [Parsed(VALUE, len(WHOLE))]


def test_not_mine_and_malformed_are_told_apart() -> None:
    with pytest.raises(NotMine):
        Reading(greeting, 64).feed(b"?")
    with pytest.raises(Malformed):
        Reading(greeting, 64).feed(b"!\x0a")


def test_an_unfinished_message_is_bounded() -> None:
    reading = Reading(greeting, 4)
    assert reading.feed(b"!\3a") is None
    with pytest.raises(TooLong, match="unfinished after 4 bytes"):
        reading.feed(b"b")


def test_the_bound_spares_what_follows_a_finished_message() -> None:
    assert Reading(greeting, len(WHOLE)).feed(WHOLE + b"x" * 100) == Parsed(VALUE, len(WHOLE))


@pytest.mark.parametrize(
    ("line", "fits"),
    [(b"123456\r\n", True), (b"1234567\r\n", False), (b"12345678", False), (b"1234567\r", False)],
)
@pytest.mark.parametrize("step", [1, 9])
def test_a_line_is_bounded_with_its_delimiter(line: bytes, fits: bool, step: int) -> None:
    reading = Reading(greeting, 64)

    def feed_all() -> None:
        for start in range(0, len(data), step):
            assert reading.feed(data[start : start + step]) is None

    data = b"!\0" + line
    if fits:
        feed_all()
    else:
        with pytest.raises(TooLong):
            feed_all()


def test_a_parser_that_needs_nothing_answers_at_once() -> None:
    def nothing(reader: Reader) -> Parser[str]:
        yield from ()
        return "nothing"

    assert Reading(nothing, 1).feed(b"") == Parsed("nothing", 0)
