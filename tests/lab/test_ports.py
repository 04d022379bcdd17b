from __future__ import annotations

import os
import socket
import time

import pytest

from proxy.lab import wire
from proxy.lab.namespaces import Namespace
from proxy.lab.packets import decode
from proxy.lab.ports import PacketPort, Port, TunPort, is_unicast, open_port
from proxy.lab.rewrite import with_addresses
from proxy.lab.rtnetlink import rtnetlink
from tests.lab.segments import segment


@pytest.mark.parametrize(
    ("version", "address", "unicast"),
    [
        (4, "10.77.2.1", True),
        (4, "224.0.0.22", False),
        (4, "255.255.255.255", False),
        (6, "fd77:2::1", True),
        (6, "ff02::1", False),
    ],
)
def test_chatter_is_none_of_our_business(version: int, address: str, unicast: bool) -> None:
    assert is_unicast(with_addresses(segment(version), dst=address).raw) is unicast


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff" * 40])
def test_what_is_no_ip_packet_is_not_either(data: bytes) -> None:
    assert not is_unicast(data)


def test_a_description_that_is_none() -> None:
    with pytest.raises(ValueError, match="no such end"):
        open_port("tun", {"fd": "3", "interface": "", "hardware_address": ""})


def address_of(host: str) -> None:
    with rtnetlink() as netlink:
        netlink.bring_up(wire.LINK, noarp=True)
        netlink.add_address(wire.LINK, host, 24)


def next_to(port: Port, host: str) -> bytes:
    """The next packet for that host; the devices' own chatter is passed over."""
    for _ in range(20_000):
        data = port.read()
        packet = decode(data) if data else None
        if packet is not None and packet.dst == host:
            return packet.raw
        time.sleep(0.001)
    raise TimeoutError(host)


@pytest.mark.netns
@pytest.mark.parametrize(
    ("kind", "made"), [("veth", PacketPort), pytest.param("tun", TunPort, marks=pytest.mark.root)]
)
def test_what_leaves_one_namespace_is_handed_to_the_other(kind: wire.Kind, made: type[Port]) -> None:
    client, server = Namespace.create("client"), Namespace.create("server")
    ends = wire.string(client, server, kind).ends
    up, down = (
        open_port(kind, {"fd": end.fd, "interface": end.interface, "hardware_address": end.hardware_address})
        for end in ends
    )
    assert type(up) is type(down) is made
    client.call(address_of, "10.9.0.1")
    server.call(address_of, "10.9.0.2")
    with client.socket(kind=socket.SOCK_DGRAM) as ours, server.socket(kind=socket.SOCK_DGRAM) as theirs:
        theirs.bind(("10.9.0.2", 9))
        theirs.settimeout(30)
        ours.sendto(b"ping", ("10.9.0.2", 9))
        down.write(next_to(up, "10.9.0.2"))
        data, peer = theirs.recvfrom(100)
        assert (data, peer[0]) == (b"ping", "10.9.0.1")
        theirs.sendto(b"pong", peer)
        up.write(next_to(down, "10.9.0.1"))
        ours.settimeout(30)
        assert ours.recv(100) == b"pong"
    for port in (up, down):
        if isinstance(port, PacketPort):
            port._socket.close()
        else:
            os.close(port.fileno())
    client.close()
    server.close()
