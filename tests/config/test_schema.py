from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from msgspec import inspect as shapes

from proxy.config import load
from proxy.config.fill import blank, shape_of
from proxy.config.scalars import Scalar
from proxy.config.schema import Config
from proxy.core import snapshot

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"


def inner(shape: shapes.Type) -> list[shapes.StructType]:
    """Every struct at or below a shape."""
    match shape:
        case shapes.Metadata():
            return inner(shape.type)
        case shapes.UnionType():
            return [found for one in shape.types for found in inner(one)]
        case shapes.DictType():
            return inner(shape.value_type)
        case shapes.StructType():
            return [shape, *(found for key in shape.fields for found in inner(key.type))]
        case _:
            return []


SECTIONS = {shape.cls.__name__: shape for shape in inner(shape_of(Config))}


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_and_key_says_what_it_means(name: str) -> None:
    shape = SECTIONS[name]
    assert shape.cls.__doc__
    assert shape.forbid_unknown_fields
    for key in shape.fields:
        assert isinstance(key.type, shapes.Metadata), key.name
        description = (key.type.extra_json_schema or {}).get("description", "")
        assert description.endswith("."), key.name


@pytest.mark.parametrize("name", SECTIONS)
def test_a_required_key_can_be_left_blank_after_a_mistake(name: str) -> None:
    for key in SECTIONS[name].fields:
        if key.required:
            assert blank(key.type) is not blank(shapes.NoneType())


@pytest.mark.parametrize("name", SECTIONS)
def test_defaults_of_scalars_can_be_written_and_read(name: str) -> None:
    for key in SECTIONS[name].fields:
        default: object = key.default
        if isinstance(default, Scalar):
            assert type(default).read(str(default.plain())) == default


def test_defaults_are_those_of_the_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        '{listeners: {a: {bind: "1.2.3.4:5", mode: forward, to: c}}, clusters: {c: {endpoints: "h:1"}}}'
    )
    made = load(str(path)).snapshot
    cluster = made.clusters["c"]
    listener = made.listeners[0]
    assert cluster == snapshot.Cluster("c", cluster.endpoints)
    assert listener == snapshot.Listener("a", listener.binds, snapshot.Mode.FORWARD, cluster)
    assert made == snapshot.Snapshot((listener,), {"c": cluster})


def uncommented(text: str) -> str:
    """The example with every key in it said."""
    keys = re.sub(
        r"^( *)# (?=( *)(?:- )?[a-z_0-9]+: *(\S|$))",
        r"\1",
        text.partition("\nlisteners:")[2],
        flags=re.MULTILINE,
    )
    return f"listeners:{keys}"


def test_the_example_says_every_key(tmp_path: Path) -> None:
    key = tmp_path / "tfo"
    key.write_text("00112233445566778899aabbccddeeff")
    text = re.sub(r"/run/secrets/\w+", str(key), uncommented(EXAMPLE.read_text()))
    path = tmp_path / "c.yaml"
    path.write_text(text)
    loaded = load(str(path))
    assert "api" in loaded.snapshot.clusters

    lines = text.splitlines()
    for shape in SECTIONS.values():
        for one in shape.fields:
            assert any(re.match(rf"[# ]*{one.name}:", line) for line in lines), (
                f"{one.name} is not in the example"
            )
    for line in lines:
        assert re.search(r"#|^ *$|^ *\w+:$|^ *\w+: \S+$", line), f"no explanation: {line}"


def test_the_example_shows_the_defaults(tmp_path: Path) -> None:
    """What is commented out with a default's value changes nothing when it is said."""
    text = re.sub(
        r"^(state|tfo_keys|user|group|    timeout: 3s|    users|      alice|    allow: \[loop|    trust).*\n",
        "",
        uncommented(EXAMPLE.read_text()),
        flags=re.MULTILINE,
    )
    text = re.sub(r"\n  far:.*(\n    .*)*", "", text)
    text = re.sub(r"\n    (health|source|via):.*(\n      .*)*", "", text).replace("weight: 3", "weight: 1")
    text = re.sub(r"\nadmin:.*(\n  .*)*", "", text.replace("  connect:\n\n", "\n"))
    path = tmp_path / "c.yaml"
    path.write_text(text)
    made = load(str(path)).snapshot
    plain = snapshot.Cluster("api", made.clusters["api"].endpoints)
    assert made.clusters == {"api": plain}
    web, fixed = made.listeners
    assert web == snapshot.Listener("web", web.binds, snapshot.Mode.MIXED, snapshot.DIRECT)
    assert fixed == snapshot.Listener("fixed", fixed.binds, snapshot.Mode.FORWARD, plain)
    assert made == snapshot.Snapshot(made.listeners, made.clusters, routes=made.routes)


def test_structs_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Config().drain = None  # type: ignore[misc,assignment]  # the point of the test
    assert issubclass(Config, msgspec.Struct)
