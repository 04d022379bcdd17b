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


def asking(name: str, keys: str) -> str:
    return f"listeners: {{{name}: {{{keys}}}}}\n"


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("bind: '*:80', mode: mixed",
         ("a.bind: *:80 is open to others, and they name where the proxy goes; say who may connect "
         "(`allow: [10.0.0.0/8]`) or `users`")),
        ("bind: ['127.0.0.1:80', '10.0.0.1:80'], mode: socks",
         ("a.bind: 10.0.0.1:80 is open to others, and they name where the proxy goes; say who may connect "
         "(`allow: [10.0.0.0/8]`) or `users`")),
        ("bind: '*:80', mode: transparent",
         ("a.bind: *:80 is open to others, and they name where the proxy goes; say who may connect "
         "(`allow: [10.0.0.0/8]`)")),
        ("bind: '127.0.0.1:80', mode: sni, users: {b: c}",
         "a.users: mode sni asks nobody who he is; leave them out, or write `allow`"),
        ("bind: '127.0.0.1:80', mode: socks, to: 'h:1'",
         "a.to: in mode socks the client says where to; write `routes`, or leave it out"),
        ("bind: '127.0.0.1:80', mode: forward, to: 'h:1', proxy_protocol: accept",
         "a.proxy_protocol: say whose headers are believed (`trust: [10.0.0.5]`)"),
        ("bind: '127.0.0.1:80', mode: socks, allow: []", "a.allow: it is empty; say who, or leave it out"),
        ("bind: '127.0.0.1:80', mode: socks, users: {}", "a.users: it is empty; say who, or leave it out"),
        ("bind: '127.0.0.1:80', mode: socks, allow: [10.0.0.1/8]",
         "a.allow: '10.0.0.1/8' has bits beyond its prefix; write 10.0.0.0/8"),
        ("bind: '127.0.0.1:80', mode: socks, users: {b: $$scrypt$$x}",
         "a.users.b: it begins like a scrypt hash; write $scrypt$ln=14,r=8,p=1$salt$hash"),
    ],
)  # fmt: skip
def test_who_may_come_in(problems: Callable[[str], list[str]], keys: str, problem: str) -> None:
    (line,) = problems(asking("a", keys))
    assert line.partition("listeners.")[2] == problem


@pytest.mark.parametrize(
    "keys",
    [
        "bind: ['127.0.0.1:80', '[::1]:80', 'unix:/x'], mode: mixed",
        "bind: '*:80', mode: mixed, allow: [private, 2001:db8::/32]",
        "bind: '*:80', mode: http, users: {b: c}",
        "bind: '*:80', mode: tproxy, allow: [0.0.0.0/0, '::/0']",
        "bind: '*:80', mode: forward, to: 'h:1'",
        "bind: unix:/x, mode: forward, to: 'h:1', proxy_protocol: require",
        "bind: '*:443', mode: sni, to: 'h:1', allow: [private], proxy_protocol: accept, trust: [10.0.0.1]",
    ],
)
def test_who_is_let_in(loaded: Callable[[str], Loaded], keys: str) -> None:
    assert not loaded(asking("a", keys)).warnings


@pytest.mark.parametrize(
    ("keys", "warning"),
    [
        ("mode: socks, trust: [loopback]", "without proxy_protocol nobody's header is read; leave it out"),
        ("mode: forward, to: 'h:1', reply: dialed", "mode forward has no reply; leave it out"),
    ],
)
def test_what_changes_nothing_for_a_client(loaded: Callable[[str], Loaded], keys: str, warning: str) -> None:
    (found,) = loaded(asking("a", f"bind: '127.0.0.1:80', {keys}")).warnings
    assert warning in str(found)


def test_a_gateway_cannot_be_asked_for_an_srv_record(problems: Callable[[str], list[str]]) -> None:
    (line,) = problems(
        "listeners: {a: {bind: '127.0.0.1:1', mode: forward, to: c}}\n"
        "clusters: {c: {endpoints: ['srv:_a._tcp.b', 'h:1'], via: {socks: 'g:1080'}}}\n"
    )
    assert "clusters.c.endpoints: a gateway cannot be asked for srv:_a._tcp.b;" in line
