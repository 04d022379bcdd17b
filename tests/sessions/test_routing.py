"""The way of a request, with the real resolver and the names of this machine."""

from __future__ import annotations

import pytest

from proxy.core.address import Authority, Endpoint
from proxy.core.clusters import Cluster
from proxy.core.destinations import Destinations, named
from proxy.core.networks import NAMED
from proxy.core.routes import Route, RouteQuery, Routes, Rule
from proxy.net.resolve import NoSuchHost, Resolver
from proxy.sessions.pools import Pools
from proxy.sessions.routing import Refused, Routing

DIRECT = Cluster("direct", ())
API = Cluster("api", (Endpoint("192.0.2.1", 443),))
LOCAL = Authority("localhost", 80)


def routing(*rules: Rule, deny: tuple[str, ...] = ()) -> Routing:
    return Routing(Routes(rules, DIRECT), Destinations(named(*deny)), Pools(Resolver()))


def ask(authority: Authority | Endpoint | None) -> RouteQuery:
    return RouteQuery(authority, "198.51.100.1", "web")


async def test_a_cluster_is_dialled_where_it_says() -> None:
    way = await routing(Rule(Route(API, None, 1))).way(ask(LOCAL))
    assert (way.cluster, way.candidates) == (API, (Endpoint("192.0.2.1", 443),))


async def test_direct_dials_what_was_asked_for() -> None:
    way = await routing().way(ask(Endpoint("192.0.2.9", 25)))
    assert (way.cluster, way.candidates) == (DIRECT, [Endpoint("192.0.2.9", 25)])
    assert Endpoint("127.0.0.1", 80) in (await routing().way(ask(LOCAL))).candidates


@pytest.mark.parametrize("authority", [LOCAL, Endpoint("127.0.0.1", 80), Endpoint("::ffff:127.0.0.1", 80)])
async def test_what_is_denied_is_denied_after_dns(authority: Authority | Endpoint) -> None:
    with pytest.raises(Refused, match=r"is loopback, which direct.deny forbids"):
        await routing(deny=("loopback",)).way(ask(authority))


async def test_a_rule_for_a_network_holds_for_names() -> None:
    refuse = Rule(Route(None, "no", 1, "f:1:1"), networks=NAMED["loopback"])
    with pytest.raises(Refused, match=r"no \(rule 1, f:1:1\)") as caught:
        await routing(refuse).way(ask(LOCAL))
    assert caught.value.route == refuse.route
    sent = Rule(Route(API, None, 1), networks=NAMED["loopback"])
    assert (await routing(sent).way(ask(LOCAL))).cluster is API
    only = Rule(Route(DIRECT, None, 1), networks=NAMED["loopback"])
    rest = Rule(Route(None, "nothing else", 2))
    assert (await routing(only, rest).way(ask(LOCAL))).route.rule == 1
    with pytest.raises(Refused, match="nothing else"):
        await routing(only, rest).way(ask(Endpoint("192.0.2.1", 1)))


async def test_no_destination_at_all() -> None:
    with pytest.raises(Refused, match="named no destination"):
        await routing().way(ask(None))


async def test_names_without_an_address() -> None:
    with pytest.raises(NoSuchHost):
        await routing().way(ask(Authority("nowhere.invalid", 80)))


async def test_what_can_be_told_at_once_is_the_same() -> None:
    at_once = routing(Rule(Route(API, None, 1), networks=NAMED["loopback"]))
    query = ask(LOCAL)
    assert at_once.way_now(query) is None, "the name was not looked up yet"
    way = await at_once.way(query)
    assert at_once.way_now(query) == way
    for other in (ask(Endpoint("192.0.2.9", 25)), ask(Endpoint("127.0.0.1", 25))):
        assert at_once.way_now(other) == await at_once.way(other)
    with pytest.raises(Refused, match="named no destination"):
        at_once.way_now(ask(None))
    with pytest.raises(Refused, match=r"is loopback, which direct.deny forbids"):
        routing(deny=("loopback",)).way_now(ask(Endpoint("127.0.0.1", 80)))


async def test_addresses_of_this_machine_are_denied_by_a_name_of_their_own() -> None:
    addresses = ["127.0.0.1", "::1", "0.0.0.0", "::ffff:127.9.9.9", "64:ff9b::7f00:1"]
    for host in addresses:
        with pytest.raises(
            Refused, match=r"an address of this machine, .*`direct: \{allow: \[.*\]\}` would"
        ) as caught:
            await routing(deny=("own",)).way(ask(Endpoint(host, 80)))
        assert host in str(caught.value)
    assert (await routing(deny=("own",)).way(ask(Endpoint("192.0.2.1", 80)))).cluster is DIRECT
    excepted = Destinations(named("own"), named("loopback"))
    way = await Routing(Routes((), DIRECT), excepted, Pools(Resolver())).way(ask(Endpoint("127.0.0.1", 80)))
    assert way.cluster is DIRECT
