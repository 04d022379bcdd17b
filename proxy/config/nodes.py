"""What a YAML file holds, as values that know where they stand."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from proxy.config.mistakes import Place, Source, quoted

ScalarValue: TypeAlias = str | int | float | bool | None

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {
    word: value for value in (True, False) for word in (str(value).lower(), str(value), str(value).upper())
}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\Z|0o[0-7]{1,20}\Z|0x[0-9a-fA-F]{1,15}\Z")
_FLOAT = re.compile(
    r"[-+]?(?:(?:0|[1-9][0-9]*)?\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.|(?=[eE])))(?:[eE][-+]?[0-9]+)?\Z"
)


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """One value: ``value`` by YAML's core schema, ``text`` with references replaced, ``written`` as in the file."""

    place: Place
    value: ScalarValue
    text: str
    written: str
    foreign: bool = False  # some of it came from the environment or another file, and may be a secret
    broken: bool = False  # a mistake has been reported for it already

    def __str__(self) -> str:
        if self.foreign:
            return f"the value of {self.written!r}"
        return quoted(self.text)


@dataclass(frozen=True, slots=True)
class Entry:
    """One ``key: value`` of a mapping."""

    key: Place
    node: Node


@dataclass(frozen=True, slots=True)
class MappingNode:
    """A mapping, keys as their text in the file."""

    place: Place
    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])

    def get(self, key: str) -> Node | None:
        """The value under ``key``."""
        entry = self.entries.get(key)
        return entry.node if entry else None

    def with_entry(self, key: str, entry: Entry) -> MappingNode:
        """The same with one entry added or replaced."""
        return replace(self, entries=self.entries | {key: entry})

    def __str__(self) -> str:
        return "a mapping"


@dataclass(frozen=True, slots=True)
class SequenceNode:
    """A sequence."""

    place: Place
    items: tuple[Node, ...]

    def __str__(self) -> str:
        return "a list"


Node: TypeAlias = ScalarNode | MappingNode | SequenceNode
"""``str()`` is how a message names what stands there; it never tells a value from outside the file."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A whole file, by path."""

    root: MappingNode

    def find(self, *path: str) -> Node | None:
        """The node at ``path``."""
        node: Node | None = self.root
        for key in path:
            node = node.get(key) if isinstance(node, MappingNode) else None
        return node

    def nearest(self, *path: str) -> Node:
        """The node at ``path``, or else the one it would be in."""
        while path and self.find(*path) is None:
            path = path[:-1]
        return self.find(*path) or self.root

    def entries(self, *path: str) -> dict[str, Entry]:
        """The entries of the mapping at ``path``; none where there is no mapping."""
        node = self.find(*path)
        return node.entries if isinstance(node, MappingNode) else {}


def is_empty(node: Node | None) -> bool:
    """Whether nothing is written: no key, or ``key:`` with nothing, or only comments, below it."""
    return node is None or (isinstance(node, ScalarNode) and node.value is None and not node.broken)


def items_of(node: Node) -> tuple[Node, ...]:
    """The items of a sequence, or the one value that stands where several may."""
    return node.items if isinstance(node, SequenceNode) else (node,)


def overlay(below: Node, above: Node) -> Node:
    """``above``, with the keys it does not say taken from ``below``, at every depth."""
    if not isinstance(above, MappingNode) or not isinstance(below, MappingNode):
        return above
    entries = dict(below.entries)
    for key, entry in above.entries.items():
        under = below.get(key)
        entries[key] = Entry(entry.key, overlay(under, entry.node)) if under else entry
    return replace(above, entries=entries)


def scalar_from_flag(name: str, text: str, start: int, end: int | None = None) -> ScalarNode:
    """A part of a command line flag's value: flags are checked and reported as files are."""
    part = text[start:end]
    return ScalarNode(Place(Source(name, text, is_flag=True), 1, start + 1), part, part, part)


def resolve(text: str) -> ScalarValue:
    """A plain scalar by YAML 1.2's core schema, but ``0755`` and numbers beyond 18 digits stay text."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.match(text):
        return int(text, 0)
    if text[:1] in "+-.0123456789" and _FLOAT.match(text):
        return float(text)
    return text
