"""Listening sockets: all or none, kept where they are, shared out, handed down."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.core.snapshot import Admin, Bind, Cluster, Keepalive, Listener, Mode, Snapshot
from proxy.net import sockopt
from proxy.net.accept import CannotListen
from proxy.service.listeners import ADMIN, Listeners, announce, places
from proxy.service.upgrade import Heirloom
from tests.serving import Recorder

CLUSTER = Cluster("c", ())
LOOPBACK = Bind("127.0.0.1", 0)


def listener(name: str, *binds: Bind, **settings: object) -> Listener:
    return Listener(name, binds, Mode.FORWARD, CLUSTER, **settings)  # type: ignore[arg-type]  # a listener's


def snapshot(*listeners: Listener, **settings: object) -> Snapshot:
    return Snapshot(listeners, {}, **settings)  # type: ignore[arg-type]  # a snapshot's settings


@contextmanager
def opened(*listeners: Listener, workers: int = 1) -> Iterator[Listeners]:
    found = Listeners()
    found.open(snapshot(*listeners), workers)
    try:
        yield found
    finally:
        found.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def port(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def test_all_listeners_or_none() -> None:
    before = descriptors()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = listener("free", LOOPBACK, Bind("::1", 0))
        clash = listener("clash", Bind("127.0.0.1", port(taken)))
        with opened(free) as listeners:
            assert [len(sockets) for sockets in listeners.shares[0].values()] == [2]
            listeners.close()
        with pytest.raises(CannotListen, match="clash"):
            Listeners().open(snapshot(free, clash))
        assert descriptors() == before + 1


def test_a_second_instance_is_refused_even_where_workers_share_a_port() -> None:
    with opened(listener("a", LOOPBACK), workers=3) as listeners:
        bind = Bind("127.0.0.1", port(listeners.shares[0]["a"][0]))
        with pytest.raises(CannotListen, match="EADDRINUSE"):
            Listeners().open(snapshot(listener("a", bind)), 3)


def test_what_stays_keeps_its_socket_whatever_it_is_called_and_does() -> None:
    before = descriptors()
    with opened(listener("a", LOOPBACK, backlog=5), listener("any", LOOPBACK)) as listeners:
        (a,), (anything,) = listeners.shares[0]["a"], listeners.shares[0]["any"]
        bind = Bind("127.0.0.1", port(a))
        first = snapshot(listener("a", bind), listener("any", LOOPBACK))
        # Port 0 is another place than the port that the kernel chose, so this one is opened anew: it is our own.
        left = listeners.adopt(listeners.prepare(first))
        assert left == [a]
        a.close()
        (a,) = listeners.shares[0]["a"]
        cluster = replace(CLUSTER, keepalive=Keepalive(idle=33))
        renamed = replace(listener("z", bind, backlog=99, fast_open=False), cluster=cluster, mode=Mode.SOCKS)
        assert not listeners.adopt(listeners.prepare(snapshot(listener("any", LOOPBACK), renamed)))
        assert listeners.shares[0] == {"any": [anything], "z": [a]}
        assert sockopt.fast_open_queue(a) == 0
        assert a.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 33
        with socket.create_connection(a.getsockname()):
            a.setblocking(True)
            a.accept()[0].close()
    assert descriptors() == before


def test_what_cannot_be_opened_changes_nothing() -> None:
    with (
        opened(listener("a", LOOPBACK, backlog=7)) as listeners,
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        (sock,) = listeners.shares[0]["a"]
        before = descriptors()
        wanted = snapshot(
            listener("a", LOOPBACK, fast_open=False),
            listener("b", LOOPBACK),
            listener("c", Bind("127.0.0.1", port(taken))),
        )
        with pytest.raises(CannotListen, match="listener c cannot listen"):
            listeners.prepare(wanted)
        assert descriptors() == before
        assert listeners.shares[0] == {"a": [sock]}
        assert sockopt.fast_open_queue(sock) == 7


def test_an_address_may_take_over_from_the_star_that_held_its_port() -> None:
    with opened(listener("a", Bind("*", 0))) as listeners:
        (star,) = listeners.shares[0]["a"]
        left = listeners.adopt(listeners.prepare(snapshot(listener("a", Bind("127.0.0.1", port(star))))))
        assert left == [star]
        with socket.create_connection(("127.0.0.1", port(star))):
            (sock,) = listeners.shares[0]["a"]
            sock.setblocking(True)
            sock.accept()[0].close()
        star.close()


def test_every_worker_has_a_socket_of_its_own_on_one_port() -> None:
    with opened(listener("a", LOOPBACK, Bind("*", 0)), workers=3) as listeners:
        for which in (0, 1):
            sockets = [share["a"][which] for share in listeners.shares]
            assert len(set(sockets)) == 3
            assert len({port(sock) for sock in sockets}) == 1
            assert {bool(sockopt.fast_open_queue(sock)) for sock in sockets} == {True}
            clients = [socket.create_connection(("127.0.0.1", port(sockets[0]))) for _ in range(60)]
            shares = [0, 0, 0]
            for number, sock in enumerate(sockets):
                while True:
                    try:
                        sock.accept()[0].close()
                    except BlockingIOError:
                        break
                    shares[number] += 1
            assert sum(shares) == 60
            assert min(shares) > 0
            for client in clients:
                client.close()


def test_more_workers_and_fewer() -> None:
    bound = listener("a", LOOPBACK)
    with opened(bound, workers=1) as listeners:
        (first,) = listeners.shares[0]["a"]
        assert not listeners.adopt(listeners.prepare(snapshot(bound), 3))
        assert listeners.shares[0]["a"] == [first]
        assert {port(share["a"][0]) for share in listeners.shares} == {port(first)}
        assert not listeners.adopt(listeners.prepare(snapshot(bound), 2))
        assert [len(share["a"]) for share in listeners.shares] == [2, 1], (
            "nobody waits in the third one in vain"
        )


def test_a_unix_socket_is_shared_by_all_and_its_path_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    bound = listener("a", Bind(str(path), 0))
    with opened(bound, workers=3) as listeners:
        assert len({share["a"][0] for share in listeners.shares}) == 1
        assert not listeners.adopt(listeners.prepare(snapshot(bound), 2))
        assert path.exists()
        (left,) = listeners.adopt(listeners.prepare(snapshot(listener("b", LOOPBACK)), 2))
        assert not path.exists()
        left.close()


def test_closing_may_leave_the_path_to_a_successor(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with opened(listener("a", Bind(str(path), 0))) as listeners:
        listeners.close(unlink=False)
        assert path.exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "*", "::1", "0.0.0.0"])
def test_inherited_sockets_are_used_where_they_fit(host: str) -> None:
    with opened(listener("a", Bind(host, 0)), workers=2) as old:
        assert [one.name for one in old.heirlooms()] == ["a", "a"]
        passed = [one.sock.dup() for one in old.heirlooms()]
        bind = Bind(host, port(passed[0]))
        strange = Heirloom("strange", socket.create_server(("127.0.0.1", 0)))
        new = Listeners([*(Heirloom("x", sock) for sock in passed), strange])
        new.open(snapshot(listener("a", bind)), 2)
        assert [share["a"][0] for share in new.shares] == passed
        assert new.unused() == ["strange"]
        new.close()


def test_inherited_sockets_that_do_not_fit_are_not_used() -> None:
    with opened(listener("a", LOOPBACK)) as old:
        (heirloom,) = old.heirlooms()
        new = Listeners([heirloom._replace(sock=heirloom.sock.dup())])
        new.open(snapshot(listener("a", Bind("127.0.0.2", port(heirloom.sock)))))
        assert new.unused() == ["a"]
        new.close()


def test_a_path_that_was_lent_is_left_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    listeners = Listeners([Heirloom("a", sock, lent=True)])
    listeners.open(snapshot(listener("a", Bind(str(path), 0))))
    assert listeners.shares[0] == {"a": [sock]}
    listeners.part()
    listeners.close()
    assert path.exists()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("dual", [True, False])
@pytest.mark.parametrize("host", ["::", "*"])
def test_a_lent_socket_decides_which_families_every_address_is(host: str, dual: bool, workers: int) -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=dual) as sock:
        sock.setblocking(False)
        listeners = Listeners([Heirloom("x", sock, lent=True)])
        listeners.open(snapshot(listener("a", Bind(host, port(sock)))), workers)
        assert listeners.shares[0] == {"a": [sock]}
        assert listeners.unused() == []
        families = [("::1", True), ("127.0.0.1", dual)]
        for client, served in families:
            with suppress(ConnectionRefusedError), socket.create_connection((client, port(sock)), 5):
                assert served
                continue
            assert not served
        listeners.close()


def _renamed(path: Path) -> None:
    other = path.with_suffix(".new")
    _bound(other)
    other.rename(path)


def _bound(path: Path) -> None:
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def _file(path: Path) -> None:
    path.unlink()
    path.write_text("not ours")


@pytest.mark.parametrize("successor", [_renamed, _bound, _file])
@pytest.mark.parametrize("end", ["part", "close", "adopt", "abandon"])
def test_a_path_that_a_successor_has_taken_over_is_left(
    tmp_path: Path, end: str, successor: Callable[[Path], None]
) -> None:
    path = tmp_path / "sock"
    first, unix = snapshot(listener("a", LOOPBACK)), snapshot(listener("a", Bind(str(path), 0)))
    listeners = Listeners()
    listeners.open(first if end == "abandon" else unix)
    prepared = listeners.prepare(unix) if end == "abandon" else listeners.prepare(first)
    successor(path)
    if end == "part":
        listeners.part()
    elif end == "adopt":
        for sock in listeners.adopt(prepared):
            sock.close()
    elif end == "abandon":
        listeners.abandon(prepared)
    listeners.close()
    assert path.exists()
    if end != "abandon":
        listeners.abandon(prepared)


def test_where_any_port_will_do_the_name_decides() -> None:
    with opened(listener("a", LOOPBACK), listener("b", LOOPBACK)) as old:
        passed = {one.name: [one.sock.dup()] for one in old.heirlooms()}
        new = Listeners(Heirloom(name, sock) for name, (sock,) in passed.items())
        new.open(snapshot(listener("b", LOOPBACK), listener("a", LOOPBACK)))
        assert new.shares[0] == {"a": passed["a"], "b": passed["b"]}
        assert new.unused() == []
        new.close()


def test_it_says_where_and_what_is_missing() -> None:
    events = Recorder()
    deaf = listener("a", LOOPBACK, Bind("@tfo-proxy-test-listeners", 0), backlog=100_000)
    with opened(deaf) as listeners:
        announce(snapshot(deaf), listeners.shares[0], events, ["a", "gone"])
        where = [where for _, where, _ in places(snapshot(deaf), listeners.shares[0])]
        assert where == [f"127.0.0.1:{port(listeners.shares[0]['a'][0])}", "unix:@tfo-proxy-test-listeners"]
    said = [event for event, _ in events.said]
    assert said.count("listening") == 2
    assert "short_queue" in said


def test_the_admin_is_one_however_many_serve() -> None:
    bound = snapshot(listener("a", LOOPBACK), admin=Admin((LOOPBACK,)))
    listeners = Listeners()
    listeners.open(bound, 3)
    (sock,) = listeners.admin
    assert set(listeners.shares[0]) == {"a"}
    assert Heirloom(ADMIN, sock) in listeners.heirlooms()
    left = listeners.adopt(listeners.prepare(replace(bound, admin=None), 3))
    assert left == [sock]
    sock.close()
    listeners.close()
