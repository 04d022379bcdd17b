"""Networks, by CIDR or by a well-known name, and the IPv4 addresses that an IPv6 address stands for.

What refuses an address asks `meanings`: the address, and every IPv4 address that dialling it may reach. What allows one
asks `itself`, because anyone can write any IPv4 address into an IPv6 address of a network of their own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple, TypeAlias

Numeric: TypeAlias = tuple[int, int]
"""An address as (4 or 6, number)."""

_BITS = {4: 32, 6: 128}


class BadNetwork(ValueError):
    """A text that is no network; its message says what it should have been."""


class Network(NamedTuple):
    """A CIDR block: ``version`` 4 or 6, the number of its first address, and how many bits lead."""

    version: int
    value: int
    length: int

    def holds(self, address: Numeric) -> bool:
        """Whether ``address`` is in here."""
        version, value = address
        shift = _BITS[self.version] - self.length
        return version == self.version and value >> shift == self.value >> shift

    def covers(self, other: Network) -> bool:
        """Whether all of ``other`` is in here."""
        return self.length <= other.length and self.holds((other.version, other.value))

    def __str__(self) -> str:
        first = self.value.to_bytes(_BITS[self.version] // 8, "big")
        return f"{ipaddress.ip_address(first)}/{self.length}"


def parse_network(text: str) -> Network:
    """``10.0.0.0/8``, ``2001:db8::/32`` or one address; raises `BadNetwork`, also for bits beyond the prefix."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        if "host bits set" in str(error):
            meant = ipaddress.ip_network(text, strict=False)
            raise BadNetwork(f"{text!r} has bits beyond its prefix; write {meant}") from None
        raise BadNetwork(f"{text!r} is not a network; write one like 10.0.0.0/8 or 2001:db8::/32") from None
    return Network(network.version, int(network.network_address), network.prefixlen)


@lru_cache(4096)  # a session asks several times, and clients come again
def numeric(host: str) -> Numeric:
    """The number of a numeric IP; a ``%scope`` is left out. Raises ValueError."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return address.version, int(address)


def itself(host: str) -> Numeric:
    """The address as it is; the IPv4 address where it is IPv4-mapped (RFC 4291, 2.5.5.2). Raises ValueError."""
    version, value = address = numeric(host)
    if version == 6 and value >> 32 == 0xFFFF:
        return 4, value & 0xFFFFFFFF
    return address


def is_within(host: str, networks: Iterable[Network]) -> bool:
    """Whether the numeric ``host`` is in one of them, for what allows or trusts it (`itself`)."""
    address = itself(host)
    return any(network.holds(address) for network in networks)


@lru_cache(4096)
def meanings(host: str) -> tuple[Numeric, ...]:
    """The address itself, and every IPv4 address that dialling it may reach, for what refuses; raises ValueError.

    IPv4-mapped and -compatible (RFC 4291 section 2.5.5), IPv4-translated (RFC 2765), NAT64 (RFC 6052; RFC 8215 with
    every prefix length), 6to4 (RFC 3056), Teredo (RFC 4380: its server, and its client with all bits flipped), ISATAP
    (RFC 5214).
    """
    version, value = address = numeric(host)
    if version == 4:
        return (address,)
    return (address, *((4, number & 0xFFFFFFFF) for number in _embedded(value)))


def _embedded(value: int) -> Iterator[int]:
    top96 = value >> 32
    if top96 in {0xFFFF, 0xFFFF0000, 0x0064FF9B << 64} or (top96 == 0 and value > 1):
        yield value
    elif (
        value >> 80 == 0x0064FF9B0001
    ):  # local use: the operator chose one of these prefix lengths (RFC 6052 2.2)
        yield value  # 96; in the others, bits 64 to 71 are left out
        yield (value >> 64 & 0xFFFF) << 16 | value >> 40 & 0xFFFF  # 48
        yield (value >> 64 & 0xFF) << 24 | value >> 32 & 0xFFFFFF  # 56
        yield value >> 24  # 64
    elif value >> 112 == 0x2002:
        yield value >> 80
    elif value >> 96 == 0x20010000:
        yield value >> 64
        yield ~value
    if top96 & 0xFDFFFFFF == 0x00005EFE:
        yield value


def _named(*texts: str) -> tuple[Network, ...]:
    return tuple(parse_network(text) for text in texts)


NAMED: dict[str, tuple[Network, ...]] = {
    "loopback": _named("127.0.0.0/8", "::1"),
    "private": _named("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10"),
    "shared": _named("100.64.0.0/10"),  # carriers' NAT (RFC 6598)
    "link_local": _named("169.254.0.0/16", "fe80::/10"),
    "unspecified": _named("0.0.0.0/8", "::"),  # Linux dials itself
    "multicast": _named("224.0.0.0/4", "ff00::/8"),
    "broadcast": _named("255.255.255.255"),
    "reserved": _named("240.0.0.0/4", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24",
                       "203.0.113.0/24", "100::/64", "2001:db8::/32"),
    # Where clouds hand credentials to whoever asks from inside: AWS, GCP, Azure and most others; ECS and EKS; AWS, EKS
    # and GCP over IPv6; Azure's own; Alibaba; Oracle.
    "metadata": _named("169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23",
                       "fd20:ce::254", "168.63.129.16", "100.100.100.200", "192.0.0.192"),
}  # fmt: skip
"""What each name stands for."""


class NetworkIndex:
    """Which of many networks hold an address: one look-up for each prefix length in use."""

    __slots__ = ("_tables",)

    def __init__(self) -> None:
        self._tables: dict[int, dict[int, dict[int, list[int]]]] = {4: {}, 6: {}}

    def add(self, network: Network, number: int) -> None:
        """Let ``number`` be found under ``network``."""
        shift = _BITS[network.version] - network.length
        table = self._tables[network.version].setdefault(shift, {})
        table.setdefault(network.value >> shift, []).append(number)

    def find(self, addresses: Iterable[Numeric]) -> Iterator[list[int]]:
        """The numbers of all networks that hold one of ``addresses``, a list for each network."""
        for version, value in addresses:
            for shift, table in self._tables[version].items():
                numbers = table.get(value >> shift)
                if numbers is not None:
                    yield numbers

    def __bool__(self) -> bool:
        return bool(self._tables[4] or self._tables[6])
