from __future__ import annotations

import errno
import socket
import struct
from contextlib import suppress

import pytest

from proxy.core.address import Endpoint
from proxy.core.snapshot import Keepalive
from proxy.lab.clients import MSG_FASTOPEN, ask
from proxy.lab.wan import Wan
from proxy.net import sockopt
from tests.net.pairs import pair, reset


@pytest.mark.parametrize(
    ("endpoint", "family"),
    [
        (Endpoint("192.0.2.1", 80), socket.AF_INET),
        (Endpoint("2001:db8::1", 80), socket.AF_INET6),
        (Endpoint("/run/x.sock", 0), socket.AF_UNIX),
        (Endpoint("@name", 0), socket.AF_UNIX),
    ],
)
def test_a_dialling_socket_fits_its_endpoint(endpoint: Endpoint, family: int) -> None:
    with sockopt.dialling_socket(endpoint) as sock:
        assert sock.family == family
        assert not sock.getblocking()
        assert not sock.get_inheritable()


def test_tcp_info_of_a_connection() -> None:
    with pair() as (ours, _):
        info = sockopt.tcp_info(ours)
        assert info.established
        assert not info.syn_data
        assert 0 < info.rtt < 10, "in seconds"
        assert info.retransmits == 0


def test_a_pending_error_is_told_once() -> None:
    with pair() as (ours, peer):
        assert sockopt.pending_error(ours) == 0
        reset(peer)
        assert sockopt.pending_error(ours) == errno.ECONNRESET
        assert sockopt.pending_error(ours) == 0


def test_options_are_set() -> None:
    with pair() as (ours, _):
        sockopt.send_at_once(ours)
        sockopt.keep_alive(ours, Keepalive(idle=0.4, interval=2.6, count=7))
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 1
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 3
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 7


def test_close_sends_a_reset_where_it_is_to() -> None:
    with pair() as (ours, peer):
        sockopt.reset_on_close(ours)
        ours.close()
        with pytest.raises(ConnectionResetError):
            peer.recv(1)
        sockopt.reset_on_close(ours)  # closed already: nothing to do


@pytest.mark.parametrize(
    ("code", "name"), [(errno.ECONNREFUSED, "ECONNREFUSED"), (0, "errno 0"), (9999, "errno 9999")]
)
def test_errno_names(code: int, name: str) -> None:
    assert sockopt.errno_name(code) == name


# SYN data from clients


def saved_syn(version: int, payload: int, options: int = 20) -> bytes:
    """As TCP_SAVED_SYN keeps it: headers, with the length of what followed them."""
    tcp = bytearray(20 + options)
    tcp[12] = (20 + options) // 4 << 4
    if version == 4:
        ip = bytearray(20)
        ip[0] = 0x45
        struct.pack_into("!H", ip, 2, 20 + len(tcp) + payload)
    else:
        ip = bytearray(40)
        ip[0] = 0x60
        struct.pack_into("!H", ip, 4, len(tcp) + payload)
    return bytes(ip + tcp)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("payload", [0, 1, 1420])
def test_the_size_of_syn_data_is_read_from_the_headers(version: int, payload: int) -> None:
    assert sockopt._payload_size(saved_syn(version, payload)) == payload


@pytest.mark.parametrize("version", [4, 6])
def test_half_a_header_says_nothing(version: int) -> None:
    whole = saved_syn(version, 100)
    for length in range(len(whole)):
        assert sockopt._payload_size(whole[:length]) in {0, 100}
    assert sockopt._payload_size(b"") == 0


def test_a_connection_without_fast_open_has_none() -> None:
    with pair() as (ours, _):
        assert sockopt.client_syn_data(ours)[:2] == (False, 0)
        ours.close()
        assert sockopt.client_syn_data(ours)[:2] == (False, 0)
    with socket.socket(socket.AF_UNIX) as other:
        assert sockopt.fast_open_queue(other) == 0


@pytest.mark.netns
@pytest.mark.wan(rtt=0.01)
@pytest.mark.parametrize("version", [4, 6])
def test_what_a_client_put_into_its_syn(wan: Wan, version: int) -> None:
    listener = wan.server.socket(socket.AF_INET6 if version == 6 else socket.AF_INET)
    with listener:
        listener.bind((wan.fresh_address(version), 0))
        sockopt.accept_syn_data(listener, 16, (b"k" * 16,))
        assert sockopt.fast_open_queue(listener) == 16
        listener.listen()
        seen = []
        for data in (b"first", b"x" * 100, b""):
            ask(listener.getsockname()[:2], data, expect=0)
            accepted, _ = listener.accept()
            with accepted:
                seen.append(sockopt.client_syn_data(accepted)[:2])
    assert seen == [(False, 0), (True, 100), (True, 0)]
    assert MSG_FASTOPEN == socket.MSG_FASTOPEN


@pytest.mark.parametrize(
    ("host", "plain"), [("::ffff:192.0.2.1", "192.0.2.1"), ("::1", "::1"), ("10.0.0.1", "10.0.0.1")]
)
def test_an_ipv4_peer_of_a_dual_stack_socket(host: str, plain: str) -> None:
    assert sockopt.unmapped(host) == plain


def test_a_connection_that_nobody_redirected() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        accepted, _ = server.accept()
        with accepted:
            assert sockopt.dialled_address(accepted) == Endpoint(*server.getsockname())
            with suppress(OSError):  # no conntrack here
                assert sockopt.original_destination(accepted) is None
        assert client.fileno() > 0
