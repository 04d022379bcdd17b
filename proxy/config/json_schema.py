"""What may stand in the file, as JSON Schema 2020-12, from the same structs that read it.

Looser than a plain translation where the loader is: one value may stand where a list may, a section may be empty, and
any single value may be a reference like ``${NAME}``.
"""

from __future__ import annotations

from typing import TypeAlias, cast

import msgspec
from msgspec import inspect as shapes

from proxy.config.fill import shape_of, shorthand
from proxy.config.scalars import Scalar, scalar_class
from proxy.config.schema import Config

Schema: TypeAlias = dict[str, object]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE: Schema = {"type": "string", "pattern": r"\$\{[^}]*\}"}


def json_schema() -> Schema:
    """The schema of the whole file."""
    definitions: dict[str, Schema] = {}
    root = _struct(shape_of(Config), definitions)
    return {"$schema": _DIALECT, "title": "tfo-proxy", **root, "type": "object", "$defs": definitions}


def _struct(shape: shapes.StructType, definitions: dict[str, Schema]) -> Schema:
    properties = {key.name: _key(key, definitions) for key in shape.fields}
    required = [key.name for key in shape.fields if key.required]
    schema: Schema = {
        "description": _first_line(shape.cls),
        "type": ["object", "null"],
        "properties": properties,
    }
    if required:
        schema |= {"type": "object", "required": required}
    return schema | {"additionalProperties": False}


def _key(key: shapes.Field, definitions: dict[str, Schema]) -> Schema:
    """One key: its value, what it means, and its default where that is a single value."""
    schema = _description(key.type) | _value(key.type, definitions)
    default: object = key.default
    if isinstance(default, Scalar):
        default = default.plain()
    is_single = isinstance(default, str | int | float) and not key.required
    return schema | {"default": default} if is_single else schema


def _description(shape: shapes.Type) -> Schema:
    """What the schema's `Meta` says of a key."""
    if not isinstance(shape, shapes.Metadata):
        return {}
    return cast("Schema", shape.extra_json_schema or {})  # pyright: ignore[reportUnknownMemberType]  # a bare dict


def _value(shape: shapes.Type, definitions: dict[str, Schema]) -> Schema:
    match shape:
        case shapes.Metadata():
            return _value(shape.type, definitions)
        case shapes.UnionType():
            return _any_of(*(_value(one, definitions) for one in shape.types))
        case shapes.StructType():
            whole, short = _reference_to(shape, definitions), shorthand(shape)
            return whole if short is None else _any_of(_value(short.type, definitions), whole)
        case shapes.DictType():
            names = shape.key_type.pattern if isinstance(shape.key_type, shapes.StrType) else None
            values = _value(shape.value_type, definitions)
            named: Schema = {"type": ["object", "null"], "additionalProperties": values}
            return named | {"propertyNames": {"pattern": names}} if names else named
        case shapes.VarTupleType():
            item = _value(shape.item_type, definitions)
            return _any_of(item, {"type": "array", "items": item})
        case shapes.NoneType():
            return {"type": "null"}
        case _:
            return _single(shape)


def _single(shape: shapes.Type) -> Schema:
    """One value, or a reference to it."""
    exact: Schema
    match shape:
        case shapes.CustomType():
            cls = scalar_class(shape.cls)
            exact = cls.json_schema
        case shapes.LiteralType():
            exact = {"enum": list(shape.values)}
        case shapes.BoolType():
            exact = {"type": "boolean"}
        case shapes.IntType():
            exact = {"type": "integer", "minimum": shape.ge, "maximum": shape.le}
        case _:
            raise TypeError(f"the schema has no words for {shape}")
    return _any_of(exact, _REFERENCE)


def _any_of(*schemas: Schema) -> Schema:
    """One of ``schemas``, the choices within them among its own."""
    choices: list[object] = []
    for schema in schemas:
        inner = schema.get("anyOf")
        choices += cast("list[object]", inner) if isinstance(inner, list) else [schema]
    return {"anyOf": [choice for at, choice in enumerate(choices) if choice not in choices[:at]]}


def _reference_to(shape: shapes.StructType, definitions: dict[str, Schema]) -> Schema:
    """A struct by name, defined where it is met first."""
    name = shape.cls.__name__
    if name not in definitions:
        definitions[name] = {}
        definitions[name] = _struct(shape, definitions)
    return {"$ref": f"#/$defs/{name}"}


def _first_line(cls: type[msgspec.Struct]) -> str:
    return (cls.__doc__ or "").partition("\n")[0]
