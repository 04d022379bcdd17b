"""Links, addresses and routes of the calling thread's namespace, by rtnetlink(7): no program is started for it.

Numbers are those of ``linux/rtnetlink.h``, ``linux/if_link.h`` and ``linux/if_addr.h``.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator

RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE = 16, 20, 24
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400
IFLA_IFNAME, IFLA_MTU, IFLA_TXQLEN, IFLA_LINKINFO, IFLA_NET_NS_FD = 3, 4, 13, 18, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFA_ADDRESS, IFA_LOCAL, IFA_F_NODAD = 1, 2, 0x02
RTA_DST, RTA_OIF, RTA_PREFSRC = 1, 4, 7
TABLE_MAIN, TABLE_LOCAL, PROTOCOL_STATIC = 254, 255, 4
SCOPE_UNIVERSE, SCOPE_LINK, SCOPE_HOST = 0, 253, 254
ROUTE_UNICAST, ROUTE_LOCAL = 1, 2
IFF_UP, IFF_NOARP = 0x1, 0x80

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Rtnetlink:
    """A conversation with the kernel about one namespace: the one the calling thread is in when it opens it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def add_veth(self, name: str, peer: str, *, peer_namespace: int) -> None:
        """A pair of Ethernet devices: one here, its peer in the namespace of that file descriptor."""
        far = _link(0, 0, 0) + _attribute(IFLA_IFNAME, peer.encode() + b"\0")
        far += _attribute(IFLA_NET_NS_FD, struct.pack("=I", peer_namespace))
        kind = _attribute(IFLA_INFO_KIND, b"veth") + _attribute(
            IFLA_INFO_DATA, _attribute(VETH_INFO_PEER, far)
        )
        body = (
            _link(0, 0, 0) + _attribute(IFLA_IFNAME, name.encode() + b"\0") + _attribute(IFLA_LINKINFO, kind)
        )
        self._request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)

    def bring_up(self, name: str, *, mtu: int = 0, queue: int = 0, noarp: bool = False) -> None:
        """Set the link going, with this MTU and transmit queue where given, and without ARP and ND if asked."""
        flags = IFF_UP | (IFF_NOARP if noarp else 0)
        body = _link(socket.if_nametoindex(name), flags, flags)
        if mtu:
            body += _attribute(IFLA_MTU, struct.pack("=I", mtu))
        if queue:
            body += _attribute(IFLA_TXQLEN, struct.pack("=I", queue))
        self._request(RTM_NEWLINK, 0, body)

    def add_address(self, name: str, address: str, prefix: int) -> None:
        """Give the link an address, usable at once (no duplicate address detection)."""
        packed = ipaddress.ip_address(address).packed
        flags = IFA_F_NODAD if len(packed) == 16 else 0
        body = struct.pack(
            "=BBBBI", _family(packed), prefix, flags, SCOPE_UNIVERSE, socket.if_nametoindex(name)
        )
        body += _attribute(IFA_LOCAL, packed) + _attribute(IFA_ADDRESS, packed)
        self._request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body)

    def add_route(self, network: str, link: str, *, source: str | None = None) -> None:
        """Send packets for the network out by the link, from that source address unless the socket says another."""
        self._route(ipaddress.ip_network(network), link, TABLE_MAIN, ROUTE_UNICAST, SCOPE_LINK, source)

    def add_local_network(self, network: str) -> None:
        """Every address of the network is ours (AnyIP): anyone may dial it and a listener may bind it."""
        self._route(ipaddress.ip_network(network), "lo", TABLE_LOCAL, ROUTE_LOCAL, SCOPE_HOST, None)

    def _route(
        self, network: Network, link: str, table: int, kind: int, scope: int, source: str | None
    ) -> None:
        packed = network.network_address.packed
        family = _family(packed)
        scope = scope if family == socket.AF_INET else SCOPE_UNIVERSE
        body = struct.pack(
            "=BBBBBBBBI", family, network.prefixlen, 0, 0, table, PROTOCOL_STATIC, scope, kind, 0
        )
        body += _attribute(RTA_OIF, struct.pack("=I", socket.if_nametoindex(link)))
        if network.prefixlen:
            body += _attribute(RTA_DST, packed)
        if source is not None:
            body += _attribute(RTA_PREFSRC, ipaddress.ip_address(source).packed)
        self._request(RTM_NEWROUTE, NLM_F_CREATE, body)

    def _request(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        header = struct.pack(
            "=IHHII", 16 + len(body), kind, NLM_F_REQUEST | NLM_F_ACK | flags, self._sequence, 0
        )
        self._socket.send(header + body)
        reply = self._socket.recv(65536)
        (code,) = struct.unpack_from("=i", reply, 16)
        if code:
            raise OSError(-code, f"rtnetlink request {kind}: {os.strerror(-code)}")


@contextlib.contextmanager
def rtnetlink() -> Iterator[Rtnetlink]:
    """An open `Rtnetlink` for the calling thread's namespace."""
    connection = Rtnetlink()
    try:
        yield connection
    finally:
        connection.close()


def _link(index: int, flags: int, change: int) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, change)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _family(packed: bytes) -> int:
    return int(socket.AF_INET if len(packed) == 4 else socket.AF_INET6)
