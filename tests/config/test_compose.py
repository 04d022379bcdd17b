from __future__ import annotations

import re
import time

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.config import compose
from proxy.config.compose import read_document
from proxy.config.mistakes import ConfigError, Mistake, Source
from proxy.config.nodes import MappingNode, Node, ScalarNode, SequenceNode


@pytest.fixture(params=[True, False], ids=["libyaml", "pure"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml, "__with_libyaml__", request.param and yaml.__with_libyaml__)


def plain(node: Node | None) -> object:
    match node:
        case ScalarNode():
            return "BROKEN" if node.broken else node.value
        case SequenceNode():
            return [plain(item) for item in node.items]
        case MappingNode():
            return {key: plain(entry.node) for key, entry in node.entries.items()}
        case None:
            return None


def read(text: str) -> tuple[object, list[str]]:
    mistakes: list[Mistake] = []
    value = plain(read_document(Source("c", text), mistakes))
    return value, [str(mistake).partition("\n")[0] for mistake in mistakes]


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_document(Source("c", text), [])
    return str(caught.value).partition("\n")[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# only a comment\n", None),
        ("---\n", None),
        ("a: 1\n...\n", {"a": 1}),
        ("%YAML 1.2\n---\na: on\n", {"a": "on"}),
        ("{a: 22:22, b: 0755, c: 1_000, d: '5', e: \"x\", f: =}",
         {"a": "22:22", "b": "0755", "c": "1_000", "d": "5", "e": "x", "f": "="}),
        ("on: yes\n1: 2\n~: 3\n", {"on": "yes", "1": 2, "~": 3}),
        ("a: [1, [], {}, ]\nb:\n- x\n", {"a": [1, [], {}], "b": ["x"]}),
        ("a: |\n  two\n  lines\n", {"a": "two\nlines\n"}),
        ("a: &x {b: 1}\nc: *x\n", {"a": {"b": 1}, "c": {"b": 1}}),
        ("a: !!str 5\nb: !!int '5'\nc: ! 5\nd: !!map {}\ne: !!seq []\nf: !!float 5\ng: !!null ''\nh: !!bool true",
         {"a": "5", "b": 5, "c": "5", "d": {}, "e": [], "f": 5, "g": None, "h": True}),
        ("b: &b {x: 1, y: 2}\nc: {y: 3, <<: *b}\n", {"b": {"x": 1, "y": 2}, "c": {"x": 1, "y": 3}}),
        ("b: &b {x: 1}\nc: &c {x: 2, z: 3}\nd: {<<: [*b, *c]}\n",
         {"b": {"x": 1}, "c": {"x": 2, "z": 3}, "d": {"x": 1, "z": 3}}),
        ('{"<<": 1}', {"<<": 1}),
    ],
)  # fmt: skip
def test_what_is_read(text: str, value: object) -> None:
    assert read(text) == (value, [])


def test_references_are_replaced_and_only_plain_scalars_change_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "8080")
    monkeypatch.setenv("EVIL", "x\nlisteners: {a: 1}")
    monkeypatch.delenv("UNSET", raising=False)
    text = "a: ${PORT}\nb: \"${PORT}\"\nc: ${UNSET:-9}\nd: '$$'\ne: ${EVIL}\nf: ${UNSET:-}\n${PORT}: 1\n"
    assert read(text) == (
        {"a": 8080, "b": "8080", "c": 9, "d": "$", "e": "x\nlisteners: {a: 1}", "f": None, "${PORT}": 1},
        [],
    )


@pytest.mark.parametrize(
    ("text", "value", "mistakes"),
    [
        ("a: 1\nb: 2\na: 3\n", {"a": 1, "b": 2}, ["c:3:1: duplicate key 'a'; it was first written on line 1"]),
        ("{a: 1, 'a': 2}", {"a": 1}, ["c:1:8: duplicate key 'a'; it was first written on line 1"]),
        ("a: x ${UNSET} y", {"a": "BROKEN"},
         ["c:1:6: the environment variable UNSET is not set; set it, or write ${UNSET:-default}"]),
        ('a: "é${"', {"a": "BROKEN"}, ["c:1:6: '${' has no closing brace; write ${NAME}, or $$ for a dollar"]),
        ("a: !!int x", {"a": "BROKEN"}, ["c:1:4: the tag !!int does not fit here; leave tags out"]),
        ("a: !!python/name:os.system x", {"a": "BROKEN"},
         ["c:1:4: the tag !!python/name:os.system does not fit here; leave tags out"]),
        ("a: !secret x", {"a": "BROKEN"}, ["c:1:4: the tag !secret does not fit here; leave tags out"]),
        ("a: !!set {x}", {"a": {"x": None}}, ["c:1:4: the tag !!set does not fit here; leave tags out"]),
        ("a: {<<: 5}", {"a": {}}, ["c:1:5: << merges nothing but mappings; write an alias of one, like *base"]),
    ],
)  # fmt: skip
def test_mistakes_that_leave_the_rest_readable(
    text: str, value: object, mistakes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UNSET", raising=False)
    assert read(text) == (value, mistakes)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\n---\nb: 1\n", "c:2:1: a second document begins here; a configuration is one document"),
        ("{[a]: 1}", "c:1:2: a key must be plain text"),
        ("? {a: 1}\n: 2", "c:1:3: a key must be plain text"),
        ("a: *nothing", "c:1:4: alias '*nothing' names nothing above"),
        ("a: &x [*x]", "c:1:8: alias '*x' holds itself"),
        (
            "a: \0",
            "c:1:4: a NUL byte; is this a binary file, or UTF-16?; a configuration is plain UTF-8 text",
        ),
        ("a: 1\nb: \x07", "c:2:4: control character U+0007; a configuration is plain UTF-8 text"),
        ("a: " + "x" * 65_537, "c:1:4: this text has 65537 characters; no setting is that long"),
        ("[" * 40, "c:1:34: nested deeper than 32 levels; no setting is that deep"),
        ("bind: *:80", 'quote a text that begins with *, like "*:8080"'),
        ("bind: [::1]:80", "not YAML: "),
        ("a:\n\tb: 1", "c:2:1: not YAML: found character "),
        ("to: @x", "quote a text that begins with @"),
        ("a: b: c", "not YAML: mapping values are not allowed"),
        ("a: 'x", "close the quote"),
        ("a: [1", "close every { and ["),
        ("a: 1\n b: 2", "c:2:3: not YAML: "),
    ],
)
def test_what_cannot_be_read_any_further(text: str, says: str) -> None:
    assert says in refusal(text)
    assert refusal(text).startswith("c:")


def test_mistakes_before_a_fatal_one_are_told_too() -> None:
    with pytest.raises(ConfigError) as caught:
        read_document(Source("c", "a: 1\na: 2\nb: [\n"), [])
    assert len(caught.value.mistakes) == 2


BOMBS = {
    "billion laughs": "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9}]\n" for n in range(1, 10)),
    "merges": "a: &a {x: 1}\n" + "".join(f"k{n}: {{<<: [{', '.join(['*a'] * 50)}]}}\n" for n in range(2000)),
    "long list": "[" + "a," * 200_000,
    "deep": "[" * 500_000,
    "deep pairs": "{a: " * 200_000,
    "dashes": "- " * 500_000,
    "question marks": "? " * 300_000,
    "anchors": "\n".join(f"k{n}: &a{n} 1" for n in range(60_000)),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_go_off_early(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not yaml.__with_libyaml__:
        monkeypatch.setattr(compose, "NODE_LIMIT", 2000)  # ten times slower, and bounded all the same
    started = time.process_time()
    said = refusal(BOMBS[name])
    assert (
        f"more than {compose.NODE_LIMIT} values" in said or "deeper than 32" in said or "key must be" in said
    )
    assert time.process_time() - started < 5


PIECES = [*"ab: -[]{},&*!|>'\"%@#?\n\t$\\~<0", "${", "&a ", "*a ", "<<: ", "---\n", "\n  ", ": ", "- ", "é"]
YAMLISH = st.lists(st.sampled_from(PIECES), max_size=50).map("".join)


@settings(max_examples=300)
@given(YAMLISH | st.text(max_size=40))
@example("&a ? *a")
@example("!<tag:yaml.org,2002:int> x")
def test_any_text_is_read_or_refused(text: str) -> None:
    mistakes: list[Mistake] = []
    try:
        read_document(Source("c", text), mistakes)
    except ConfigError as error:
        mistakes += error.mistakes
    for mistake in mistakes:
        assert mistake.place.line <= len(mistake.place.source.lines) + 1
        assert "\x1b" not in str(mistake)


NUMBERS_OF_1_2 = re.compile(
    r"[-+]?[0-9.]+[eE][-+]?[0-9]+|0o[0-7]+"
)  # to PyYAML, which writes 1.1, they are text
TEXTS = st.text(st.characters(exclude_characters="$", exclude_categories=("Cc", "Cs")), max_size=9).filter(
    lambda text: NUMBERS_OF_1_2.fullmatch(text) is None
)
KEYS = st.from_regex(r"[a-z]{1,5}", fullmatch=True)


@settings(max_examples=100)
@given(st.recursive(
    st.none() | st.booleans() | st.integers(-10**9, 10**9) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
))  # fmt: skip
def test_what_pyyaml_writes_is_read_back(value: object) -> None:
    assert read(yaml.safe_dump(value, allow_unicode=True)) == (value, [])


def test_both_parsers_are_really_used() -> None:
    parser = compose._new_parser("a: 1")
    assert (type(parser).__name__ == "CParser") is yaml.__with_libyaml__
