from __future__ import annotations

import socket
from pathlib import Path

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


def test_the_admin_is_held_until_it_listens_elsewhere(tmp_path: Path) -> None:
    known, path = Listening(), tmp_path / "admin.sock"
    path.touch()
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "hard").hardlink_to(path)
    known.follow_admin([("127.0.0.1", 7414), (str(path), 0), ("@admin", 0)])
    known.follow([])
    admin = [("127.0.0.1", 7414), ("0.0.0.0", 7414), ("::ffff:127.0.0.1", 7414), ("2002:7f00:1::", 7414)]
    paths = [
        path,
        tmp_path / "link",
        tmp_path / "hard",
        f"{tmp_path}/../{tmp_path.name}/admin.sock",
        "@admin",
    ]
    for host, port in admin + [(str(one), 0) for one in paths]:
        assert known.is_admin(Endpoint(host, port)), host
        assert known.holds(Endpoint(host, port)), host
    for host, port in [("127.0.0.2", 7414), ("127.0.0.1", 7415), ("/run/other", 0), ("@other", 0)]:
        assert not known.is_admin(Endpoint(host, port)), host
    known.follow_admin([("*", 7415)])
    assert not known.holds(Endpoint("127.0.0.1", 7414))
    for host in ("127.0.0.1", "127.8.8.8", "0.0.0.0", "::", "::1", "::ffff:127.0.0.1"):
        assert known.is_admin(Endpoint(host, 7415)), host


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
