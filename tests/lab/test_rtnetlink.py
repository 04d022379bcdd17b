"""Links, addresses and routes, made without a program and looked at with the kernel's own files."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.lab.namespaces import Namespace
from proxy.lab.rtnetlink import rtnetlink

pytestmark = pytest.mark.netns


@pytest.fixture
def room() -> Iterator[Namespace]:
    """An empty namespace, in which the test runs."""
    namespace = Namespace.create("room")
    with namespace.entered():
        yield namespace
    namespace.close()


def links() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def test_a_pair_of_devices_with_one_end_elsewhere(room: Namespace) -> None:
    elsewhere = Namespace.create("elsewhere")
    with rtnetlink() as netlink:
        netlink.add_veth("near0", "far0", peer_namespace=elsewhere.fd)
        with pytest.raises(OSError, match="exists") as again:
            netlink.add_veth("near0", "far1", peer_namespace=elsewhere.fd)
    assert again.value.errno == errno.EEXIST
    assert "near0" in links()
    assert "far0" not in links()
    assert "far0" in elsewhere.call(links)
    elsewhere.close()


def reached(host: str, port: int) -> socket.socket:
    """A connection; an IPv6 route of a link that came up just now may take the kernel a moment."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection((host, port), timeout=5)
        except OSError as error:
            if error.errno != errno.ENETUNREACH or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("address", "prefix", "network", "inside"),
    [("10.9.0.1", 24, "10.9.9.0/24", "10.9.9.7"), ("fd09::1", 64, "fd09:9::/64", "fd09:9::7")],
)
def test_an_address_is_usable_and_a_whole_network_may_be_ours(
    room: Namespace, address: str, prefix: int, network: str, inside: str
) -> None:
    family, everywhere = (socket.AF_INET6, "::") if ":" in address else (socket.AF_INET, "0.0.0.0")
    with rtnetlink() as netlink:
        netlink.bring_up("lo")
        netlink.add_address("lo", address, prefix)
        netlink.add_local_network(network)
    with socket.create_server((everywhere, 0), family=family) as listener:
        port = listener.getsockname()[1]
        for host in (address, inside):
            with reached(host, port) as client:
                accepted, _ = listener.accept()
                with accepted:
                    assert accepted.getsockname()[0] == client.getpeername()[0] == host


def test_the_mtu_and_a_route_by_the_link(room: Namespace) -> None:
    elsewhere = Namespace.create("elsewhere")
    with rtnetlink() as netlink:
        netlink.add_veth("near0", "far0", peer_namespace=elsewhere.fd)
        netlink.bring_up("near0", mtu=1280, queue=77, noarp=True)
        netlink.add_address("near0", "10.9.0.1", 24)
        netlink.add_route("10.10.0.0/16", "near0", source="10.9.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("10.10.1.1", 9))
        assert probe.getsockname()[0] == "10.9.0.1"
    rows = [line.split() for line in Path("/proc/thread-self/net/route").read_text().splitlines()[1:]]
    assert ("near0", "00000A0A") in {(row[0], row[1]) for row in rows}
    elsewhere.close()


def test_a_link_that_is_not_there(room: Namespace) -> None:
    with rtnetlink() as netlink, pytest.raises(OSError, match=r"interface|No such device"):
        netlink.bring_up("nosuch0")
