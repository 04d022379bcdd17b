from __future__ import annotations

import socket

import pytest

from proxy.core.address import Endpoint
from proxy.net.listening import Listening


def test_an_address_is_ours_where_we_listen_on_it() -> None:
    known = Listening()
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        known.follow([one])
        port = one.getsockname()[1]
        assert known.holds(Endpoint("127.0.0.1", port))
        assert known.holds(Endpoint("::ffff:127.0.0.1", port))
        assert known.holds(Endpoint("64:ff9b::7f00:1", port))
        assert not known.holds(Endpoint("127.0.0.2", port))
        assert not known.holds(Endpoint("::1", port))
        assert not known.holds(Endpoint("127.0.0.1", other.getsockname()[1]))
        known.follow([other])
        assert not known.holds(Endpoint("127.0.0.1", port))


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_everywhere_is_every_address_of_this_machine_and_no_other(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    known = Listening()
    with socket.create_server((host, 0), family=family, dualstack_ipv6=":" in host) as sock:
        known.follow([sock])
        port = sock.getsockname()[1]
        for own in ("127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::"):
            assert known.holds(Endpoint(own, port)), own
        for other in ("192.0.2.1", "2001:db8::1", "64:ff9b::c000:201"):
            assert not known.holds(Endpoint(other, port)), other


def test_what_somebody_else_of_us_listens_on_stays() -> None:
    known = Listening()
    known.also("127.0.0.1", 7414)
    known.follow([])
    assert known.holds(Endpoint("127.0.0.1", 7414))


def test_unix_sockets_are_nobodys_port() -> None:
    known = Listening()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("")  # a name that the kernel chooses
        known.follow([sock])
        known.also("127.0.0.1", 0)
        assert not known.holds(Endpoint("/run/x.sock", 0))


def test_closed_sockets_are_left_out() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    sock.close()
    known = Listening()
    known.follow([sock])
    assert not known.holds(Endpoint("127.0.0.1", port))
