"""What the loopback capture says is what happened there, and when."""

from __future__ import annotations

import socket
import time

import pytest

from proxy.lab.loopback import Loopback
from proxy.lab.namespaces import Namespace
from proxy.lab.rtnetlink import rtnetlink

pytestmark = pytest.mark.netns


def test_a_conversation_is_heard_once_in_order_and_in_time() -> None:
    namespace = Namespace.create()
    with namespace.entered(), rtnetlink() as netlink:
        netlink.bring_up("lo")
    with (
        Loopback(namespace) as loopback,
        namespace.entered(),
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        assert loopback.take() == []
        before = time.monotonic()
        with socket.create_connection(listener.getsockname(), timeout=30) as client:
            accepted, _ = listener.accept()
            client.sendall(b"hello")
            assert accepted.recv(5) == b"hello"
            accepted.close()
        after = time.monotonic()
        heard = loopback.take()
        assert loopback.take() == []
    port = listener_port = next(one.packet.dport for one in heard)
    assert [one.packet.is_syn for one in heard].count(True) == 1
    assert [one.packet.is_syn_ack for one in heard].count(True) == 1
    assert heard[0].packet.is_syn
    assert heard[0].packet.dport == port
    assert heard[1].packet.is_syn_ack
    assert heard[1].packet.sport == listener_port
    assert [one.packet.payload for one in heard if one.packet.payload] == [b"hello"]
    assert [one.at for one in heard] == sorted(one.at for one in heard)
    assert before - 0.005 < heard[0].at < heard[-1].at < after + 0.005
    namespace.close()


def test_where_there_is_no_loopback_it_says_so() -> None:
    namespace = Namespace.create()
    with Loopback(namespace) as loopback, pytest.raises(OSError, match="Network is down"):
        loopback.take()  # the device exists, and nobody has switched it on
    namespace.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        Loopback(namespace)
