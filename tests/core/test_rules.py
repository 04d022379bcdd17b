from __future__ import annotations

import pytest

from proxy.core.patterns import compile_pattern
from proxy.core.rules import Names, parents


def test_parents() -> None:
    assert list(parents("a.b.c")) == [".b.c", ".c"]
    assert list(parents("a")) == []


@pytest.mark.parametrize(
    ("name", "matches"),
    [("exact.com", True), ("a.exact.com", False), ("a.below.com", True), ("b.a.below.com", True), ("below.com", False),
     ("p9", True), ("p99", False)],
)  # fmt: skip
def test_names(name: str, matches: bool) -> None:
    names = Names(frozenset({"exact.com"}), frozenset({".below.com"}), (compile_pattern("p[0-9]"),))
    assert names.match(name) is matches


def test_names_that_cover_others() -> None:
    wide = Names(suffixes=frozenset({".com"}), patterns=(compile_pattern("a.*"),))
    assert wide.covers(Names(frozenset({"x.com", "abc"}), frozenset({".y.com", ".com"})))
    assert wide.covers(Names(patterns=(compile_pattern("a.*"),)))
    assert not wide.covers(Names(frozenset({"com"})))
    assert not wide.covers(Names(suffixes=frozenset({".net"})))
    assert not wide.covers(Names(patterns=(compile_pattern("ab.*"),)))
