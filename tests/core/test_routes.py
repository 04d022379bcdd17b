from __future__ import annotations

import random

import pytest

from proxy.core.address import Authority, Endpoint, parse_target
from proxy.core.clusters import Cluster
from proxy.core.networks import NAMED, parse_network
from proxy.core.patterns import compile_pattern
from proxy.core.routes import Route, RouteQuery, Routes, Rule
from proxy.core.rules import Facts, Names

DIRECT = Cluster("direct", ())
API = Cluster("api", (Endpoint("192.0.2.1", 443),))


def names(*texts: str) -> Names:
    patterns = [text for text in texts if text.startswith("/")]
    suffixes = [text[1:] for text in texts if text.startswith("*.")]
    exact = [text for text in texts if text[0] not in "/*"]
    return Names(frozenset(exact), frozenset(suffixes), tuple(compile_pattern(t[1:-1]) for t in patterns))


def routes(*rules: dict[str, object]) -> Routes:
    """Rules from their conditions; each goes to `api`, or is refused with its ``refuse``."""
    made = []
    for number, said in enumerate(rules, 1):
        refusal = said.pop("refuse", None)
        to = said.pop("to", API)
        route = Route(None if refusal else to, refusal, number)  # type: ignore[arg-type]
        made.append(Rule(route, **said))  # type: ignore[arg-type]
    return Routes(tuple(made), DIRECT)


def ask(target: str | None, client: str = "198.51.100.1", listener: str = "web", **more: str) -> RouteQuery:
    return RouteQuery(parse_target(target) if target else None, client, listener, **more)


def taken(table: Routes, query: RouteQuery) -> int | None:
    return table.match(query).rule


def networks(*texts: str) -> tuple[object, ...]:
    return tuple(one for text in texts for one in (NAMED.get(text) or (parse_network(text),)))


@pytest.mark.parametrize(
    ("condition", "yes", "no"),
    [
        ({"host": names("a.com")}, [ask("a.com:1"), ask("A.COM.:1")], [ask("b.a.com:1"), ask("1.2.3.4:1"), ask(None)]),
        ({"host": names("*.a.com")}, [ask("b.a.com:1"), ask("c.b.a.com:1")], [ask("a.com:1"), ask("ba.com:1")]),
        ({"host": names("/a[0-9]/")}, [ask("a1:1")], [ask("a11:1"), ask("xa1:1")]),
        ({"host": names("192.0.2.7")}, [ask("192.0.2.7:1")], [ask("192.0.2.8:1")]),
        ({"ports": ((443, 443), (8000, 8100))}, [ask("a:443"), ask("a:8000"), ask("a:8100")],
         [ask("a:442"), ask("a:8101"), ask(None)]),
        ({"networks": networks("loopback", "10.0.0.0/8")},
         [ask("127.0.0.1:1"), ask("[::1]:1"), ask("[::ffff:10.0.0.1]:1"), ask("a:1", address="10.2.3.4")],
         [ask("11.0.0.1:1"), ask("a:1", address="11.0.0.1"), ask(None)]),
        ({"clients": networks("10.0.0.0/8")}, [ask("a:1", "10.1.1.1"), ask("a:1", "::ffff:10.1.1.1")],
         [ask("a:1", "11.0.0.1"), ask("a:1", "")]),
        ({"listeners": frozenset({"web", "x"})}, [ask("a:1")], [ask("a:1", listener="ssh")]),
        ({"users": frozenset({"alice"})}, [ask("a:1", user="alice")], [ask("a:1", user="bob"), ask("a:1")]),
        ({"sni": names("*.a.com")}, [ask("1.2.3.4:443", sni="b.a.com")],
         [ask("b.a.com:443"), ask("1.2.3.4:1", sni="a.com")]),
        ({"host": names("a.com"), "ports": ((1, 1),), "users": frozenset({"u"})}, [ask("a.com:1", user="u")],
         [ask("a.com:2", user="u"), ask("a.com:1")]),
    ],
)  # fmt: skip
def test_conditions(condition: dict[str, object], yes: list[RouteQuery], no: list[RouteQuery]) -> None:
    table = routes(condition)
    for query in yes:
        assert table.match(query) == Route(API, None, 1), query
    for query in no:
        assert table.match(query).rule is None, query
        assert table.match(query).cluster is DIRECT


def test_the_first_that_matches_wins() -> None:
    table = routes(
        {"host": names("*.a.com"), "ports": ((443, 443),), "refuse": "no"},
        {"listeners": frozenset({"web"}), "host": names("/x.*/")},
        {"host": names("x.a.com")},
        {"ports": ((1, 65535),), "refuse": "rest"},
        {},
    )
    assert table.match(ask("x.a.com:443")) == Route(None, "no", 1)
    assert taken(table, ask("x.a.com:80")) == 2
    assert taken(table, ask("x.a.com:80", listener="other")) == 3
    assert taken(table, ask("y.a.com:80")) == 4
    assert taken(table, ask(None)) == 5


def test_no_rules_and_no_match_are_direct() -> None:
    assert routes().match(ask("a:1")) == Route(DIRECT)
    assert routes({"host": names("b")}).match(ask("a:1")) == Route(DIRECT)


def test_a_name_is_no_way_around_a_network() -> None:
    table = routes(
        {"host": names("open.a.com")},
        {"networks": networks("private"), "refuse": "private"},
        {"host": names("*.a.com")},
    )
    assert table.match(ask("open.a.com:1")) == Route(API, None, 1)
    early = table.match(ask("x.a.com:1"))
    assert early.needs_address
    assert early.cluster is DIRECT
    assert table.match(ask("x.a.com:1", address="10.0.0.1")).refusal == "private"
    assert taken(table, ask("x.a.com:1", address="192.0.2.1")) == 3
    assert not table.match(ask("x.a.com:1", address="192.0.2.1")).needs_address


def test_a_network_that_cannot_decide_asks_for_no_address() -> None:
    table = routes(
        {"networks": networks("private"), "users": frozenset({"alice"}), "refuse": "no"},
        {"networks": networks("10.0.0.0/8"), "host": names("x"), "refuse": "no"},
    )
    assert table.match(ask("a:1")) == Route(DIRECT)
    assert table.match(ask("x:1")).needs_address
    assert table.match(ask("a:1", user="alice")).needs_address


def random_rule(dice: random.Random) -> dict[str, object]:
    """A rule of a small world, so that rules and queries meet."""
    said: dict[str, object] = {}
    hosts = ["a.x", "b.x", "a.b.x", "*.x", "*.b.x", "/[ab].x/", "10.0.0.1"]
    if dice.random() < 0.4:
        said["host"] = names(*dice.sample(hosts, dice.randint(1, 2)))
    if dice.random() < 0.3:
        said["ports"] = tuple(dice.sample([(1, 1), (2, 3), (1, 100)], dice.randint(1, 2)))
    if dice.random() < 0.3:
        said["networks"] = networks(*dice.sample(["10.0.0.0/8", "10.0.0.1", "::/0", "loopback"], 2))
    if dice.random() < 0.2:
        said["clients"] = networks(*dice.sample(["10.0.0.0/8", "10.0.0.1", "0.0.0.0/0"], 1))
    if dice.random() < 0.2:
        said["listeners"] = frozenset(dice.sample(["web", "ssh"], 1))
    if dice.random() < 0.2:
        said["users"] = frozenset(dice.sample(["alice", "bob"], 1))
    if dice.random() < 0.2:
        said["sni"] = names(dice.choice(hosts[:5]))
    return said


def random_query(dice: random.Random) -> RouteQuery:
    target = dice.choice(["a.x", "b.x", "a.b.x", "c.b.x", "10.0.0.1", "10.0.0.2", "[::1]", "127.0.0.1", None])
    return RouteQuery(
        parse_target(f"{target}:{dice.choice([1, 2, 3, 50])}") if target else None,
        dice.choice(["10.0.0.1", "10.9.9.9", "192.0.2.1", ""]),
        dice.choice(["web", "ssh"]),
        dice.choice([None, "alice", "bob"]),
        dice.choice([None, "a.x", "c.b.x"]),
        dice.choice([None, "10.0.0.1", "::2"]),
    )


def slow_match(table: Routes, query: RouteQuery) -> Route:
    """What the index must agree with."""
    facts = Facts(query)
    for rule in table.rules:
        verdict = rule.match(facts)
        if verdict is None:
            return Route(DIRECT, needs_address=True)
        if verdict:
            return rule.route
    return Route(DIRECT)


@pytest.mark.parametrize("seed", range(30))
def test_the_index_changes_nothing(seed: int) -> None:
    dice = random.Random(seed)
    table = routes(*(random_rule(dice) for _ in range(dice.randint(1, 30))))
    never = {number for number, _ in table.never()}
    for _ in range(100):
        query = random_query(dice)
        route = table.match(query)
        assert route == slow_match(table, query)
        assert route.rule is None or route.rule - 1 not in never


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({}, {"host": names("a")}),
        ({}, {}),
        ({"host": names("*.a.com")}, {"host": names("x.a.com"), "ports": ((1, 1),)}),
        ({"host": names("*.a.com")}, {"host": names("*.x.a.com", "y.a.com")}),
        ({"host": names("/a.*/")}, {"host": names("abc")}),
        ({"host": names("/a.*/")}, {"host": names("/a.*/"), "users": frozenset({"u"})}),
        ({"ports": ((1, 10), (11, 20))}, {"ports": ((5, 15),), "host": names("a")}),
        ({"networks": networks("10.0.0.0/8")}, {"networks": networks("10.1.0.0/16", "10.2.0.0/16")}),
        ({"clients": networks("::/0", "0.0.0.0/0")},
         {"clients": networks("10.0.0.1"), "networks": networks("loopback")}),
        ({"sni": names("*.a")}, {"sni": names("b.a"), "listeners": frozenset({"web"})}),
        ({"listeners": frozenset({"web", "x"})}, {"listeners": frozenset({"web"})}),
    ],
)  # fmt: skip
def test_rules_that_can_never_match(earlier: dict[str, object], later: dict[str, object]) -> None:
    other: dict[str, object] = {"host": names("unrelated")}
    assert list(routes(other, dict(earlier), dict(later)).never()) == [(2, (1,))]


@pytest.mark.parametrize(
    ("earlier", "later", "takers"),
    [
        ([{"host": names("a")}, {"host": names("*.b")}], {"host": names("a", "x.b")}, (0, 1)),
        ([{"ports": ((1, 10),)}, {"host": names("z")}, {"ports": ((5, 30),)}], {"ports": ((2, 20),)}, (0, 2)),
        ([{"ports": ((1, 10),), "host": names("*.a")}, {"ports": ((11, 20),)}],
         {"ports": ((2, 20),), "host": names("b.a")}, (0, 1)),
        ([{"users": frozenset({"u"})}, {"users": frozenset({"v"})}], {"users": frozenset({"u", "v"})}, (0, 1)),
        ([{"networks": networks("10.0.0.0/8")}, {"networks": networks("11.0.0.0/8")}],
         {"networks": networks("10.1.0.0/16", "11.1.0.0/16")}, (0, 1)),
        ([{"host": names("a"), "users": frozenset({"u"})}, {"host": names("b")},
          {"host": names("a"), "users": frozenset({"v"})}],
         {"host": names("a", "b"), "users": frozenset({"u", "v"})}, (0, 1, 2)),
        ([{"host": names("*.a.com")}, {"host": names("/x[0-9]/")}],
         {"host": names("/y.*\\.a\\.com/", "/x[0-9]/")}, (0, 1)),
    ],
)  # fmt: skip
def test_rules_to_which_several_leave_nothing(
    earlier: list[dict[str, object]], later: dict[str, object], takers: tuple[int, ...]
) -> None:
    assert list(routes(*earlier, later).never()) == [(len(earlier), takers)]
    for left_out in takers:
        fewer = [one for number, one in enumerate(earlier) if number != left_out]
        assert not list(routes(*fewer, dict(later)).never())


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({"host": names("a")}, {}),
        ({"host": names("*.a.com")}, {"host": names("a.com")}),
        ({"host": names("*.a.com")}, {"host": names("/x.*/")}),
        ({"ports": ((1, 10),)}, {"ports": ((5, 15),)}),
        ({"networks": networks("10.0.0.0/8")}, {"networks": networks("10.1.0.0/16", "11.0.0.0/8")}),
        ({"host": names("a"), "users": frozenset({"u"})}, {"host": names("a")}),
    ],
)
def test_rules_that_may_match(earlier: dict[str, object], later: dict[str, object]) -> None:
    assert list(routes(dict(earlier), dict(later)).never()) == []


def test_thousands_of_rules_are_not_walked() -> None:
    """What is looked at for one session, counted: time is measured by the benchmarks."""
    many: list[dict[str, object]] = []
    for n in range(500):
        many.extend(
            [
                {"host": names(f"h{n}.com")},
                {"host": names(f"*.s{n}.com"), "ports": ((443, 443),)},
                {"networks": networks(f"10.{n // 256}.{n % 256}.0/24"), "ports": ((25, 25),)},
                {"users": frozenset({f"u{n}"})},
                {"clients": networks(f"172.16.{n // 256}.{n % 256}")},
                {"host": names(f"/api[0-9]+\\.p{n}\\.com/")},
            ]
        )
    table = routes(*many)
    for query, rule in (
        (ask("h499.com:443"), 499 * 6 + 1),
        (ask("a.s499.com:443"), 499 * 6 + 2),
        (ask("10.1.243.9:25"), 499 * 6 + 3),
        (ask("a:1", user="u499"), 499 * 6 + 4),
        (ask("a:1", "172.16.1.243"), 499 * 6 + 5),
        (ask("api77.p499.com:1"), 499 * 6 + 6),
    ):
        looked_at = sum(
            len(numbers) for numbers in table._index.find(Facts(query._replace(address="10.1.243.9")))
        )
        assert looked_at <= 3
        assert table.match(query).rule in {rule, None} or isinstance(query.authority, Authority)
    assert list(table.never()) == []
