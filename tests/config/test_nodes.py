from __future__ import annotations

import pytest

from proxy.config.mistakes import Place, Source
from proxy.config.nodes import (
    Entry,
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    Tree,
    is_empty,
    items_of,
    overlay,
    resolve,
    scalar_from_flag,
)

PLACE = Place(Source("c.yaml", ""), 1, 1)


def scalar(text: str, *, foreign: bool = False, broken: bool = False) -> ScalarNode:
    return ScalarNode(PLACE, resolve(text), text, text, foreign, broken)


def mapping(**nodes: Node) -> MappingNode:
    return MappingNode(PLACE, {key: Entry(PLACE, node) for key, node in nodes.items()})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("~", None), ("null", None), ("NULL", None),
        ("true", True), ("True", True), ("FALSE", False),
        ("0", 0), ("-5", -5), ("+5", 5), ("0o17", 15), ("0xfF", 255), ("999999999999999999", 10**18 - 1),
        ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0), ("-1.E2", -100.0),
    ],
)  # fmt: skip
def test_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "on",
        "off",
        "yes",
        "no",
        "y",
        "On",
        "22:22",
        "10:53",
        "0755",
        "1_000",
        "=",
        "<<",
        "2026-01-01",
        "0b1",
        "tRue",
        "nan",
        ".nan",
        ".inf",
        "1.2.3.4",
        "5s",
        "-",
        "+",
        ".",
        "e5",
        "0x",
        "00",
        "1" * 19,
        "9" * 5000,
        "١",
    ],
)
def test_the_traps_of_yaml_1_1_are_text(text: str) -> None:
    assert resolve(text) == text


def test_a_tree_is_walked_by_path() -> None:
    inner = scalar("x")
    tree = Tree(mapping(a=mapping(b=inner)))
    assert tree.find("a", "b") is inner
    assert tree.find("a", "b", "c") is None
    assert tree.nearest("a", "b", "c", "d") is inner
    assert tree.nearest("z") is tree.root
    assert list(tree.entries("a")) == ["b"]
    assert tree.entries("a", "b") == {}


def test_overlay_takes_from_below_what_is_not_said_above() -> None:
    below = mapping(hedge=scalar("1s"), connect=mapping(timeout=scalar("3s"), retries=scalar("1")))
    above = mapping(connect=mapping(timeout=scalar("9s")), replay=scalar("any"))
    both = overlay(below, above)
    assert isinstance(both, MappingNode)
    connect = both.get("connect")
    assert isinstance(connect, MappingNode)
    assert {key: str(node) for key, entry in connect.entries.items() for node in [entry.node]} == {
        "timeout": "'9s'",
        "retries": "'1'",
    }
    assert both.entries.keys() == {"hedge", "connect", "replay"}
    assert overlay(below, scalar("off")) == scalar("off")


def test_what_is_empty() -> None:
    assert is_empty(None)
    assert is_empty(scalar(""))
    assert not is_empty(scalar("", broken=True))
    assert not is_empty(mapping())
    assert not is_empty(scalar("x"))


def test_one_value_stands_where_several_may() -> None:
    one = scalar("x")
    assert items_of(one) == (one,)
    assert items_of(SequenceNode(PLACE, (one, one))) == (one, one)


def test_how_a_message_names_a_node() -> None:
    assert str(scalar("x")) == "'x'"
    assert str(ScalarNode(PLACE, "hunter2", "hunter2", "${PW}", foreign=True)) == "the value of '${PW}'"
    assert str(mapping()) == "a mapping"
    assert str(SequenceNode(PLACE, ())) == "a list"


def test_a_part_of_a_flag_is_always_text() -> None:
    node = scalar_from_flag("--forward", "8080=on", 0, 4)
    assert (node.value, node.place.column) == ("8080", 1)
    assert scalar_from_flag("--forward", "8080=on", 5).place.column == 6
