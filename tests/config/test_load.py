"""`proxy.config` as its callers see it: a file, flags, or both."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxy.config import ConfigError, Loaded, files_of, load
from proxy.core.address import Authority, Endpoint
from proxy.core.snapshot import Bind, Mode


def test_the_smallest_file(loaded: Callable[[str], Loaded], minimal: str) -> None:
    (listener,) = loaded(minimal).snapshot.listeners
    assert (listener.name, listener.binds, listener.mode) == ("a", (Bind("127.0.0.1", 18000),), Mode.FORWARD)
    assert listener.cluster.endpoints == (Endpoint("10.77.2.10", 80),)


def test_flags_alone_are_enough() -> None:
    loaded = load(
        forwards=["127.0.0.1:18000=10.77.2.10:80", "[::1]:0=example.com:80", "unix:/run/x=unix:/run/y=z"]
    )
    assert loaded.path is None
    assert [(listener.name, str(listener.binds[0])) for listener in loaded.snapshot.listeners] == [
        ("forward", "127.0.0.1:18000"),
        ("forward-2", "[::1]:0"),
        ("forward-3", "unix:/run/x"),
    ]
    assert [listener.cluster.endpoints for listener in loaded.snapshot.listeners] == [
        (Endpoint("10.77.2.10", 80),),
        (Authority("example.com", 80),),
        (Endpoint("/run/y=z", 0),),
    ]


def test_flags_are_added_to_a_file_and_may_name_its_clusters(write: Callable[[str], str]) -> None:
    path = write(
        "listeners: {forward: {bind: '127.0.0.1:1', mode: forward, to: c}}\n"
        "clusters: {c: {endpoints: 'h:1'}}\ndefaults: {hedge: off}\n"
    )
    made = load(path, forwards=["127.0.0.1:2=c", "127.0.0.1:3=x:1"]).snapshot
    assert [listener.name for listener in made.listeners] == ["forward", "forward-2", "forward-3"]
    assert made.listeners[1].cluster is made.listeners[0].cluster
    assert made.listeners[2].cluster.hedge is None


def test_flags_make_a_file_without_listeners_useful(write: Callable[[str], str]) -> None:
    assert len(load(write("drain: 5s\n"), forwards=["127.0.0.1:2=h:1"]).snapshot.listeners) == 1


def test_mistakes_in_flags_are_shown_like_those_in_files(write: Callable[[str], str], minimal: str) -> None:
    path = write(minimal)
    with pytest.raises(ConfigError) as caught:
        load(path, forwards=["8080", "8080=x", "127.0.0.1:18000=h:1"])
    assert str(caught.value).splitlines() == [
        "--forward: '8080' has no '='; write BIND=TO, like 127.0.0.1:8080=example.com:80",
        "    8080",
        "    ^",
        "--forward: listeners.forward.bind: '8080' is a port without a host; write host:port, like 127.0.0.1:8080",
        "    8080=x",
        "    ^",
        "--forward: listeners.forward-2.bind: '127.0.0.1:18000' is taken; listener 'a' binds it already",
        "    127.0.0.1:18000=h:1",
        "    ^",
        (
            "--forward: listeners.forward.to: 'x' is neither a cluster nor an address; there are no clusters, "
            "and an address has a port, like api.example.com:443"
        ),
        "    8080=x",
        "         ^",
    ]


def test_nothing_at_all() -> None:
    with pytest.raises(ConfigError, match="the command line: there are no listeners"):
        load()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "1:1: the file is empty; write at least one listener below `listeners:`"),
        ("\n# only this\n", "1:1: the file is empty"),
        ("---\n", "1:1: the file is empty"),
        ("~", "1:1: the file is empty"),
        ("listeners", "1:1: the file is a single value; it must be a mapping that has `listeners:`"),
        ("- a\n", "1:1: the file is a list; it must be a mapping that has `listeners:`"),
        ("${", "1:1: '${' has no closing brace"),
    ],
)
def test_what_is_no_configuration(problems: Callable[[str], list[str]], content: str, says: str) -> None:
    assert [line.startswith(says) for line in problems(content)] == [True]


def test_the_report_shows_line_and_caret(report: Callable[[str], str]) -> None:
    assert report("listeners:\n  web:\n    bnd: 127.0.0.1:80\n    mode: forward\n    to: h:1\n") == (
        "3:5: unknown key 'bnd' in listeners.web; did you mean 'bind'?\n"
        "        bnd: 127.0.0.1:80\n"
        "        ^\n"
        '3:5: listeners.web has no `bind`; write an address to listen on like 127.0.0.1:8080, "[::1]:8080", "*:8080" '
        "or unix:/run/x.sock, or a list of these\n"
        "        bnd: 127.0.0.1:80\n"
        "        ^"
    )


WORDS = [
    "listeners",
    "clusters",
    "defaults",
    "a",
    "bind",
    "mode",
    "to",
    "forward",
    "endpoints",
    "hedge",
    "log",
    "tfo_keys",
]
VALUES = [
    "127.0.0.1:1",
    "h:1",
    "5s",
    "5",
    "on",
    "~",
    "x",
    "*a",
    "&a",
    "${X}",
    "unix:/x",
    "'",
    "[",
    "]",
    "{",
    "}",
    "é",
    "0",
]
LINES = st.tuples(
    st.integers(0, 4), st.sampled_from(["", "- "]), st.sampled_from(WORDS), st.sampled_from([":", ": ", ""]),
    st.lists(st.sampled_from(VALUES), max_size=2).map(" ".join),
).map(lambda parts: "  " * parts[0] + "".join(parts[1:]))  # fmt: skip


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINES, max_size=12).map("\n".join) | st.binary(max_size=80))
@example("listeners: &a {a: *a}")
@example("listeners:\n  a: &x {bind: *x}\n  <<: *x")
def test_any_file_is_loaded_or_refused(write: Callable[[str | bytes], str], content: str | bytes) -> None:
    path = write(content)
    try:
        made = load(path).snapshot
    except ConfigError as error:
        report = str(error)
    else:
        report = f"{path}: {made.drain}"
    assert report.startswith(f"{path}:")


TREES = st.recursive(
    st.sampled_from(VALUES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=15,
)  # fmt: skip


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(WORDS), TREES, max_size=5))
def test_any_tree_is_loaded_or_refused(write: Callable[[str], str], tree: object) -> None:
    import yaml

    path = write(yaml.safe_dump(tree))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert all(mistake.place.line for mistake in caught.value.mistakes)


def test_loading_is_light() -> None:
    code = "import sys, proxy.config; print(*sys.modules)"
    root = Path(__file__).parents[2]
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    heavy = {"jsonschema", "trio", "structlog", "asyncio", "ssl", "socket", "click", "hypothesis", "logging"}
    assert not heavy & set(loaded.split())


def test_the_files_that_a_configuration_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    assert files_of(None) == ()
    assert files_of(str(path)) == (str(path),)
    path.write_text("listeners: [broken: ${file:/run/secrets/a}")
    assert files_of(str(path)) == (str(path), "/run/secrets/a")
    path.write_bytes(b"\xff")
    assert files_of(str(path)) == (str(path),)
