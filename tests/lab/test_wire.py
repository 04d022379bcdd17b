from __future__ import annotations

import os
import socket

import pytest

from proxy.lab import wire
from proxy.lab.namespaces import Namespace

pytestmark = pytest.mark.netns


def links() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


@pytest.mark.parametrize("kind", ["veth", pytest.param("tun", marks=pytest.mark.root)])
def test_the_same_device_in_both_namespaces_and_two_descriptors_here(kind: wire.Kind) -> None:
    client, server = Namespace.create("client"), Namespace.create("server")
    strung = wire.string(client, server, kind)
    assert (strung.kind, strung.link) == (kind, wire.LINK)
    for namespace in (client, server):
        assert wire.LINK in namespace.call(links)
    assert all((len(end.hardware_address) == 12) is (kind == "veth") for end in strung.ends)
    strung.close()
    for end in strung.ends:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(end.fd)
    client.close()
    server.close()


def test_a_second_one_does_not_fit() -> None:
    client, server = Namespace.create("client"), Namespace.create("server")
    first = wire.string(client, server, "veth")
    with pytest.raises(OSError, match="exists"):
        wire.string(client, server, "veth")
    first.close()
    client.close()
    server.close()
