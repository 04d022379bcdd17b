from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.config import Loaded
from proxy.core.address import Authority, Endpoint
from proxy.core.destinations import Destinations, named
from proxy.core.routes import RouteQuery

HEAD = """\
listeners: {web: {bind: '127.0.0.1:1', mode: forward, to: api}}
clusters: {api: {endpoints: 'h:1'}}
"""


def test_routes_become_rules(loaded: Callable[[str], Loaded]) -> None:
    snapshot = loaded(
        HEAD
        + "routes:\n"
        + "  - match: {host: [a.com, '*.b.com', '/c[0-9]/'], port: [443, 8000-8001], listener: web}\n"
        + "    to: api\n"
        + "  - match: {network: [loopback, 10.0.0.0/8], client: 192.0.2.1, user: alice, sni: '*.x'}\n"
        + "    refuse: no\n"
        + "  - match: {host: d.com}\n    to: 'D.com:99'\n"
        + "  - to: direct\n"
        + "defaults: {hedge: 1s}\n"
    ).snapshot

    def ask(host: str, port: int, client: str = "", **more: str) -> RouteQuery:
        return RouteQuery(Authority(host, port), client, "web", **more)

    for host, port in (("a.com", 443), ("x.b.com", 8001), ("c1", 8000)):
        assert snapshot.routes.match(ask(host, port)).cluster is snapshot.clusters["api"]
    refused = RouteQuery(Endpoint("10.1.1.1", 80), "192.0.2.1", "web", "alice", "a.x")
    route = snapshot.routes.match(refused)
    assert (route.refusal, route.rule, route.place.endswith(":6:5")) == ("no", 2, True)
    bare = snapshot.routes.match(ask("d.com", 1)).cluster
    assert bare is not None
    assert bare is snapshot.clusters["d.com:99"]
    assert bare.endpoints == (Authority("d.com", 99),)
    assert bare.hedge == 1.0
    last = snapshot.routes.match(ask("e.com", 1))
    assert last.cluster is snapshot.direct
    assert (last.rule, snapshot.direct.hedge, snapshot.direct.endpoints) == (4, 1.0, ())


def test_what_direct_may_dial(loaded: Callable[[str], Loaded]) -> None:
    assert loaded(HEAD).snapshot.destinations == Destinations()
    said = loaded(HEAD + "direct: {deny: [private], allow: 10.0.0.0/8}\n").snapshot.destinations
    assert said.deny == named("private")
    assert said.refusal(Endpoint("10.0.0.1", 1)) is None
    assert loaded(HEAD + "direct: {deny: []}\n").snapshot.destinations == Destinations(())


@pytest.mark.parametrize("empty", ["routes:\n", "routes: []\n"])
def test_no_routes(loaded: Callable[[str], Loaded], empty: str) -> None:
    assert loaded(HEAD + empty).snapshot.routes.rules == ()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("routes: [{match: {host: a}}]", "3:10: routes[1] says neither `to` nor `refuse`; write `to:` and a "),
        ("routes: [{to: api, refuse: x}]", "3:10: routes[1] has both `to` and `refuse`; leave one out"),
        ("routes: [{to: apu}]", "3:15: routes[1].to: 'apu' is neither a cluster nor an address; did you mean 'api'?"),
        ("routes: [{to: 'h:0'}]", "3:15: routes[1].to: 'h:0': port 0 cannot be dialled"),
        ("routes: [{match: {listener: wen}, to: api}]",
         "3:10: routes[1].match.listener: there is no listener 'wen'; did you mean 'web'?"),
        ("routes: [{match: {hosts: a}, to: api}]", "3:19: unknown key 'hosts' in routes.match; did you mean 'host'?"),
        ("routes: [{match: {port: 0}, to: api}]", "3:25: routes.match.port: '0' holds no port"),
        ("routes: [x]", "3:10: routes: 'x' is not a mapping; write keys below it (match, to, refuse)"),
    ],
)  # fmt: skip
def test_mistakes(problems: Callable[[str], list[str]], text: str, line: str) -> None:
    first, *others = problems(HEAD + text)
    assert first.startswith(line)
    assert others == []


def test_a_rule_that_can_never_match(problems: Callable[[str], list[str]]) -> None:
    (line,) = problems(
        HEAD + "routes:\n  - match: {host: '*.a'}\n    to: api\n  - match: {host: x.a}\n    refuse: never\n"
    )
    assert line.startswith("6:5: routes[2] can never match: routes[1], at ")
    assert line.endswith("4:5, takes it all; put it before that one, or leave it out")
