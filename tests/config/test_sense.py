from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.config import Loaded

KEY = "0123456789abcdef0123456789abcdef"


def two(one: str, other: str, more: str = "") -> str:
    return (
        f"listeners:\n  a: {{bind: {one}, mode: forward, to: 'h:1'}}\n"
        f"  b: {{bind: {other}, mode: forward, to: 'h:1'}}\n{more}"
    )


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ("'127.0.0.1:80'", "'127.0.0.1:80'", "'127.0.0.1:80' is taken; listener 'a' binds it already"),
        ("'[::1]:80'", "'[0::1]:80'", "'[0::1]:80' is taken; listener 'a' binds it already"),
        ("'*:80'", "'127.0.0.1:80'",
         "'127.0.0.1:80' is taken; listener 'a' binds '*:80', which overlaps, already"),
        ("'127.0.0.1:80'", "'*:80'",
         "'*:80' is taken; listener 'a' binds '127.0.0.1:80', which overlaps, already"),
        ("'*:80'", "'[::1]:80'",
         "'[::1]:80' is taken; listener 'a' binds '*:80', which overlaps, already"),
        ("'*:80'", "'[::]:80'",
         "'[::]:80' is taken; listener 'a' binds '*:80', which overlaps, already"),
        ("'0.0.0.0:80'", "'1.2.3.4:80'",
         "'1.2.3.4:80' is taken; listener 'a' binds '0.0.0.0:80', which overlaps, already"),
        ("'1.2.3.4:80'", "'0.0.0.0:80'",
         "'0.0.0.0:80' is taken; listener 'a' binds '1.2.3.4:80', which overlaps, already"),
        ("'[::]:80'", "'[2001:db8::1]:80'",
         "'[2001:db8::1]:80' is taken; listener 'a' binds '[::]:80', which overlaps, already"),
        ("unix:/run/x", "unix:/run//./x",
         "'unix:/run//./x' is taken; listener 'a' binds 'unix:/run/x', which overlaps, already"),
        ("unix:@x", "unix:@x", "'unix:@x' is taken; listener 'a' binds it already"),
    ],
)  # fmt: skip
def test_two_listeners_on_one_address(
    problems: Callable[[str], list[str]], one: str, other: str, why: str
) -> None:
    assert problems(two(one, other)) == [f"3:13: listeners.b.bind: {why}"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("'127.0.0.1:80'", "'127.0.0.1:81'"),
        ("'127.0.0.1:80'", "'127.0.0.2:80'"),
        ("'127.0.0.1:0'", "'127.0.0.1:0'"),
        ("'*:0'", "'127.0.0.1:0'"),
        ("'0.0.0.0:80'", "'[::1]:80'"),
        ("'0.0.0.0:80'", "'[::]:80'"),
        ("unix:/run/x", "unix:/run/y"),
        ("unix:@x", "unix:@./x"),
        ("['127.0.0.1:80', '[::1]:80']", "['127.0.0.1:81', '[::1]:81']"),
    ],
)
def test_two_listeners_beside_each_other(loaded: Callable[[str], Loaded], one: str, other: str) -> None:
    assert len(loaded(two(one, other)).snapshot.listeners) == 2


def test_one_listener_twice_on_one_address(problems: Callable[[str], list[str]]) -> None:
    assert problems(two("['1.2.3.4:80', '*:80']", "'1.2.3.4:81'")) == [
        "2:28: listeners.a.bind: '*:80' is taken; this listener binds '1.2.3.4:80', which overlaps, already"
    ]


def test_thousands_of_addresses_are_compared_quickly(loaded: Callable[[str], Loaded]) -> None:
    binds = ", ".join(f"127.0.{n // 250}.{n % 250 + 1}:80" for n in range(10_000))
    assert len(loaded(two(f"[{binds}]", "'[::]:80'")).snapshot.listeners[0].binds) == 10_000


@pytest.mark.parametrize("name", ["a b", "ä", "-a", ".a", "a/b", "a:b", "x" * 64, "${HOME}", "", "a\\n"])
@pytest.mark.parametrize("section", ["listeners", "clusters"])
def test_names_are_plain(problems: Callable[[str], list[str]], section: str, name: str) -> None:
    body = {"listeners": "{bind: '1.2.3.4:5', mode: forward, to: 'h:1'}", "clusters": "{endpoints: 'h:1'}"}[
        section
    ]
    lines = problems(f'{section}:\n  "{name}": {body}\n')
    assert lines[-1].startswith(f"2:3: {section}: ")
    assert lines[-1].endswith("is not a name; write up to 63 letters, digits, dots, dashes and underscores")


@pytest.mark.parametrize("name", ["a", "A-1", "9", "on", "a.b_c", "x" * 63])
def test_names_that_are_fine(loaded: Callable[[str], Loaded], name: str) -> None:
    text = f"listeners: {{{name}: {{bind: '1.2.3.4:5', mode: forward, to: {name}}}}}\n"
    text += f"clusters: {{{name}: {{endpoints: 'h:1'}}}}"
    assert loaded(text).snapshot.listeners[0].cluster.name == name


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("clusters: {direct: {endpoints: 'h:1'}}",
         "4:12: clusters: 'direct' already means what the client asked for; choose another name"),
        ("clusters: {c: {endpoints: 'h:1', hedge: 6s}}",
         "4:41: clusters.c.hedge: 6s is not below connect.timeout, which is 5s; the second dial would never start"),
        ("clusters: {c: {endpoints: 'h:1', hedge: 1s, connect: {timeout: 1s}}}",
         "4:41: clusters.c.hedge: 1s is not below connect.timeout, which is 1s; the second dial would never start"),
        ("defaults: {hedge: 6s}\nclusters: {c: {endpoints: 'h:1'}}",
         "4:19: defaults.hedge: 6s is not below connect.timeout, which is 5s; the second dial would never start"),
        ("defaults: {hedge: 3s}\nclusters: {c: {endpoints: 'h:1', connect: {timeout: 2s}}}",
         "4:19: clusters.c.hedge: 3s is not below connect.timeout, which is 2s; the second dial would never start"),
        (f"tfo_keys: [{KEY}, {KEY}, {KEY}]",
         "4:11: tfo_keys: 3 keys, but the kernel holds two; give the newest and the one before"),
        (f"tfo_keys: '{KEY},{KEY}, {KEY}'",
         "4:11: tfo_keys: 3 keys, but the kernel holds two; give the newest and the one before"),
    ],
)  # fmt: skip
def test_what_cannot_work(problems: Callable[[str], list[str]], more: str, line: str) -> None:
    assert problems(two("'1.2.3.4:5'", "'1.2.3.4:6'", more)) == [line]


@pytest.mark.parametrize(
    "text", ["listeners:\n", "drain: 5s\n", "listeners: {}\n", "clusters: {c: {endpoints: 'h:1'}}"]
)
def test_a_file_without_listeners(problems: Callable[[str], list[str]], text: str) -> None:
    assert problems(text) == ["1:1: there are no listeners; write at least one below `listeners:`"]


def test_a_misspelt_section_is_told_only_once(problems: Callable[[str], list[str]]) -> None:
    assert problems("listner: {}") == ["1:1: unknown key 'listner' in the file; did you mean 'listeners'?"]


@pytest.mark.parametrize(
    ("more", "lines"),
    [
        ("clusters: {c: {endpoints: 'h:1'}}",
         ["4:12: warning: cluster 'c' is not used; name it in a `to`, or leave it out"]),
        ("defaults: {fast_open: off, syn_data: 1200}",
         ["4:38: warning: defaults.syn_data: with fast_open: off no SYN carries data; leave it out"]),
        ("defaults: {replay: none, syn_data: 1200}",
         ["4:36: warning: defaults.syn_data: with replay: none no SYN carries data; leave it out"]),
        (f"tfo_keys: [{KEY}, {KEY}]",
         ["4:11: warning: tfo_keys: both keys are the same; one is enough"]),
        (f"tfo_keys: [{KEY}, {'f' * 32}]", []),
    ],
)  # fmt: skip
def test_what_changes_nothing(loaded: Callable[[str], Loaded], more: str, lines: list[str]) -> None:
    found = loaded(two("'1.2.3.4:5'", "'1.2.3.4:6'", more))
    said = [str(warning).partition("\n")[0].replace(f"{found.path}:", "") for warning in found.warnings]
    assert said == lines
    assert not any(KEY in str(warning) for warning in found.warnings)


def test_keys_for_nobody_and_endpoints_listed_twice(loaded: Callable[[str], Loaded]) -> None:
    found = loaded(
        "listeners: {a: {bind: '1.2.3.4:5', mode: forward, to: c, fast_open: false}}\n"
        f"clusters: {{c: {{endpoints: ['h:1', 'H:1', 'h:2']}}}}\ntfo_keys: {KEY}\n"
    )
    assert [warning.problem for warning in found.warnings] == [
        "warning: clusters.c.endpoints: one is listed twice; once is enough",
        "warning: tfo_keys: no listener takes data in SYNs; leave them out",
    ]
