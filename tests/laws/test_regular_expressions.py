"""No regular expression has two repeats that could take the same characters, one behind the other or one in another.

Such a pair tries every way to divide a text between the two: quadratic time for two neighbours, exponential for nested
ones. Every expression that modules of `proxy` keep, or write into a call of `re`, is taken apart and walked. A repeat
counts from `FEW` rounds on; between two of them, only something that the first cannot take itself keeps them apart.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

import pytest

import proxy

FEW = 64  # rounds
OTHERS = {ord("Ā"), 0x2003, 0x0663, ord("€")}  # a letter, a blank, a digit and a sign, for all above U+00FF
CHARS = frozenset(range(0x100)) | OTHERS

ALLOWED: dict[str | bytes, str] = {
    r" *\[[^\]]*\]": "titles of our own scenes"
}  # expression → why it is no danger


CATEGORIES: dict[str, Callable[[str], bool]] = {
    "digit": str.isdigit,
    "space": str.isspace,
    "word": lambda char: char.isalnum() or char == "_",
}


def chars_of(items: Any) -> frozenset[int]:
    """The characters that an IN, a LITERAL or the like takes; of those above U+00FF, any stands for all."""
    found: set[int] = set()
    negated = False
    for op, value in items:
        if op is sre.NEGATE:
            negated = True
        elif op is sre.LITERAL:
            found |= {value} if value < 0x100 else OTHERS
        elif op is sre.RANGE:
            found |= {char for char in CHARS if value[0] <= char <= value[1]} | (
                OTHERS if value[1] > 0xFF else set()
            )
        elif op is sre.CATEGORY:
            name = str(value).lower()
            test = next(test for word, test in CATEGORIES.items() if word in name)
            taken = {char for char in CHARS if test(chr(char))}
            found |= CHARS - taken if "not_" in name else taken
        else:
            raise NotImplementedError(str(op))
    return CHARS - found if negated else frozenset(found)


def taken_by(op: Any, value: Any) -> frozenset[int] | None:
    """The characters that one of these takes; None: it is made of others."""
    if op is sre.LITERAL:
        return chars_of([(op, value)])
    if op is sre.NOT_LITERAL:
        return CHARS - chars_of([(sre.LITERAL, value)])
    if op is sre.ANY:
        return CHARS
    if op is sre.IN:
        return chars_of(value)
    return None


def all_taken(items: Sequence[Any]) -> frozenset[int]:
    found: frozenset[int] = frozenset()
    for op, value in items:
        own = taken_by(op, value)
        found |= (
            own if own is not None else frozenset().union(*(all_taken(part) for part in parts_of(op, value)))
        )
    return found


def parts_of(op: Any, value: Any) -> list[Sequence[Any]]:
    if op in REPEATS:
        return [list(value[2])]
    if op is sre.SUBPATTERN:
        return [list(value[-1])]
    if op is sre.BRANCH:
        return [list(one) for one in value[1]]
    if op is sre.ATOMIC_GROUP:
        return [list(value)]
    if op in {sre.AT, sre.ASSERT, sre.ASSERT_NOT, sre.GROUPREF}:
        return []
    raise NotImplementedError(str(op))


REPEATS = {sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT}


def clash(items: Sequence[Any], chars: frozenset[int]) -> tuple[bool, bool]:
    """Whether a repeat of ``chars`` meets another in ``items``, and whether it may come past them."""
    for op, value in items:
        own = taken_by(op, value)
        if own is not None:
            if not own & chars:
                return False, False
            continue
        if op in REPEATS:
            least, most, body = value
            if most > FEW and starts(list(body)) & chars:
                return True, True
            bad, passes = clash(list(body), chars)
            if bad:
                return True, True
            if least and not passes:
                return False, False
            continue
        branches = [clash(part, chars) for part in parts_of(op, value)]
        if any(bad for bad, _ in branches):
            return True, True
        if branches and not any(passes for _, passes in branches):
            return False, False
    return False, True


def starts(items: Sequence[Any]) -> frozenset[int]:
    """The characters that ``items`` can begin with."""
    found: frozenset[int] = frozenset()
    for op, value in items:
        own = taken_by(op, value)
        if own is not None:
            return found | own
        parts = parts_of(op, value)
        found |= frozenset().union(*(starts(part) for part in parts))
        may_be_empty = (op in REPEATS and not value[0]) or not parts or any(may_end(part) for part in parts)
        if not may_be_empty:
            return found
    return found


def may_end(items: Sequence[Any]) -> bool:
    """Whether ``items`` may take nothing."""
    for op, value in items:
        if taken_by(op, value) is not None:
            return False
        if op in REPEATS and not value[0]:
            continue
        parts = parts_of(op, value)
        if parts and not any(may_end(part) for part in parts):
            return False
    return True


def clashes(items: Sequence[Any], behind: Sequence[Any] = ()) -> Iterator[str]:
    """Repeats in ``items`` that share characters with one that can come next; ``behind`` is what follows ``items``."""
    items = list(items)
    for at, (op, value) in enumerate(items):
        rest = [*items[at + 1 :], *behind]
        if op in REPEATS:
            _, most, body = value
            again = list(body) if most > 1 else []
            if most > FEW and op is not sre.POSSESSIVE_REPEAT and clash(rest, all_taken(list(body)))[0]:
                yield f"{value} and what follows it"
            yield from clashes(list(body), [*again, *rest])
        else:
            for part in parts_of(op, value) if taken_by(op, value) is None else ():
                yield from clashes(part, rest)


def problems(pattern: str | bytes, *, searched: bool = False) -> list[str]:
    """What is wrong with an expression; ``searched``: it is tried from each place of a text."""
    parsed = list(_parser.parse(pattern))
    return [*clashes(parsed), *(found_again(parsed) if searched else ())]


def found_again(items: Sequence[Any]) -> Iterator[str]:
    """Repeats that may fail after all, and hold other places where the search would begin them again."""
    for at, (op, value) in enumerate(items):
        if op is sre.AT and value is sre.AT_BEGINNING:
            return
        if op in REPEATS and value[1] > FEW and not may_end(items[at + 1 :]):
            bad, passes = clash(items[:at], all_taken(list(value[2])))
            if bad or passes:
                yield f"{value}, begun at each place"


def kept() -> Iterator[tuple[str, str | bytes, bool]]:
    """The expressions that modules keep."""
    for module in pkgutil.walk_packages(proxy.__path__, "proxy."):
        if module.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            values = (
                value
                if isinstance(value, tuple | list)
                else value.values()
                if isinstance(value, dict)
                else [value]
            )
            for one in values:
                pattern = getattr(one, "__self__", one)
                if isinstance(pattern, re.Pattern):
                    searched = getattr(one, "__name__", "match") in {
                        "search",
                        "sub",
                        "findall",
                        "finditer",
                        "split",
                    }
                    yield f"{module.name}.{name}", pattern.pattern, searched


def written() -> Iterator[tuple[str, str | bytes, bool]]:
    """The expressions that are written into calls of `re`."""
    for path in Path(proxy.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    ast.Attribute(ast.Name("re"), call), [ast.Constant(str() | bytes() as pattern), *_]
                ):
                    yield f"{path.name}:{node.lineno}", pattern, call not in {"match", "fullmatch", "compile"}
                case _:
                    pass


EXPRESSIONS = {(place, pattern): searched for place, pattern, searched in (*kept(), *written())}


@pytest.mark.parametrize(("place", "pattern"), EXPRESSIONS)
def test_no_two_repeats_share_characters(place: str, pattern: str | bytes) -> None:
    assert pattern in ALLOWED or not problems(pattern, searched=EXPRESSIONS[place, pattern]), pattern


@pytest.mark.parametrize(
    ("pattern", "searched", "good"),
    [
        (r"[ \t]*([!-~ \t]*?)[ \t]*\Z", False, False),
        (r"[a-z]+:[ \t]*[!-~ \t]*", False, False),
        (r"(a+)+b", False, False),
        (r"(a|b+)*c", False, False),
        (r"(a*)*", False, False),
        (r"a*b?a*", False, False),
        (r".*=.*", False, False),
        (r"(?:a+,? *)*", False, False),
        (r"\s+;", True, False),
        (r"a[ab]*c", True, False),
        (r"[,\s]+", True, True),
        (r"a[bc]*d", True, True),
        (r"[^a]+[b-z]{2,}", False, False),
        (r"\w{1,300}\d{1,300}", False, False),
        (r"a*b*c*", False, True),
        (r"(?:[A-Z]+:[a-z ]*\r\n)*", False, True),
        (r"[a-z]+ [a-z]+", False, True),
        (r"([0-9]+(?:\.[0-9]+)?(?:ms|s))+", False, True),
        (r"[^}]*\}", False, True),
        (r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}", False, True),
        (r"a*+a*", False, True),
        (r"\s+\Z", False, True),
    ],
)  # fmt: skip
def test_the_rule_itself(pattern: str, searched: bool, good: bool) -> None:
    assert (not problems(pattern, searched=searched)) == good
