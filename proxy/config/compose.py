"""Text → nodes: our own walk over a YAML parser's events.

YAML 1.2 core scalars (so ``on``, ``22:22`` and ``0755`` are text), duplicate keys refused, references replaced in
scalars, merge keys honoured, depth and aliases bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Never, Protocol

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.scanner import Scanner

from proxy.config.interpolate import BadReference, expand
from proxy.config.mistakes import ConfigError, Mistake, Place, Source, quoted
from proxy.config.nodes import Entry, MappingNode, Node, ScalarNode, SequenceNode, items_of, resolve
from proxy.config.source import place_at

DEPTH_LIMIT = 32
NODE_LIMIT = 50_000  # in all, an alias counted as what it stands for
TEXT_LIMIT = 64 * 1024  # characters of one scalar

_CORE = "tag:yaml.org,2002:"
_CONTROL = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
_TAGS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "null": (type(None),),
}
_HINTS = (
    ("alias", 'quote a text that begins with *, like "*:8080"'),
    ("cannot start any token", "indent with spaces, and quote a text that begins with @ ` % or a tab"),
    ("mapping values are not allowed", "quote a text that holds ': ', and check the indentation"),
    ("block collection", 'check the indentation, and quote an address like "[::1]:8080"'),
    ("block mapping", 'check the indentation, and quote an address like "[::1]:8080"'),
    ("flow", 'close every { and [, and quote "[::1]:8080" and "${NAME}" within them'),
    ("quoted scalar", "close the quote"),
)


def read_document(source: Source, mistakes: list[Mistake]) -> Node | None:
    """The one document of ``source``, or None if it is empty.

    Mistakes that leave the rest readable are added to ``mistakes``; others raise `ConfigError`, with those added
    before.
    """
    control = _CONTROL.search(source.text)
    if control:
        char = ord(control.group())
        what = (
            "a NUL byte; is this a binary file, or UTF-16?"
            if char == 0
            else f"control character U+{char:04X}"
        )
        place = place_at(source, control.start())
        raise ConfigError([*mistakes, Mistake(place, f"{what}; a configuration is plain UTF-8 text")])
    try:
        return _Composer(source, mistakes).document()
    except ConfigError as error:
        raise ConfigError([*mistakes, *error.mistakes]) from None
    except yaml.YAMLError as error:
        raise ConfigError([*mistakes, _syntax_mistake(source, error)]) from None


class _Composer:
    """One pass over a parser's events."""

    def __init__(self, source: Source, mistakes: list[Mistake]) -> None:
        self.source = source
        self.mistakes = mistakes
        self.next_event = _event_reader(source.text)
        self.anchors: dict[str, tuple[Node, int] | None] = {}  # None: not complete yet
        self.nodes = 0  # composed so far, aliases counted as what they stand for

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
        anchor = event.anchor if isinstance(event, NodeEvent) else None
        before = self.nodes
        self.nodes += 1
        if self.nodes > NODE_LIMIT:
            self.fail(
                self.place(event),
                f"there are more than {NODE_LIMIT} values; write fewer, or start two proxies",
            )
        if anchor:
            self.anchors[anchor] = None
        node: Node
        if isinstance(event, ScalarEvent):
            node = self.scalar(event)
        elif isinstance(event, SequenceStartEvent):
            node = self.sequence(event, depth)
        elif isinstance(event, MappingStartEvent):
            node = self.mapping(event, depth)
        else:
            raise TypeError(f"{event} begins no node")
        if anchor:
            self.anchors[anchor] = node, self.nodes - before
        return node

    def alias(self, event: AliasEvent) -> Node:
        """What an anchor before this place holds."""
        place, name = self.place(event), str(event.anchor)
        if name not in self.anchors:
            self.fail(
                place,
                f"alias {quoted('*' + name)} names nothing above; write the anchor there, or quote the text",
            )
        anchored = self.anchors[name]
        if anchored is None:
            self.fail(
                place,
                f"alias {quoted('*' + name)} holds itself; an alias may only stand for something complete above it",
            )
        node, weight = anchored
        self.nodes += weight
        if self.nodes > NODE_LIMIT:
            self.fail(place, f"this alias makes more than {NODE_LIMIT} values; write fewer of them")
        return node

    def scalar(self, event: ScalarEvent) -> ScalarNode:
        """A scalar, references replaced."""
        place, written = self.place(event), str(event.value)
        if len(written) > TEXT_LIMIT:
            self.fail(place, f"this text has {len(written)} characters; no setting is that long")
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
                self.mistakes.append(
                    Mistake(
                        place, f"duplicate key {quoted(key)}; it was first written on line {first}", hide=True
                    )
                )
            else:
                entries[key] = Entry(place, node)
        return MappingNode(self.place(event), merged | entries if merged else entries)

    def merge(self, place: Place, node: Node, into: dict[str, Entry]) -> None:
        """Add the entries of a merge key's value, a mapping or a sequence of them; the first named wins."""
        for source in items_of(node):
            if not isinstance(source, MappingNode):
                self.mistakes.append(
                    Mistake(place, "<< merges nothing but mappings; write an alias of one, like *base")
                )
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
        if mark is None:
            return Place(self.source)
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


def _new_parser(text: str) -> _Parser:
    if not yaml.__with_libyaml__:
        return _PureParser(text)
    from yaml._yaml import CParser  # noqa: PLC0415  # not there without libyaml

    return CParser(text)


def _event_reader(text: str) -> Callable[[], Event]:
    """What returns the next event of ``text``, with libyaml's parser where it is built in (ten times faster)."""
    parser = _new_parser(text)

    def next_event() -> Event:
        event = parser.get_event()
        if event is None:
            raise EOFError("the parser has no more events")
        return event

    return next_event


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
