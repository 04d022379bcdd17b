from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from proxy.config import Loaded
from proxy.config.json_schema import json_schema

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"
VALIDATOR = jsonschema.Draft202012Validator(json.loads(json.dumps(json_schema())))
BASE = {"listeners": {"a": {"bind": "127.0.0.1:1", "mode": "forward", "to": "h:1"}}}


def with_key(path: str, value: object) -> dict[str, Any]:
    """The smallest file with one more key."""
    tree: dict[str, Any] = json.loads(json.dumps(BASE))
    *above, last = path.split(".")
    inner = tree
    for key in above:
        inner = inner.setdefault(key, {})
    if path.startswith("clusters.c."):
        inner = tree["clusters"]["c"]
        inner.setdefault("endpoints", "h:1")
        for key in above[2:]:
            inner = inner.setdefault(key, {})
    inner[last] = value
    return tree


GOOD = [
    ("listeners.a.bind", ["127.0.0.1:1", "[::1]:1", "*:2", "unix:/run/x", "unix:@x"]),
    ("listeners.a.bind", "${BIND:-127.0.0.1:1}"),
    ("listeners.a.backlog", 64),
    ("listeners.a.backlog", "${UNSET:-9}"),
    ("listeners.a.fast_open", False),
    ("listeners.a.timeouts", None),
    ("listeners.a.timeouts.idle", "none"),
    ("listeners.a.timeouts.first_bytes", "1m30s"),
    ("clusters", None),
    ("clusters.c.endpoints", ["h:1", "unix:/x"]),
    ("clusters.c.syn_data", 1200),
    ("clusters.c.syn_data", "1200"),
    ("clusters.c.syn_data", "1KiB"),
    ("clusters.c.preconnect", 2),
    ("clusters.c.preconnect", "off"),
    ("clusters.c.hedge", "250ms"),
    ("clusters.c.keepalive", "off"),
    ("clusters.c.keepalive.count", 9),
    ("clusters.c.server_first", "yes"),
    ("defaults.connect.timeout", "1s"),
    ("state", None),
    ("tfo_keys", "00112233445566778899aabbccddeeff,00112233-44556677-8899aabb-ccddeef0"),
    ("tfo_keys", []),
    ("drain", "0s"),
]

BAD = [
    ("listener", {}),
    ("listeners.a.bind", 80),
    ("listeners.a.bind", "127.0.0.1"),
    ("listeners.a.bind", ["${X:-1.2.3.4:5}", "nonsense"]),
    ("listeners.a.mode", "forwrd"),
    ("listeners.a.to", ["h:1"]),
    ("listeners.a.backlog", 0),
    ("listeners.a.backlog", "64"),
    ("listeners.a.fast_open", "on"),
    ("listeners.a.timeouts.idle", 5),
    ("listeners.a.timeouts.idle", "5"),
    ("listeners.a.timeouts.idel", "5s"),
    ("listeners.b c", {"bind": "1.2.3.4:5", "mode": "forward", "to": "h:1"}),
    ("clusters.c", {}),
    ("clusters.c.syn_data", "64KB"),
    ("clusters.c.hedge", True),
    ("clusters.c.keepalive", False),
    ("clusters.c.server_first", True),
    ("defaults.endpoints", ["h:1"]),
    ("log.level", "loud"),
    ("tfo_keys", "nothex"),
    ("drain", None),
]


def written(value: object) -> str:
    return yaml.safe_dump(value)


def test_it_is_a_schema() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_it_validates_the_example() -> None:
    # Our example holds no scalar that YAML 1.1 and 1.2 read differently.
    VALIDATOR.validate(yaml.safe_load(EXAMPLE.read_text()))


@pytest.mark.parametrize(("path", "value"), GOOD)
def test_what_the_loader_takes_is_valid(loaded: Callable[[str], Loaded], path: str, value: object) -> None:
    tree = with_key(path, value)
    VALIDATOR.validate(tree)
    assert loaded(written(tree)).snapshot.listeners


@pytest.mark.parametrize(("path", "value"), BAD)
def test_what_the_loader_refuses_is_not(
    problems: Callable[[str], list[str]], path: str, value: object
) -> None:
    tree = with_key(path, value)
    assert not VALIDATOR.is_valid(tree)
    assert problems(written(tree))


def test_every_key_tells_editors_what_it_means() -> None:
    schema: dict[str, Any] = json_schema()
    definitions = schema["$defs"]
    for section in (schema, *definitions.values()):
        assert section["description"]
        assert section["additionalProperties"] is False
        for name, key in section["properties"].items():
            assert key["description"], name
            if "default" in key:
                jsonschema.Draft202012Validator({**key, "$defs": definitions}).validate(key["default"])
