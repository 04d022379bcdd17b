"""Tables of bad files and the exact lines that are said of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import pytest
from msgspec import Meta, Struct

from proxy.config.fill import NOTHING, blank, homes_of_keys, meaning, shape_of
from proxy.config.schema import Config

HEAD = 'listeners: {a: {bind: "127.0.0.1:1", mode: forward, to: "h:1"}}\n'
DURATION = "a duration like 250ms, 5s, 2m or 1h"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("drian: 5s", "2:1: unknown key 'drian' in the file; did you mean 'drain'?"),
        ("Drain: 5s", "2:1: unknown key 'Drain' in the file; did you mean 'drain'?"),
        ("hedge: 5s", "2:1: unknown key 'hedge' in the file; it belongs under clusters.* or defaults"),
        ("first_bytes: 5s", "2:1: unknown key 'first_bytes' in the file; it belongs under listeners.*.timeouts"),
        (
            "colour: red",
            ("2:1: unknown key 'colour' in the file; known keys: "
            "listeners, clusters, defaults, routes, direct, dns, log, limits, login, admin, user, group, state, "
            "tfo_keys, drain, drain_delay, workers"),
        ),
        ("drain: 30", "2:8: drain: '30' has no unit; write 30s, 30ms or 30m"),
        ("drain:", f"2:7: drain: it has no value; write {DURATION}; 0s is allowed"),
        ("drain: [5s]", f"2:8: drain: a list stands where one value belongs; write {DURATION}; 0s is allowed"),
        ("drain: {s: 5}", f"2:8: drain: a mapping stands where one value belongs; write {DURATION}; 0s is allowed"),
        ("log: info", "2:6: log: 'info' is not a mapping; write keys below it (level, format, sessions)"),
        ("log: [level]", "2:6: log: a list is not a mapping; write keys below it (level, format, sessions)"),
        ("clusters: [api]", "2:11: clusters: a list is not a mapping; write a name, a colon, and its keys below it"),
        ("clusters: {c: x}", "2:15: clusters.c: 'x' is not a mapping; write keys below it ("),
        ("log: {sessions: on}", "2:17: log.sessions: 'on' is text in YAML 1.2; write true"),
        ("log: {sessions: No}", "2:17: log.sessions: 'No' is text in YAML 1.2; write false"),
        ("log: {sessions: 1}", "2:17: log.sessions: '1' does not fit; write true or false"),
        ("log: {sessions: 'true'}", "2:17: log.sessions: 'true' does not fit; write true or false"),
        ("log: {format: JSON}", "2:15: log.format: 'JSON' is not a choice; did you mean json? (auto, console or json)"),
        ("log: {format: xml}", "2:15: log.format: 'xml' is not a choice; write auto, console or json"),
        ("defaults: {fast_open: false}", "2:23: defaults.fast_open: 'false' is not a choice; write off"),
        ("defaults: {server_first: true}", "2:26: defaults.server_first: 'true' is not a choice; write yes"),
        ("defaults: {keepalive: false}", "2:23: defaults.keepalive: 'false' is not a choice; write off"),
        ("defaults: {keepalive: {count: 0}}",
         "2:31: defaults.keepalive.count: '0' is out of range; write a whole number from 1 to 127"),
        ("defaults: {keepalive: {count: 1.5}}",
         "2:31: defaults.keepalive.count: '1.5' does not fit; write a whole number from 1 to 127"),
        ("defaults: {keepalive: {count: 5s}}",
         "2:31: defaults.keepalive.count: '5s' does not fit; write a whole number from 1 to 127"),
        ("defaults: {keepalive: [off]}", "2:23: defaults.keepalive: a list stands where one value belongs; write off"),
        ("defaults: {endpoints: h:1}", "2:12: unknown key 'endpoints' in defaults; it belongs under clusters.*"),
        ("tfo_keys: 0011", "2:11: tfo_keys: a key is not 32 hexadecimal digits; `openssl rand -hex 16` makes one"),
        ("state: ''", "2:8: state: '' does not name a file; write a path like /var/lib/tfo-proxy/state.json"),
    ],
)  # fmt: skip
def test_one_mistake(problems: Callable[[str], list[str]], text: str, line: str) -> None:
    first, *others = problems(HEAD + text)
    assert first.startswith(line)
    assert first == line or line.endswith("(")
    assert others == ([] if "c: x" not in text else others)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "listeners: {a: {}}",
            [
                ('1:16: listeners.a has no `bind`; write an address to listen on like 127.0.0.1:8080, "[::1]:8080", '
                '"*:8080" or unix:/run/x.sock, or a list of these'),
                ("1:16: listeners.a has no `mode`; write forward, http, mixed, sni, socks, tproxy, transparent "
                "or tunnel"),
                "1:16: listeners.a has no `to`; write the name of a cluster, or an address like api.example.com:443",
            ],
        ),
        (
            "listeners: {a: {bind: [], mode: forwrd, to: 5}}",
            [
                ('1:23: listeners.a.bind: the list is empty; write an address to listen on like 127.0.0.1:8080, '
                '"[::1]:8080", "*:8080" or unix:/run/x.sock, or a list of these'),
                ("1:33: listeners.a.mode: 'forwrd' is not a choice; did you mean forward? "
                 "(forward, http, mixed, sni, socks, tproxy, transparent or tunnel)"),
                ("1:45: listeners.a.to: '5' is neither a cluster nor an address; there are no clusters, "
                "and an address has a port, like api.example.com:443"),
            ],
        ),
        (
            "listeners: {a: {bind: [x, 1.2.3.4:5, {}], mode: [forward], backlog: 0, to: }}",
            [
                "1:24: listeners.a.bind: 'x' has no port; write host:port",
                ("1:38: listeners.a.bind: a mapping stands where one value belongs; write an address to listen on like "
                '127.0.0.1:8080, "[::1]:8080", "*:8080" or unix:/run/x.sock'),
                ("1:49: listeners.a.mode: a list stands where one value belongs; write "
                 "forward, http, mixed, sni, socks, tproxy, transparent or tunnel"),
                "1:69: listeners.a.backlog: '0' is out of range; write a whole number from 1 to 65535",
                "1:76: listeners.a has no `to`; write the name of a cluster, or an address like api.example.com:443",
            ],
        ),
        (
            "clusters:\n  c: {endpoints: [h, 'i:0']}\nlisteners:\n  a: {bind: '1.2.3.4:5', mode: forward, to: c}\n",
            [
                "2:19: clusters.c.endpoints: 'h' has no port; write host:port",
                "2:22: clusters.c.endpoints: 'i:0': port 0 cannot be dialled",
            ],
        ),
    ],
)  # fmt: skip
def test_several_mistakes_at_once(problems: Callable[[str], list[str]], text: str, lines: list[str]) -> None:
    assert problems(text) == lines


def test_a_value_from_outside_is_never_told(
    report: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    text = report(
        "listeners:\n  a:\n    bind: '${SECRET}'\n    mode: ${SECRET}\n    to: ${SECRET}\n    backlog: ${SECRET}\n"
        "    fast_open: ${SECRET}\n    timeouts: ${SECRET}\n  b: {bind: '*:1', mode: forward, to: '${SECRET}:x'}\n"
        "tfo_keys: ${SECRET}\ndrain: ${SECRET}\nstate: ${SECRET}/\nlog:\n  level: ${SECRET}\n"
    )
    assert "hunter2" not in text
    assert "drain: the value of '${SECRET}' does not fit; write a duration" in text
    assert "listeners.a.to: the value of '${SECRET}' is neither a cluster nor an address" in text
    assert text.count("the value of '${SECRET") == 11


def test_a_secret_in_the_file_is_not_shown_either(report: Callable[[str], str]) -> None:
    text = report(HEAD + "tfo_keys: [0011deadbeef, 22]\n")
    assert "0011deadbeef" not in text
    assert "    tfo_keys: ***\n              ^" in text


def test_an_alias_tells_its_mistake_once(problems: Callable[[str], list[str]]) -> None:
    lines = problems(
        "listeners:\n  a: {bind: '1.2.3.4:1', mode: forward, to: 'h:1', timeouts: &t {idle: 5}}\n"
        "  b: {bind: '1.2.3.4:2', mode: forward, to: 'h:1', timeouts: *t}\n"
    )
    assert lines == ["2:72: listeners.a.timeouts.idle: '5' has no unit; write 5s, 5ms or 5m"]


def test_a_text_of_many_characters_is_refused_before_it_is_parsed(
    problems: Callable[[str], list[str]],
) -> None:
    (line,) = problems(HEAD.replace("h:1", "ü" * 30_000 + ":1"))
    assert line.startswith("1:57: listeners.a.to: 'üüü")
    assert line.endswith("is 30002 characters long; "
                         "write the name of a cluster, or an address like api.example.com:443")  # fmt: skip
    assert len(line) < 300


def test_empty_sections_are_as_if_left_out(loaded: Callable[[str], object]) -> None:
    assert loaded(HEAD + "clusters:\ndefaults:\n  connect:\nlog: ~\nstate:\ntfo_keys: []\n")


def test_where_keys_belong() -> None:
    homes = homes_of_keys(shape_of(Config))
    assert homes["bind"] == ["listeners.*", "admin"]
    assert homes["retries"] == ["clusters.*.connect", "defaults.connect"]
    assert homes["drain"] == ["the top level"]


def test_shapes_without_a_value_of_their_own() -> None:
    class Plain(Struct):
        number: Annotated[int, Meta(ge=1, le=2)]
        section: Config

    number, section = shape_of(Plain).fields
    assert meaning(number.type) == "write a whole number from 1 to 2"
    assert meaning(section.type) == "write keys below it"
    assert blank(number.type) is NOTHING
