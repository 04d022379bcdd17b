"""Nodes → structs: what stands in the file, given the shape of `config.schema`; every mistake is noted.

Something wrong takes its default, or is left out of the collection it stands in, so that the rest can still be checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

import msgspec
from msgspec import inspect as shapes

from proxy.config.mistakes import Findings, Place, closest, quoted
from proxy.config.nodes import MappingNode, Node, ScalarNode, SequenceNode, is_empty, items_of, resolve
from proxy.config.scalars import BadScalar, Scalar, scalar_class


class Nothing(Enum):
    """What is left of a value that was wrong."""

    NOTHING = "nothing"


NOTHING = Nothing.NOTHING
ValueT = TypeVar("ValueT")

_LONGEST = 4096  # characters; a path has no more, and no address, time or key has as many

_SAID_ON = frozenset({"on", "yes", "y", "On", "ON", "Yes", "YES"})
_SAID_OFF = frozenset({"off", "no", "n", "Off", "OFF", "No", "NO"})


@dataclass(slots=True)
class Filler:
    """Fills structs from nodes. ``homes``: where each key of the schema belongs, for hints."""

    homes: dict[str, list[str]]
    findings: Findings

    def struct(self, shape: shapes.StructType, node: Node, path: str) -> object:
        """An instance of the struct; `NOTHING` if ``node`` is not a mapping."""
        short = shorthand(shape)
        if short is not None and isinstance(node, ScalarNode):
            value = self.value(short.type, node, path)
            return NOTHING if value is NOTHING else shape.cls(**{short.name: value})
        if is_empty(node):
            node = MappingNode(node.place)
        if not isinstance(node, MappingNode):
            keys = ", ".join(key.name for key in shape.fields)
            return self.wrong(node, path, f"{node} is not a mapping; write keys below it ({keys})")
        known = {key.name: key for key in shape.fields}
        for name, entry in node.entries.items():
            if name not in known:
                self.unknown_key(entry.key, name, path, known)
        values = {name: self.key(key, node, path) for name, key in known.items()}
        if any(values[name] is NOTHING and key.required for name, key in known.items()):
            return NOTHING  # nothing can stand in for it
        return shape.cls(**{name: value for name, value in values.items() if value is not NOTHING})

    def key(self, key: shapes.Field, node: MappingNode, path: str) -> object:
        """The value of one key of a struct; `NOTHING` stands for its default."""
        entry = node.entries.get(key.name)
        if entry is not None:
            value = self.value(key.type, entry.node, _below(path, key.name))
            if key.required and isinstance(entry.node, SequenceNode) and not entry.node.items:
                self.wrong(entry.node, _below(path, key.name), f"the list is empty; {meaning(key.type)}")
        else:
            value = NOTHING
            if key.required:
                self.findings.wrong(node.place, f"{_named(path)} has no `{key.name}`; {meaning(key.type)}")
        return blank(key.type) if value is NOTHING and key.required else value

    def value(self, shape: shapes.Type, node: Node, path: str) -> object:
        """What ``node`` says of the given shape; `NOTHING` after a mistake."""
        if isinstance(node, ScalarNode) and node.broken:
            return NOTHING
        match shape:
            case shapes.Metadata():
                return self.value(shape.type, node, path)
            case shapes.UnionType():
                return self.union(shape, node, path)
            case shapes.StructType():
                return self.struct(shape, node, path)
            case shapes.DictType():
                return self.named(shape, node, path)
            case shapes.VarTupleType():
                return self.several(shape, node, path)
            case _:
                return self.scalar(shape, node, path)

    def union(self, shape: shapes.UnionType, node: Node, path: str) -> object:
        """One of several shapes: a struct or words, or something or null."""
        if (
            isinstance(node, ScalarNode)
            and node.value is None
            and any(isinstance(s, shapes.NoneType) for s in shape.types)
        ):
            return None
        fitting = [
            s for s in shape.types if isinstance(s, shapes.StructType) is isinstance(node, MappingNode)
        ]
        first = next(s for s in (*fitting, *shape.types) if not isinstance(s, shapes.NoneType))
        return self.value(first, node, path)

    def named(self, shape: shapes.DictType, node: Node, path: str) -> object:
        """A mapping from names to values."""
        if is_empty(node):
            return {}
        if not isinstance(node, MappingNode):
            return self.wrong(
                node, path, f"{node} is not a mapping; write a name, a colon, and its keys below it"
            )
        filled = {
            name: self.value(shape.value_type, entry.node, _below(path, name))
            for name, entry in node.entries.items()
        }
        return {name: value for name, value in filled.items() if value is not NOTHING}

    def several(self, shape: shapes.VarTupleType, node: Node, path: str) -> object:
        """A sequence, or one value alone."""
        item = shape.item_type
        if is_empty(node) and isinstance(item, shapes.StructType) and shorthand(item) is None:
            return ()
        values = [self.value(shape.item_type, item, path) for item in items_of(node)]
        return tuple(value for value in values if value is not NOTHING)

    def scalar(self, shape: shapes.Type, node: Node, path: str) -> object:
        """A single value."""
        if not isinstance(node, ScalarNode):
            return self.wrong(node, path, f"{node} stands where one value belongs; {meaning(shape)}")
        if node.value is None and node.text == "" and not node.foreign and node.written == "":
            return self.wrong(node, path, f"it has no value; {meaning(shape)}")
        if node.written != node.text and isinstance(node.value, str):
            node = replace(node, value=resolve(node.text))  # quotes around a reference do not make it text
        match shape:
            case shapes.CustomType():
                return self.custom(scalar_class(shape.cls), node, path)
            case shapes.LiteralType() if node.text in shape.values:
                return node.text
            case shapes.BoolType() if isinstance(node.value, bool):
                return node.value
            case shapes.IntType() if type(node.value) is int and _fits(shape, node.value):
                return node.value
            case _:
                return self.wrong(node, path, f"{node} {_misfit(shape, node)}")

    def custom(self, cls: type[Scalar[object]], node: ScalarNode, path: str) -> object:
        """A value with a text of its own."""
        try:
            return read_scalar(cls, node)
        except BadScalar as error:
            return self.wrong(node, path, str(error), hide=cls.secret)

    def unknown_key(self, place: Place, name: str, path: str, known: Iterable[str]) -> None:
        """Note a key that does not belong here, and the one that was probably meant."""
        close = closest(name, known) if self.findings.has_room else None
        if close:
            meant = f"did you mean {close!r}?"
        elif name in self.homes:
            meant = f"it belongs under {' or '.join(self.homes[name])}"
        else:
            meant = f"known keys: {', '.join(known)}"
        self.findings.wrong_once(place, f"unknown key {quoted(name)} in {_named(path)}; {meant}")

    def wrong(self, node: Node, path: str, problem: str, *, hide: bool = False) -> Nothing:
        """Note a mistake at ``node``."""
        self.findings.wrong_once(node.place, f"{path}: {problem}" if path else problem, hide=hide)
        return NOTHING


def read_scalar(cls: type[Scalar[ValueT]], node: ScalarNode) -> Scalar[ValueT]:
    """What ``node`` writes; raises `BadScalar`, whose message tells no value that came from outside the file."""
    if len(node.text) > _LONGEST:
        raise BadScalar(f"{node} is {len(node.text)} characters long; write {cls.kind}")
    try:
        return cls.read(node.text)
    except BadScalar:
        if node.foreign:
            raise BadScalar(f"{node} does not fit; write {cls.kind}") from None
        raise


def meaning(shape: shapes.Type) -> str:  # noqa: PLR0911  # a line for each kind
    """What may be written for a value of this shape."""
    match shape:
        case shapes.Metadata():
            return meaning(shape.type)
        case shapes.CustomType():
            return f"write {scalar_class(shape.cls).kind}"
        case shapes.LiteralType():
            return f"write {_choices(shape.values)}"
        case shapes.BoolType():
            return "write true or false"
        case shapes.IntType():
            return f"write a whole number from {shape.ge} to {shape.le}"
        case shapes.VarTupleType():
            return f"{meaning(shape.item_type)}, or a list of these"
        case shapes.StructType() if (short := shorthand(shape)) is not None:
            return meaning(short.type)
        case shapes.UnionType():
            return meaning(
                next(s for s in shape.types if not isinstance(s, (shapes.NoneType, shapes.StructType)))
            )
        case _:
            return "write keys below it"


def blank(shape: shapes.Type) -> object:
    """The stand-in for a required value that is missing or wrong."""
    match shape:
        case shapes.Metadata():
            return blank(shape.type)
        case shapes.LiteralType():
            return shape.values[0]
        case shapes.VarTupleType():
            return ()
        case _:
            return NOTHING


def shorthand(shape: shapes.StructType) -> shapes.Field | None:
    """The key whose value may stand for the whole struct, where its class names one."""
    name: object = getattr(shape.cls, "shorthand", None)
    return next((key for key in shape.fields if key.name == name), None)


def homes_of_keys(root: shapes.StructType) -> dict[str, list[str]]:
    """For each key of the schema, the sections it belongs under, as ``listeners.*``."""
    homes: dict[str, list[str]] = {}

    def visit(shape: shapes.Type, path: str) -> None:
        match shape:
            case shapes.Metadata():
                visit(shape.type, path)
            case shapes.UnionType():
                for one in shape.types:
                    visit(one, path)
            case shapes.DictType():
                visit(shape.value_type, _below(path, "*"))
            case shapes.StructType():
                for key in shape.fields:
                    homes.setdefault(key.name, []).append(path or "the top level")
                    visit(key.type, _below(path, key.name))
            case _:
                pass

    visit(root, "")
    return {key: places for key, places in homes.items() if len(places) <= 3}


def shape_of(cls: type[msgspec.Struct]) -> shapes.StructType:
    """The shape of a struct of the schema."""
    shape = shapes.type_info(cls)
    if not isinstance(shape, shapes.StructType):
        raise TypeError(f"{cls} is not a struct")
    return shape


def _misfit(shape: shapes.Type, node: ScalarNode) -> str:
    """Why a value does not fit, and what would."""
    if isinstance(shape, shapes.BoolType) and not node.foreign and node.text in _SAID_ON | _SAID_OFF:
        return f"is text in YAML 1.2; write {'true' if node.text in _SAID_ON else 'false'}"
    if isinstance(shape, shapes.LiteralType):
        words = [str(word) for word in shape.values]
        spoken = {"true": "yes", "false": "no" if "no" in words else "off"}.get(node.text.lower())
        if spoken in words:
            return f"is not a choice; write {spoken}"
        close = None if node.foreign else closest(node.text, words)
        if close:
            return f"is not a choice; did you mean {close}? ({_choices(words)})"
        return f"is not a choice; {meaning(shape)}"
    if isinstance(shape, shapes.IntType) and type(node.value) is int:
        return f"is out of range; {meaning(shape)}"
    return f"does not fit; {meaning(shape)}"


def _fits(shape: shapes.IntType, number: int) -> bool:
    return (shape.ge is None or number >= shape.ge) and (shape.le is None or number <= shape.le)


def _choices(values: Iterable[object]) -> str:
    *most, last = (str(value) for value in values)
    return f"{', '.join(most)} or {last}" if most else last


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _named(path: str) -> str:
    return path or "the file"
