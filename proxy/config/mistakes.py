"""What is wrong with a configuration, and where: the one report a user reads."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

_SHOWN = 100  # mistakes in one report
_SECRETS = re.compile(
    r"""\b(?:token|key|tfo_keys|password|socks|http|tunnel)["']?\s*:\s*("[^"]*"?|'[^']*'?|\[[^\]]*|[^\s,}\]#][^,}\]]*)"""
    r"""|\busers["']?\s*:\s*(\{[^}]*)"""
)
_BEFORE_SECRETS = re.compile(r"""[\s{-]*(?:["']?\w+["']?\s*:\s*)?""")
_WIDTH = 120  # columns of a source line
_QUOTED = 80  # characters of a quoted text
_LONGEST = 600  # characters of a problem


@dataclass(frozen=True, eq=False)
class Source:
    """Text that configuration was read from: a file, or (``is_flag``) the value of a command line flag."""

    name: str
    text: str
    is_flag: bool = False

    @cached_property
    def lines(self) -> list[str]:
        """The text by line, counted as YAML counts lines."""
        return self.text.splitlines()


@dataclass(frozen=True, slots=True)
class Place:
    """A character of a source; ``line`` and ``column`` count from 1, and line 0 is the source as a whole."""

    source: Source
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        if self.line == 0 or self.source.is_flag:
            return self.source.name
        return f"{self.source.name}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Mistake:
    """``problem`` reads "what is wrong; what was meant". ``hide``: the text at ``place`` is a secret."""

    place: Place
    problem: str
    hide: bool = False

    def __str__(self) -> str:
        problem = self.problem if len(self.problem) <= _LONGEST else f"{self.problem[:_LONGEST]}..."
        head = printable(f"{self.place}: {problem}")
        excerpt = _excerpt(self.place, self.hide)
        return f"{head}\n{excerpt}" if excerpt else head


@dataclass(slots=True)
class Findings:
    """What a check collects: mistakes, with which nothing runs, and warnings, with which it does."""

    mistakes: list[Mistake] = field(default_factory=list[Mistake])
    warnings: list[Mistake] = field(default_factory=list[Mistake])
    places: set[Place] = field(default_factory=set[Place])  # of values that are wrong

    def wrong(self, place: Place, problem: str, *, hide: bool = False) -> None:
        """Note a mistake."""
        self.mistakes.append(Mistake(place, problem, hide))

    def pointless(self, place: Place, problem: str, *, hide: bool = False) -> None:
        """Note a warning."""
        self.warnings.append(Mistake(place, f"warning: {problem}", hide))

    def wrong_once(self, place: Place, problem: str, *, hide: bool = False) -> None:
        """Note a mistake about the value at ``place``, unless there is one: an alias can bring it again."""
        if place not in self.places:
            self.wrong(place, problem, hide=hide)
        self.places.add(place)

    @property
    def has_room(self) -> bool:
        """Whether one more mistake would be shown, so that it is worth guessing what was meant."""
        return len(self.mistakes) < _SHOWN


class ConfigError(Exception):
    """A configuration that cannot be used; ``str()`` is the whole report, one paragraph a mistake."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = in_order(mistakes)
        super().__init__(self.mistakes)

    def __str__(self) -> str:
        report = [str(mistake) for mistake in self.mistakes[:_SHOWN]]
        if len(self.mistakes) > _SHOWN:
            report.append(f"... and {len(self.mistakes) - _SHOWN} more mistakes")
        return "\n".join(report)


def in_order(mistakes: Iterable[Mistake]) -> tuple[Mistake, ...]:
    """Each mistake once, by place; those of a file before those of flags."""
    return tuple(sorted(dict.fromkeys(mistakes), key=_rank))


def quoted(text: str) -> str:
    """``text`` in quotes, its beginning if it is long."""
    return repr(text if len(text) <= _QUOTED else text[: _QUOTED - 3] + "...")


def listed(names: Iterable[str]) -> str:
    """The first few of ``names``."""
    first = [name if len(name) <= _QUOTED else name[: _QUOTED - 3] + "..." for name in islice(names, 11)]
    return ", ".join([*first[:10], "..."] if len(first) > 10 else first)


def closest(text: str, words: Iterable[str]) -> str | None:
    """The word that ``text`` was probably meant to be."""
    candidates = list(islice(words, 200))
    if len(text) > _QUOTED or not candidates:
        return None
    found = difflib.get_close_matches(text, candidates, 1) or difflib.get_close_matches(
        text.lower(), candidates, 1
    )
    return found[0] if found else None


def printable(text: str) -> str:
    """``text`` with nothing in it that could steer a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _rank(mistake: Mistake) -> tuple[bool, str, int, int]:
    place = mistake.place
    return place.source.is_flag, place.source.name, place.line, place.column


def _excerpt(place: Place, hide: bool) -> str:
    """The source line and a caret line, cut to what a terminal can show; "" where there is no such line."""
    if not 0 < place.line <= len(place.source.lines):
        return ""
    line = place.source.lines[place.line - 1]
    at = min(place.column - 1, len(line))
    if hide:
        key = _BEFORE_SECRETS.match(line)
        at = key.end() if key else 0
        line = f"{line[:at]}***"
    else:
        line, at = _without_secrets(line, at)
    start = max(0, at - _WIDTH // 2) if len(line) > _WIDTH else 0
    shown = line[start : start + _WIDTH]
    before, after = printable(_no_tabs(shown[: at - start])), printable(_no_tabs(shown[at - start :]))
    return f"    {before}{after}\n    {' ' * _columns(before)}^"


def _without_secrets(line: str, at: int) -> tuple[str, int]:
    """``line`` without what stands behind keys of secrets, and where ``at`` is then."""
    for match in reversed(list(_SECRETS.finditer(line))):
        start, end = match.span(1 if match[1] is not None else 2)
        line = f"{line[:start]}***{line[end:]}"
        if at >= end:
            at -= end - start - 3
        elif at > start:
            at = start
    return line, at


def _no_tabs(text: str) -> str:
    return text.replace("\t", " ")


def _columns(text: str) -> int:
    """How many columns of a terminal ``text`` takes."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)
