"""No key is accepted and then has no effect: a table of all of them, and what is said where one has none.

A key that is added to the schema fails the first test until it has its line in `EFFECT`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from msgspec import inspect as shapes

from proxy.config import ConfigError, Loaded
from proxy.config.fill import shape_of
from proxy.config.schema import Config

ALL = ["forward", "socks", "http", "mixed", "sni", "transparent", "tproxy", "tunnel"]
ASKING = ["socks", "http", "mixed"]
KEY = "5d1f0c6b3a2e4f8897a6b5c4d3e2f101"

# In which modes each key of a listener has an effect; elsewhere it is a mistake or a warning. And a value for it.
EFFECT: dict[str, tuple[list[str], str]] = {
    "bind": (ALL, ""),
    "mode": (ALL, ""),
    "to": (["forward", "sni"], "'192.0.2.1:1'"),
    "reply": (ASKING, "dialed"),
    "users": (ASKING, "{alice: secret}"),
    "allow": (ALL, "[10.0.0.0/8]"),
    "proxy_protocol": (ALL, "require, trust: [10.0.0.1]"),
    "trust": ([], "[10.0.0.1]"),  # with proxy_protocol only
    "key": (["tunnel"], KEY),
    "window": (["tunnel"], "20s"),
    "tls": (["tunnel"], "{cert: /dev/null, key: /dev/null}"),
    "fast_open": (ALL, "false"),
    "backlog": (ALL, "77"),
    "timeouts": (ALL, "{}"),
    "timeouts.first_bytes": (ALL, "20ms"),
    "timeouts.handshake": (["socks", "http", "mixed", "sni", "tunnel"], "7s"),
    "timeouts.idle": (ALL, "7s"),
    "timeouts.half_closed": (ALL, "7s"),
    "timeouts.lifetime": (ALL, "7s"),
    "limits": (ALL, "{}"),
    "limits.connections": (ALL, "7"),
    "limits.per_client": (ALL, "7"),
    "limits.accept_rate": (ALL, "7/s"),
    "limits.client_rate": (ALL, "7/s"),
    "limits.per_destination": (ALL, "7"),
}

# What each kind of ``via`` (none, socks, http, tunnel) makes of a cluster's key: those for which it has an effect.
VIAS = ["none", "socks", "http", "tunnel"]
OF_CLUSTERS: dict[str, tuple[list[str], str]] = {
    "endpoints": (VIAS, ""),
    "fast_open": (VIAS, "always"),
    "replay": (VIAS, "none"),
    "server_first": (VIAS, "yes"),
    "syn_data": (VIAS, "500"),
    "warm_up": (VIAS, "false"),
    "hedge": (VIAS, "70ms"),
    "preconnect": (["none", "socks", "http"], "3"),
    "connect": (VIAS, "{timeout: 3s, retries: 1}"),
    "keepalive": (VIAS, "off"),
    "proxy_protocol": (VIAS, "v2"),
    "balance": (VIAS, "random"),  # of a gateway's addresses, where it has several
    "eject": (VIAS, "{after: 5}"),
    "health": (VIAS, "{every: 5s}"),
    "source": (VIAS, "{mark: 7}"),
    "via": (VIAS, ""),
}


def keys(shape: shapes.Type, path: str = "", depth: int = 2) -> Iterator[str]:
    """The keys of a section, and of those below it."""
    match shape:
        case shapes.Metadata():
            yield from keys(shape.type, path, depth)
        case shapes.UnionType():
            for one in shape.types:
                yield from keys(one, path, depth)
        case shapes.StructType():
            for key in shape.fields:
                name = f"{path}.{key.name}" if path else key.name
                yield name
                if depth > 1 and name in {"timeouts", "limits"}:
                    yield from keys(key.type, name, depth - 1)
        case _:
            pass


def section(name: str) -> shapes.Type:
    config = shape_of(Config)
    assert isinstance(config, shapes.StructType)
    found = next(key.type for key in config.fields if key.name == name)
    inner = found.type if isinstance(found, shapes.Metadata) else found
    assert isinstance(inner, shapes.DictType)
    return inner.value_type


def test_every_key_has_its_line() -> None:
    assert set(keys(section("listeners"))) == set(EFFECT)
    assert set(keys(section("clusters"))) == set(OF_CLUSTERS)
    config = shape_of(Config)
    assert isinstance(config, shapes.StructType)
    known = (
        "listeners clusters defaults routes direct dns log limits login admin user group state tfo_keys drain"
    )
    assert {key.name for key in config.fields} == {*known.split(), "drain_delay", "workers"}


@pytest.fixture
def told(loaded: Callable[[str], Loaded]) -> Callable[[str], list[str]]:
    """What is said of a file, mistakes and warnings, each with its place."""

    def say(text: str) -> list[str]:
        try:
            return [str(one) for one in loaded(text).warnings]
        except ConfigError as error:
            return [str(one) for one in error.mistakes]

    return say


def listener(mode: str, key: str, value: str) -> str:
    """A file with one listener of this mode, and the key."""
    base = {"bind": "'127.0.0.1:1'", "mode": mode}
    if mode == "forward":
        base["to"] = "'192.0.2.9:9'"
    if mode == "tunnel":
        base["key"] = KEY
    outer, _, inner = key.partition(".")
    base[outer] = f"{{{inner}: {value}}}" if inner else value
    return "listeners: {a: {" + ", ".join(f"{one}: {text}" for one, text in base.items()) + "}}\n"


@pytest.mark.parametrize("mode", ALL)
def test_a_key_of_a_listener_has_an_effect_or_is_told_with_its_place(
    told: Callable[[str], list[str]], mode: str
) -> None:
    for key, (modes, value) in EFFECT.items():
        if not value:
            continue
        said = told(listener(mode, key, value))
        about = [line for line in said if f"listeners.a.{key}" in line]
        assert bool(about) is (mode not in modes), (key, said)
        assert mode not in modes or not said, (key, said)


@pytest.mark.parametrize("via", VIAS)
def test_a_key_of_a_cluster_has_an_effect_or_is_told_with_its_place(
    told: Callable[[str], list[str]], via: str
) -> None:
    gateway = {"none": "", "tunnel": f", via: {{tunnel: 'h:1', key: {KEY}}}"}.get(
        via, f", via: {{{via}: 'h:1'}}"
    )
    for key, (vias, value) in OF_CLUSTERS.items():
        if not value:
            continue
        text = f"clusters: {{c: {{endpoints: '192.0.2.1:1', {key}: {value}{gateway}}}}}\n"
        said = told("listeners: {a: {bind: '127.0.0.1:1', mode: forward, to: c}}\n" + text)
        assert bool([line for line in said if f"clusters.c.{key}" in line]) is (via not in vias), (key, said)


SNI = "listeners: {a: {bind: '127.0.0.1:1', mode: sni}}\n"
MIXED = "listeners: {a: {bind: '127.0.0.1:1', mode: mixed, users: {alice: x}}}\n"
REDIRECTED = "listeners: {a: {bind: '127.0.0.1:1', mode: transparent}}\n"
FORWARD = "listeners: {a: {bind: '127.0.0.1:1', mode: forward, to: 'h:1'}}\n"
TO_C = FORWARD.replace("'h:1'", "c")
BOTH = "listeners: {a: {bind: '127.0.0.1:1', mode: sni}, b: {bind: '127.0.0.1:2', mode: http}}\n"
UNIX = "listeners: {a: {bind: 'unix:/run/x', mode: mixed, "


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (MIXED + "routes: [{match: {sni: x.test}, refuse: no}]", "2:10: warning: routes[1] can never match: "),
        (BOTH + "routes: [{match: {sni: x.test, listener: b}, refuse: no}]", "none of its listeners is"),
        (BOTH + "routes: [{match: {sni: x.test}, refuse: no}]", ""),
        (MIXED + "routes: [{match: {user: bob}, refuse: no}]", "none of its listeners has a user 'bob'"),
        (MIXED + "routes: [{match: {user: [bob, alice]}, refuse: no}]", ""),
        (SNI + "routes: [{match: {user: alice}, refuse: no}]", "none of its listeners has a user 'alice'"),
        (REDIRECTED + "routes: [{match: {host: '*.test'}, refuse: no}]", "know addresses only, and no name like"),
        (REDIRECTED + "routes: [{match: {host: ['*.test', 192.0.2.1]}, refuse: no}]", ""),
        (FORWARD + "routes: [{match: {port: 1}, refuse: no}]", "2:9: warning: routes: in mode forward all sessions go"),
        (FORWARD + "direct: {deny: [private]}", "direct: in mode forward all sessions go"),
        (SNI + "direct: {deny: [private]}", ""),
        (SNI + "login: {attempts: 5}", "2:8: warning: login: no listener has users"),
        (MIXED + "login: {attempts: 5}", ""),
        (UNIX + "allow: [10.0.0.0/8]}}", "listeners.a.allow: clients of a unix socket have no address"),
        (UNIX + "fast_open: true}}", "listeners.a.fast_open: a unix socket has no SYN"),
        (UNIX + "limits: {per_client: 7}}}", "listeners.a.limits.per_client: clients of a unix socket"),
        (UNIX + "proxy_protocol: require, allow: [10.0.0.0/8], limits: {per_client: 7}}}", ""),
        (TO_C + "clusters: {c: {endpoints: 'h:1', fast_open: off, hedge: 1s}}", "c.hedge: with"),
        (TO_C + "clusters: {c: {endpoints: 'unix:/run/y', preconnect: 2}}", "c.preconnect: a unix"),
        (TO_C + "clusters: {c: {endpoints: 'h:1', fast_open: off}}\ndefaults: {hedge: 1s}", ""),
        (TO_C + f"clusters: {{c: {{endpoints: 'h:1', via: {{tunnel: 'g:1', key: {KEY}}}}}}}\n"
         "defaults: {preconnect: 2}", "3:24: clusters.c.preconnect: a tunnel has no spare connections"),
    ],
)  # fmt: skip
def test_what_can_have_no_effect(told: Callable[[str], list[str]], text: str, says: str) -> None:
    said = "\n".join(told(text))
    assert says in said
    assert bool(said) is bool(says), said
