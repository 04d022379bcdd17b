"""Structs → YAML: a whole configuration, every default written out."""

from __future__ import annotations

from typing import cast

import msgspec
import yaml

from proxy.config.interpolate import escape
from proxy.config.scalars import Scalar
from proxy.config.schema import Cluster, Config, WeightedEndpoint

_HIDDEN = "***"


def render(config: Config) -> str:
    """YAML that loads to the same snapshot, but for secrets, which are hidden."""
    return yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True, width=1000)


def _plain(value: object) -> object:
    """``value`` as YAML holds it."""
    match value:
        case Cluster():  # the endpoints first, as people write them
            fields = {name: getattr(value, name) for name in ("endpoints", *value.__struct_fields__)}
            return _plain(fields)
        case WeightedEndpoint(weight=1):
            return _plain(value.address)
        case msgspec.Struct():
            return _plain({name: getattr(value, name) for name in value.__struct_fields__})
        case dict():
            return {str(key): _plain(inner) for key, inner in cast("dict[object, object]", value).items()}
        case tuple():
            return [_plain(inner) for inner in cast("tuple[object, ...]", value)]
        case Scalar():
            return _HIDDEN if value.secret else _escaped(value.plain())
        case _:
            return value


def _escaped(value: str | int) -> str | int:
    return escape(value) if isinstance(value, str) else value
