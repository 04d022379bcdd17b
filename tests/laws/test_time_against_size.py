"""Twice the bytes take at most 2.5 times the time, whatever they are, and no input keeps the event loop for 50 ms."""

from __future__ import annotations

import random
import re
from contextlib import suppress

import pytest

from proxy.core import proxy_header
from proxy.core.patterns import BadPattern, compile_pattern
from proxy.core.proxy_header import PP2_CRC32C, crc32c
from proxy.net.records import MOST_ANSWER
from tests.laws.parsers import PARSERS, extensions
from tests.laws.search import LONGEST, Judged, Parse, problems, seconds


@pytest.mark.parametrize("name", PARSERS)
def test_time_against_size(name: str) -> None:
    found = problems(name, PARSERS[name])
    assert not found, "\n".join(found)


def test_a_chain_of_pointers_as_long_as_an_answer_may_be_is_short_work() -> None:
    """dnspython follows 16 of them since 2.9; without that bound this answer takes 400 ms."""
    parse, at, behind = PARSERS["DNS answers"].parse, 31 + 12, 12
    chain = b""
    for _ in range(2000):
        chain, behind, at = chain + (0xC000 | behind).to_bytes(2, "big"), at, at + 2
    head = b"\x81\x80\0\1\xff\xff\0\0\0\0"
    records = b"\xc0\x0c\xff\0\0\1\0\0\0\x3c" + len(chain).to_bytes(2, "big") + chain
    address = (0xC000 | behind).to_bytes(2, "big") + b"\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4"
    answer = (head + records + 300 * address)[:MOST_ANSWER]
    assert seconds(parse, answer, 3) < LONGEST


PIECES = ["a*", "a+", ".*", "[a-z]*", "a", "a?", "(a|b)", "b", "a{0,3}", "(aa|a)", "\\.", "[a-z.]*", ".+",
          "a" * 30, "(a|a)",
          "(a*|b)", ".{0,200}", "a{1,253}", "(a?){2}", "(a|aa){2}", "(?:ab?)", "(a{60}){2}", "(ba*)*"]  # fmt: skip
NAMES = ["a" * 253, "a" * 252 + "-", "a." * 126 + "a", "a" * 126 + "b" + "a" * 126, "ab" * 126, "aab" * 84]


def test_no_pattern_that_is_accepted_takes_long_over_a_name() -> None:
    rng = random.Random(1)
    accepted = 0
    while accepted < 250:
        pattern = "".join(rng.choices(PIECES, k=rng.randint(2, 9)))
        pattern += rng.choice(("", "-", "b", "a" * rng.randint(0, 150) + "b"))
        try:
            compiled = compile_pattern(pattern)
        except BadPattern:
            continue
        accepted += 1
        for name in NAMES:
            assert seconds(lambda _: compiled.fullmatch(name), b"") < LONGEST / 2, (pattern, name)  # noqa: B023


def _again_from_the_start(data: bytes) -> None:
    seen = b""
    for at in range(0, len(data), 16):
        seen += data[at : at + 16]
        if b"\r\n\r\n" in seen:
            return


def _a_sum_for_each(data: bytes) -> None:
    position = 52
    while position < len(data):
        if data[position] == PP2_CRC32C:
            crc32c(data)
        position += 3 + int.from_bytes(data[position + 1 : position + 3], "big")


def _matched(pattern: bytes) -> Parse:
    compiled = re.compile(pattern)

    def parse(data: bytes) -> None:
        for line in data.split(b"\r\n"):
            compiled.fullmatch(line)

    return parse


def _nested(data: bytes) -> None:
    with suppress(ValueError):
        rest = data
        while rest:
            rest = rest[rest.index(b"(") + 1 :]


def _slow(data: bytes) -> None:
    for _ in range(300):
        crc32c(data)


_REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
PLANTED = {
    "neighbouring repeats": Judged(
        _matched(rb"[a-zA-Z]+:[ \t]*([!-~ \t]*)[ \t]*"), 65_536, (b"A: b\r\n", b"A", b":"), (_REQUEST,)
    ),
    "nested repeats": Judged(_matched(rb"([a-z]+,? *)*;"), 4096, (b"a, ", b"b;"), (b"a, b;",)),
    "repeats over their separator": Judged(_matched(rb".*=.*=.*;"), 16_384, (b"a=b;", b"="), (b"a=b;",)),
    "read again": Judged(_again_from_the_start, 65_536, (b"A: b\r\n",)),
    "copied again": Judged(_nested, 262_144, (b"(", b")"), (b"(a)",)),
    "summed again": Judged(_a_sum_for_each, 4112, made=(extensions(PP2_CRC32C, b""),)),
    "slow": Judged(_slow, proxy_header.LIMIT, (b"1",), effort=1),
}


@pytest.mark.parametrize("name", PLANTED)
def test_the_search_finds_faults_of_its_kind(name: str) -> None:
    assert problems(name, PLANTED[name])
