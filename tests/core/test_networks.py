from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.address import Endpoint
from proxy.core.clusters import Cluster
from proxy.core.destinations import Ban, Destinations
from proxy.core.networks import NAMED, BadNetwork, Network, NetworkIndex, is_within, meanings, parse_network
from proxy.core.request import target_of
from proxy.core.routes import Route, RouteQuery, Routes, Rule

V4 = st.ip_addresses(v=4)
V6 = st.ip_addresses(v=6)


def v4(text: str) -> tuple[int, int]:
    return 4, int(ipaddress.IPv4Address(text))


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("192.0.2.1", []),
        ("2001:db8::1", []),
        ("::1", []),
        ("::", []),
        ("::ffff:10.0.0.1", ["10.0.0.1"]),
        ("::10.0.0.1", ["10.0.0.1"]),
        ("::ffff:0:10.0.0.1", ["10.0.0.1"]),
        ("64:ff9b::127.0.0.1", ["127.0.0.1"]),
        ("64:ff9b:1::127.0.0.1", ["127.0.0.1"]),
        ("64:ff9b:1:7f00:0:100::", ["127.0.0.1"]),
        ("2002:7f00:1::5", ["127.0.0.1"]),
        ("2001:0:102:304:0:ffff:80ff:fffe", ["1.2.3.4", "127.0.0.1"]),
        ("fe80::5efe:127.0.0.1", ["127.0.0.1"]),
        ("2001:db8::200:5efe:10.0.0.1", ["10.0.0.1"]),
        ("fe80::1%eth0", []),
    ],
)
def test_what_an_address_reaches(host: str, reached: list[str]) -> None:
    bare = ipaddress.ip_address(host.partition("%")[0])
    own, *others = meanings(host)
    assert own == (bare.version, int(bare))
    assert set(map(v4, reached)) <= set(others)
    assert bool(others) is bool(reached)


def spellings(inner: ipaddress.IPv4Address, rest: int) -> dict[str, str]:
    """IPv6 addresses with ``inner`` inside, by the RFCs' pictures; ``rest`` fills what they leave open."""
    four, low64, suffix = inner.packed, rest.to_bytes(16, "big")[8:], rest.to_bytes(16, "big")
    local = ipaddress.IPv6Address("64:ff9b:1::").packed
    prefix = b"\x20\x01\x0d\xb8" + suffix[:4]
    packed = {
        "mapped": bytes(10) + b"\xff\xff" + four,
        "compatible": bytes(12) + four,
        "translated": bytes(8) + b"\xff\xff\0\0" + four,
        "NAT64": ipaddress.IPv6Address("64:ff9b::").packed[:12] + four,
        "NAT64 local, 96": local[:6] + suffix[:2] + b"\0" + suffix[2:5] + four,
        "NAT64 local, 48": local[:6] + four[:2] + b"\0" + four[2:] + suffix[:5],
        "NAT64 local, 56": local[:6] + suffix[:1] + four[:1] + b"\0" + four[1:] + suffix[1:5],
        "NAT64 local, 64": local[:6] + suffix[:2] + b"\0" + four + suffix[2:5],
        "6to4": b"\x20\x02" + four + suffix[:10],
        "Teredo client": b"\x20\x01\0\0" + suffix[:8] + bytes(255 - byte for byte in four),
        "Teredo server": b"\x20\x01\0\0" + four + low64,
        "ISATAP": prefix + b"\0\0\x5e\xfe" + four,
        "ISATAP, global": prefix + b"\2\0\x5e\xfe" + four,
        "ISATAP, link-local": b"\xfe\x80" + bytes(6) + b"\0\0\x5e\xfe" + four,
    }
    return {name: str(ipaddress.IPv6Address(one)) for name, one in packed.items()}


@settings(max_examples=60)
@given(V4, st.integers(0, 2**128 - 1))
def test_ipv4_inside_ipv6_counts_for_refusals_only(inner: ipaddress.IPv4Address, rest: int) -> None:
    """Whoever owns an IPv6 network can write any IPv4 address into an address of it: that opens no door."""
    network = parse_network(str(inner))
    cluster = Cluster("c", (Endpoint("198.51.100.1", 1),))
    ways = Route(None, "no", 1), Route(cluster, None, 1)
    everything = Ban("all", (parse_network("::/0"), parse_network("0.0.0.0/0")))
    deny, allow = Destinations((Ban("x", (network,)),)), Destinations((everything,), (Ban("x", (network,)),))
    for name, host in spellings(inner, rest).items():
        if name == "compatible" and int(inner) < 2:
            continue  # :: and ::1 are themselves
        may = name == "mapped"
        target = target_of(host, 80)
        assert isinstance(target, Endpoint)
        assert deny.refusal(target) == "x", name
        assert deny.refusal(Endpoint(host, 80)) == "x", name
        assert (allow.refusal(Endpoint(host, 80)) is None) == may, name
        assert is_within(host, (network,)) == may, name
        for route in ways:
            for rule in (Rule(route, networks=(network,)), Rule(route, clients=(network,))):
                table = Routes((rule,), Cluster("direct", ()))
                asked = target if rule.networks else Endpoint("203.0.113.9", 1)
                found = table.match(RouteQuery(asked, host if rule.clients else "203.0.113.9", "web"))
                assert (found.rule == 1) == (may or route.refusal is not None), (name, rule)


def test_a_rule_that_leads_somewhere_leaves_a_refusal_behind_it_something() -> None:
    network = parse_network("10.0.0.0/8")
    leads, refuses = Route(Cluster("c", (Endpoint("198.51.100.1", 1),)), None, 1), Route(None, "no", 2)
    for first, second, dead in (
        (leads, refuses, 0),
        (refuses, leads, 1),
        (leads, leads, 1),
        (refuses, refuses, 1),
    ):
        rules = Rule(first, networks=(network,)), Rule(second, networks=(network,))
        assert len(list(Routes(rules, Cluster("direct", ())).never())) == dead


@pytest.mark.parametrize("text", ["10.0.0.0/8", "2001:db8::/32", "0.0.0.0/0", "::/0", "192.0.2.1", "::1"])
def test_networks_read_back(text: str) -> None:
    assert str(parse_network(text)) == str(ipaddress.ip_network(text))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("10.0.0.1/8", "write 10.0.0.0/8"),
        ("10.0.0.0/33", "not a network"),
        ("example.com", "not a network"),
        ("", "not a network"),
        ("127.1", "not a network"),
    ],
)
def test_bad_networks(text: str, says: str) -> None:
    with pytest.raises(BadNetwork, match=says):
        parse_network(text)


@given(st.one_of(V4, V6), st.one_of(V4, V6), st.integers(0, 128))
@settings(max_examples=50)
def test_holding_and_covering_as_the_standard_library(a: object, b: object, length: int) -> None:
    first, second = ipaddress.ip_address(str(a)), ipaddress.ip_address(str(b))
    network = ipaddress.ip_network(f"{first}/{min(length, first.max_prefixlen)}", strict=False)
    ours = parse_network(str(network))
    assert ours.holds((second.version, int(second))) is (second in network)
    single = ipaddress.ip_network(str(second))
    same = network.version == single.version
    assert ours.covers(parse_network(str(single))) is (same and single.subnet_of(network))  # type: ignore[arg-type]


def test_the_index_finds_what_holds_an_address() -> None:
    networks = [
        parse_network(text) for text in ("10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "10.0.0.0/8", "::/0")
    ]
    index = NetworkIndex()
    for number, network in enumerate(networks):
        index.add(network, number)
    found = sorted(number for numbers in index.find(meanings("10.1.2.3")) for number in numbers)
    assert found == [0, 1, 2, 3]
    assert [list(numbers) for numbers in index.find(meanings("2001:db8::1"))] == [[4]]
    assert bool(index)
    assert not NetworkIndex()


def test_is_within() -> None:
    assert is_within("::ffff:10.0.0.1", [parse_network("10.0.0.0/8")])
    assert not is_within("11.0.0.1", [parse_network("10.0.0.0/8")])


def test_names_are_networks() -> None:
    assert all(isinstance(network, Network) for networks in NAMED.values() for network in networks)
    assert {"loopback", "private", "link_local", "unspecified", "multicast", "metadata"} <= NAMED.keys()
