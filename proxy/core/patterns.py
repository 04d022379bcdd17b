"""Regular expressions for host names that cannot be made slow.

A backtracking matcher tries, at worst, every way to share a text out among the repeats and alternatives of a pattern.
`compile_pattern` reads the pattern, works out a bound for the number of ways, and for the characters that each may
compare in vain, and refuses what is beyond it: at most two unbounded repeats, and none around something that can
itself match in several ways. What is accepted takes some milliseconds at worst (tests/laws). What it does not know
(look-around, references, flags) is refused too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST_PATTERN = 256  # characters
_LONGEST_NAME = 254  # a name has 253 characters: so many ways to repeat something in it
_MOST_WAYS = _LONGEST_NAME**2 * 4
_MOST_COMPARED = (
    8_000_000  # ways, times the longest run of characters that one of them may compare: some milliseconds
)
_ENDLESS = 1 << 20  # in place of "no limit" in a repeat
_ESCAPES = frozenset("dw.-_+*?()[]{}|^$\\/")
_REPEAT = re.compile(r"\{([0-9]{1,3})(?:(,)([0-9]{0,3}))?\}")
_CLASS = re.compile(r"\[\^?(?:[a-z0-9_.]|\\[dw.\-_]|-)+\]")
_SIMPLE = re.compile(r"[a-z0-9_.-]")


class BadPattern(ValueError):
    """A pattern that is not understood or could be slow; the message says why."""


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A pattern that must match a whole name, in lower case; ``^`` and ``$`` at its ends change nothing."""
    if len(pattern) > LONGEST_PATTERN:
        raise BadPattern(f"it has {len(pattern)} characters; write at most {LONGEST_PATTERN}")
    bare = pattern.removeprefix("^")
    if bare.endswith("$") and not bare.endswith("\\$"):
        bare = bare[:-1]
    reader = _Reader(bare)
    ways = reader.alternatives()
    if reader.at < len(bare):
        raise BadPattern(f"{bare[reader.at]!r} is not expected after {bare[: reader.at]!r}")
    if ways > _MOST_WAYS or ways * (1 + reader.longest) > _MOST_COMPARED:
        raise BadPattern(
            "it could take too long; use at most two of * and +, few ? and |, and shorter texts with them"
        )
    try:
        return re.compile(bare, re.ASCII)
    except re.error as error:
        raise BadPattern(f"{error.msg}; names are matched in lower case") from None


def literal_end(pattern: str) -> str:
    r"""What every name ends with that a pattern of `compile_pattern` takes; ``""`` where nothing is certain.

    ``.example.com`` for ``api[0-9]+\.example\.com``.
    """
    end, at = "", 0
    while at < len(pattern):
        char = pattern[at]
        literal = ""
        if char == "|":
            return ""
        if char == "(":
            at = _behind_group(pattern, at)
        elif char == "[":
            found = _CLASS.match(pattern, at)
            at = found.end() if found else len(pattern)
        else:
            escaped = char == "\\"
            text = pattern[at + 1 : at + 2] if escaped else char
            literal = text if (escaped and text not in "dw") or (not escaped and char != ".") else ""
            at += 1 + escaped
        repeat = _REPEAT.match(pattern, at)
        if repeat or pattern[at : at + 1] in {"*", "+", "?"}:
            at, literal = (repeat.end() if repeat else at + 1), ""
        end = end + literal if literal else ""
    return end


def _behind_group(pattern: str, at: int) -> int:
    """Where the group that begins at ``at`` is over."""
    depth = 0
    while at < len(pattern):
        if found := _CLASS.match(pattern, at):
            at = found.end()
            continue
        depth += (pattern[at] == "(") - (pattern[at] == ")")
        at += 1 + (pattern[at] == "\\")
        if not depth:
            break
    return at


@dataclass(slots=True)
class _Reader:
    """Walks a pattern; each method reads one construct and returns in how many ways it can match a text."""

    text: str
    at: int = 0
    depth: int = 0
    run: int = 0  # characters in a row that are not repeated
    longest: int = 0  # such run

    def alternatives(self) -> int:
        ways = self.sequence()
        while self.text[self.at : self.at + 1] == "|":
            self.at += 1
            ways += self.sequence()
        return ways

    def sequence(self) -> int:
        ways = 1
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            ways = min(ways * self.repeated(self.item()), _ENDLESS * _ENDLESS)
        return ways

    def item(self) -> int:
        text, at = self.text, self.at
        if text[at] == "(":
            return self.group()
        found = _CLASS.match(text, at) if text[at] == "[" else None
        if found:
            self.at = found.end()
        elif text[at] == "\\" and text[at + 1 : at + 2] in _ESCAPES and len(text) > at + 1:
            self.at += 2
        elif _SIMPLE.match(text, at):
            self.at += 1
        else:
            raise BadPattern(
                f"{text[at : at + 2]!r} is not understood; write a-z 0-9 \\. [a-z] ( | ) * + ? {{1,3}}"
            )
        self.run += 1
        self.longest = max(self.longest, self.run)
        return 1

    def group(self) -> int:
        self.at += 3 if self.text.startswith("(?:", self.at) else 1
        self.depth += 1
        if self.depth > 8:
            raise BadPattern("its groups are nested too deep")
        ways = self.alternatives()
        self.depth -= 1
        if self.text[self.at : self.at + 1] != ")":
            raise BadPattern("a ( has no )")
        self.at += 1
        return ways

    def repeated(self, ways: int) -> int:
        least, most = self.repeat()
        if (least, most) != (1, 1):
            self.longest = max(self.longest, min(self.run * most, _LONGEST_NAME) if most < _ENDLESS else 0)
            self.run = 0
        if most <= 1:
            return ways + (most - least)
        if ways > 1:
            if most * ways.bit_length() > 40:
                raise BadPattern("a repeat holds another repeat or a choice; write it without one of them")
            return int(ways**most) * (most - least + 1)
        return min(most - least + 1, _LONGEST_NAME)

    def repeat(self) -> tuple[int, int]:
        sign = self.text[self.at : self.at + 1]
        if sign in {"*", "+", "?"}:
            self.at += 1
            bounds = (int(sign == "+"), 1 if sign == "?" else _ENDLESS)
        elif found := _REPEAT.match(self.text, self.at):
            self.at = found.end()
            least = int(found.group(1))
            most = least if found.group(2) is None else int(found.group(3) or _ENDLESS)
            if most < least:
                raise BadPattern(f"{found.group()} counts down")
            bounds = (least, most)
        else:
            return 1, 1
        if self.text[self.at : self.at + 1] in {"*", "+", "?", "{"}:
            raise BadPattern("a repeat follows a repeat")
        return bounds
