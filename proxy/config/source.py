"""YAML text → nodes that know where they stand.

A file is read once, whole and bounded, and composed by our own walk over the parser's events: YAML 1.2 core
scalars (so ``on``, ``22:22`` and ``0755`` are text), duplicate keys refused, references replaced in scalars,
aliases bounded.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Never, Protocol, TypeAlias

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.scanner import Scanner

from proxy.config.interpolate import BadReference, expand
from proxy.config.mistakes import ConfigError, Mistake, Place, Source

FILE_LIMIT = 1024 * 1024
DEPTH_LIMIT = 32
ALIAS_LIMIT = 10_000  # nodes that aliases may stand for, in all

_CORE = "tag:yaml.org,2002:"
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {word: value for value in (True, False) for word in (str(value).lower(), str(value), str(value).upper())}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\Z|0o[0-7]{1,20}\Z|0x[0-9a-fA-F]{1,15}\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_CONTROL = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
_TAGS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "null": (type(None),),
}
_HINTS = (
    ("alias", "quote a text that begins with *, like \"*:8080\""),
    ("cannot start any token", "indent with spaces, and quote a text that begins with @ ` % or a tab"),
    ("mapping values are not allowed", "quote a text that holds ': ', and check the indentation"),
    ("block collection", "check the indentation, and quote an address like \"[::1]:8080\""),
    ("block mapping", "check the indentation, and quote an address like \"[::1]:8080\""),
    ("flow", "close every { and [, and quote texts that hold one"),
    ("quoted scalar", "close the quote"),
)

ScalarValue: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """``value`` by YAML 1.2's core schema; ``text`` as written, references replaced; ``written`` as in the file."""

    place: Place
    value: ScalarValue
    text: str
    written: str
    foreign: bool = False  # some of it came from the environment or another file, and may be a secret
    broken: bool = False  # a mistake has been reported for it already


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


@dataclass(frozen=True, slots=True)
class SequenceNode:
    """A sequence."""

    place: Place
    items: tuple[Node, ...]


Node: TypeAlias = ScalarNode | MappingNode | SequenceNode


def read_source(path: str) -> Source:
    """The text of the file at ``path``: regular, at most 1 MiB, UTF-8; raises `ConfigError`."""
    try:
        content = _read_bounded(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _refused(Source(path, ""), f"cannot be read: {reason}; name a YAML file") from None
    if content[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise _refused(Source(path, ""), "the text is UTF-16; save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        good = Source(path, content[: error.start].decode("utf-8-sig", "replace"))
        place = _place_at(good, len(good.text))
        byte = content[error.start]
        raise _refused(good, f"byte 0x{byte:02x} is not UTF-8; save the file as UTF-8", place) from None
    return Source(path, text)


def compose(source: Source, mistakes: list[Mistake]) -> Node | None:
    """The one document of ``source``, or None if it is empty.

    Mistakes that leave the rest readable are added to ``mistakes``; others raise `ConfigError`, with those added
    before.
    """
    control = _CONTROL.search(source.text)
    if control:
        char = ord(control.group())
        what = "a NUL byte; is this a binary file, or UTF-16?" if char == 0 else f"control character U+{char:04X}"
        raise _refused(source, f"{what}; a configuration is plain UTF-8 text", _place_at(source, control.start()))
    try:
        return _Composer(source, mistakes).document()
    except ConfigError as error:
        raise ConfigError([*mistakes, *error.mistakes]) from None
    except yaml.YAMLError as error:
        raise ConfigError([*mistakes, _syntax_mistake(source, error)]) from None


def scalar_from_flag(name: str, text: str, part: slice) -> ScalarNode:
    """The node of a part of a command line flag's value, so that flags are checked and reported as files are."""
    start = part.start or 0
    return ScalarNode(Place(Source(name, text, is_flag=True), 1, start + 1), text[part], text[part], text[part])


def resolve(text: str) -> ScalarValue:
    """The value of a plain scalar by YAML 1.2's core schema, but ``0755`` and numbers beyond 18 digits stay text."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.match(text):
        return int(text, 0)
    if text[:1] in "+-.0123456789" and _FLOAT.match(text):
        return float(text)
    return text


class _Composer:
    """One pass over a parser's events."""

    def __init__(self, source: Source, mistakes: list[Mistake]) -> None:
        self.source = source
        self.mistakes = mistakes
        self.next_event = _event_reader(source.text)
        self.anchors: dict[str, tuple[Node, int] | None] = {}  # None: not complete yet
        self.nodes = 0  # composed so far, aliases counted as what they stand for
        self.from_aliases = 0

    def document(self) -> Node | None:
        """The first document's root; a second one is refused."""
        self.next_event()
        if not isinstance(self.next_event(), DocumentStartEvent):
            return None
        root = self.node(self.next_event(), 0)
        self.next_event()
        rest = self.next_event()
        if not isinstance(rest, StreamEndEvent):
            self.fail(self.place(rest), "a second document begins here; a configuration is one document")
        return root

    def node(self, event: Event, depth: int) -> Node:
        """The node that ``event`` begins."""
        if depth > DEPTH_LIMIT:
            self.fail(self.place(event), f"nested deeper than {DEPTH_LIMIT} levels; no setting is that deep")
        if isinstance(event, AliasEvent):
            return self.alias(event)
        anchor: str | None = getattr(event, "anchor", None)
        before = self.nodes
        self.nodes += 1
        if anchor:
            self.anchors[anchor] = None
        node: Node
        if isinstance(event, ScalarEvent):
            node = self.scalar(event)
        elif isinstance(event, SequenceStartEvent):
            node = self.sequence(event, depth)
        else:
            assert isinstance(event, MappingStartEvent)
            node = self.mapping(event, depth)
        if anchor:
            self.anchors[anchor] = node, self.nodes - before
        return node

    def alias(self, event: AliasEvent) -> Node:
        """What an anchor before this place holds."""
        place, name = self.place(event), str(event.anchor)
        if name not in self.anchors:
            self.fail(place, f"alias *{name} names nothing above; write &{name} there, or quote the text")
        anchored = self.anchors[name]
        if anchored is None:
            self.fail(place, f"alias *{name} holds itself; an alias may only stand for something complete above it")
        node, weight = anchored
        self.nodes += weight
        self.from_aliases += weight
        if self.from_aliases > ALIAS_LIMIT:
            self.fail(place, f"aliases stand for more than {ALIAS_LIMIT} nodes; write fewer of them")
        return node

    def scalar(self, event: ScalarEvent) -> ScalarNode:
        """A scalar, references replaced."""
        place, written = self.place(event), str(event.value)
        try:
            text, foreign = expand(written) if "$" in written else (written, False)
        except BadReference as error:
            self.mistakes.append(Mistake(self.inside(place, error.reference), str(error)))
            return ScalarNode(place, None, "", written, broken=True)
        tag = str(event.tag or "").removeprefix(_CORE)
        is_text = tag in {"!", "str"} or (event.style and not tag)
        node = ScalarNode(place, text if is_text else resolve(text), text, written, foreign)
        if not tag or tag == "!" or isinstance(node.value, _TAGS.get(tag, ())):
            return node
        self.refuse_tag(place, tag)
        return replace(node, broken=True)

    def sequence(self, event: SequenceStartEvent, depth: int) -> SequenceNode:
        """A sequence and all in it."""
        self.check_tag(event, "seq")
        items: list[Node] = []
        while not isinstance(inner := self.next_event(), SequenceEndEvent):
            items.append(self.node(inner, depth + 1))
        return SequenceNode(self.place(event), tuple(items))

    def mapping(self, event: MappingStartEvent, depth: int) -> MappingNode:
        """A mapping and all in it; keys that ``<<`` brings give way to its own."""
        self.check_tag(event, "map")
        entries: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        while not isinstance(inner := self.next_event(), MappingEndEvent):
            if not isinstance(inner, ScalarEvent):
                self.fail(self.place(inner), "a key must be plain text; quote it, or check { and [")
            place, key = self.place(inner), str(inner.value)
            node = self.node(self.next_event(), depth + 1)
            if key == "<<" and not inner.style:
                self.merge(place, node, merged)
            elif key in entries:
                first = entries[key].key.line
                self.mistakes.append(Mistake(place, f"duplicate key {key!r}; it was first written on line {first}"))
            else:
                entries[key] = Entry(place, node)
        return MappingNode(self.place(event), merged | entries if merged else entries)

    def merge(self, place: Place, node: Node, into: dict[str, Entry]) -> None:
        """Add the entries of a merge key's value, a mapping or a sequence of them; the first named wins."""
        for source in node.items if isinstance(node, SequenceNode) else (node,):
            if not isinstance(source, MappingNode):
                self.mistakes.append(Mistake(place, "<< merges nothing but mappings; write an alias of one, like *base"))
                continue
            for key, entry in source.entries.items():
                into.setdefault(key, entry)

    def check_tag(self, event: SequenceStartEvent | MappingStartEvent, kind: str) -> None:
        """Note a mistake unless the collection's tag is the core one."""
        tag = str(event.tag or "").removeprefix(_CORE)
        if tag not in {"", "!", kind}:
            self.refuse_tag(self.place(event), tag)

    def refuse_tag(self, place: Place, tag: str) -> None:
        """Note that ``tag`` has no business at ``place``."""
        name = tag if tag.startswith("!") else f"!!{tag}"
        self.mistakes.append(Mistake(place, f"the tag {name} does not fit here; leave tags out"))

    def place(self, event: Event) -> Place:
        """Where ``event`` begins."""
        mark = event.start_mark
        return Place(self.source, mark.line + 1, mark.column + 1)

    def inside(self, place: Place, reference: str) -> Place:
        """Where ``reference`` stands in the scalar that begins at ``place``."""
        found = self.source.lines[place.line - 1].find(reference, place.column - 1)
        return place if found < 0 else replace(place, column=found + 1)

    def fail(self, place: Place, problem: str) -> Never:
        """Give up on the file."""
        raise ConfigError([Mistake(place, problem)])


class _Parser(Protocol):
    def get_event(self) -> Event | None: ...


class _PureParser(Reader, Scanner, Parser):
    """PyYAML's parser in Python, for where libyaml is not."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)


def _event_reader(text: str) -> Callable[[], Event]:
    """A function that returns the next event of ``text``; libyaml's parser where it is built in, ten times faster."""
    parser: _Parser
    if yaml.__with_libyaml__:
        from yaml.cyaml import CParser

        parser = CParser(text)
    else:
        parser = _PureParser(text)

    def next_event() -> Event:
        event: Event | None = parser.get_event()
        assert event is not None
        return event

    return next_event


def _read_bounded(path: str) -> bytes:
    """The bytes of a regular file of at most 1 MiB, without waiting for what is not one; raises OSError, ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with open(descriptor, "rb", closefd=True) as file:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        content = file.read(FILE_LIMIT + 1)
    if len(content) > FILE_LIMIT:
        raise ValueError(f"it is larger than {FILE_LIMIT // 1024} KiB")
    return content


def _refused(source: Source, problem: str, place: Place | None = None) -> ConfigError:
    return ConfigError([Mistake(place or Place(source), problem)])


def _place_at(source: Source, index: int) -> Place:
    """The place of the character at ``index``."""
    before = (source.text[:index] + "x").splitlines()
    return Place(source, len(before), len(before[-1]))


def _syntax_mistake(source: Source, error: yaml.YAMLError) -> Mistake:
    """What the parser says, in our form, with a guess at what was meant."""
    problem, place = "it cannot be parsed", Place(source)
    context = ""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        problem, context = error.problem or problem, error.context or ""
        if mark is not None:
            place = Place(source, mark.line + 1, mark.column + 1)
    said = f"{problem} {context}".strip()
    hint = next((hint for sign, hint in _HINTS if sign in said), "check the indentation and the quotes")
    return Mistake(place, f"not YAML: {said}; {hint}")
