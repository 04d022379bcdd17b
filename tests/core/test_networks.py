from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.networks import NAMED, BadNetwork, Network, NetworkIndex, is_within, meanings, parse_network

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


@given(V4)
@settings(max_examples=50)
def test_every_ipv4_address_is_seen_through_ipv6(address: ipaddress.IPv4Address) -> None:
    plain = (4, int(address))
    for written in (f"::ffff:{address}", f"64:ff9b::{address}", f"fe80::5efe:{address}"):
        assert plain in meanings(written)
    assert plain in meanings(str(ipaddress.IPv6Address(0x2002 << 112 | int(address) << 80)))


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
