from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.patterns import BadPattern, compile_pattern, literal_end


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (r"api[0-9]+\.a\.com", ["api1.a.com", "api123.a.com"], ["api.a.com", "xapi1.a.com"]),
        (r"^(www\.)?example\.(com|net)$", ["example.com", "www.example.net"], ["example.org", "aexample.com"]),
        (r"(?:a|b)-\d{2,3}\..*", ["a-12.x", "b-123."], ["c-12.x", "a-1.x"]),
        (r"(ab){2}", ["abab"], ["ab"]),
        (r".*-.*", ["a-b"], ["ab"]),
        (r"[^.]+", ["a"], ["a.b"]),
    ],
)  # fmt: skip
def test_whole_names_are_matched(pattern: str, yes: list[str], no: list[str]) -> None:
    compiled = compile_pattern(pattern)
    assert all(compiled.fullmatch(name) for name in yes)
    assert not any(compiled.fullmatch(name) for name in no)


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+", "(a*)*b", "(a|a)*b", "(a|ab)+c", ".*.*.*x", "a?" * 40 + "a" * 40, "(a?){40}", "((a{1,9}){1,9}){1,9}",
     "(.{1,99}){1,9}", "(a|b|c){30}"],
)  # fmt: skip
def test_what_could_be_slow_is_refused(pattern: str) -> None:
    with pytest.raises(BadPattern, match=r"too long|another repeat"):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    ["(", "a)", "[", "[]", "a**", "a{2}{3}", "a{3,1}", "*", "+a", "(?=a)", "(?i)a", r"(a)\1", "\\", "a\\", "[z-a]", "A",
     "ä", "a b", "(" * 9 + ")" * 9, "a" * 257, r"\b"],
)  # fmt: skip
def test_what_is_not_understood_is_refused(pattern: str) -> None:
    with pytest.raises(BadPattern):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "end"),
    [
        (r"api[0-9]+\.a-b\.com", ".a-b.com"), (r"^example\.com$", "example.com"), (r"a\.b|c\.d", ""), (r"a\.b.*", ""),
        (r"x\.(com|net)", ""), (r"(a|(b\)){2})\.com", ".com"), (r"a\.co?m", "m"), (r"a\.com{2}", ""), (r"a\d", ""),
        (r"[a\-b]\.c", ".c"), (r"a.c", "c"),
    ],
)  # fmt: skip
def test_the_literal_end_of_a_pattern(pattern: str, end: str) -> None:
    assert literal_end(compile_pattern(pattern).pattern) == end


@given(st.text(alphabet="ab.-()|*?\\", max_size=12), st.text(alphabet="ab.-", max_size=8))
@settings(max_examples=60)
def test_what_a_pattern_takes_ends_with_its_end(pattern: str, name: str) -> None:
    try:
        compiled = compile_pattern(pattern)
    except BadPattern:
        return
    if compiled.fullmatch(name):
        assert name.endswith(literal_end(compiled.pattern))


@given(st.text(alphabet=r"ab.-()[]|*+?{},0129\d^$", max_size=40))
@settings(max_examples=100)
def test_any_text_is_a_quick_pattern_or_none(text: str) -> None:
    try:
        compiled = compile_pattern(text)
    except BadPattern:
        return
    assert isinstance(compiled, re.Pattern)
    for name in ("a" * 253, "ab" * 126, "a" * 252 + "!"):
        compiled.fullmatch(name)
