from __future__ import annotations

import errno
import os
import re
import resource
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from proxy.core.snapshot import Bind, Cluster, Keepalive, Listener, Mode
from proxy.net.accept import CannotListen, accept_forever, close_listener, listen

TCP_FASTOPEN = 23


def listener(*, fast_open: bool = True, keepalive: Keepalive | None = None) -> Listener:
    return Listener(
        "web", (), Mode.FORWARD, Cluster("c", (), keepalive=keepalive), fast_open=fast_open, backlog=7
    )


@contextmanager
def listening(host: str = "127.0.0.1", port: int = 0, **settings: object) -> Iterator[socket.socket]:
    sock = listen(listener(**settings), Bind(host, port))  # type: ignore[arg-type]  # a listener's settings
    try:
        yield sock
    finally:
        close_listener(sock)


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_it_listens_where_it_is_told(host: str, family: int) -> None:
    with listening(host) as sock:
        assert sock.family == family
        assert sock.getsockname()[0] == host
        assert not sock.getblocking()
        with socket.create_connection(sock.getsockname()[:2], 2):
            pass


def test_a_star_is_both_families() -> None:
    with listening("*") as sock:
        port = sock.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, port), 2):
                pass


def test_an_ipv6_address_is_ipv6_only() -> None:
    with listening("::") as sock, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", sock.getsockname()[1]), 2)


@pytest.mark.parametrize("fast_open", [True, False])
def test_the_fast_open_queue_is_asked_for_where_it_is_wanted(fast_open: bool) -> None:
    with listening(fast_open=fast_open) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN) == (7 if fast_open else 0)


def test_accepted_connections_inherit_what_the_listener_has() -> None:
    with (
        listening(keepalive=Keepalive(idle=11, interval=5, count=4)) as sock,
        socket.create_connection(sock.getsockname(), 2),
    ):
        sock.setblocking(True)
        accepted, _ = sock.accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 11
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 5
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 4
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_taken_port_is_named_with_its_listener() -> None:
    with listening() as sock:
        port = sock.getsockname()[1]
        with pytest.raises(CannotListen) as caught:
            listen(listener(), Bind("127.0.0.1", port))
    assert str(caught.value) == (
        f"listener web cannot listen on 127.0.0.1:{port}: Address already in use (EADDRINUSE); "
        "another program listens there (`ss -ltnp` shows which): end it, or choose another port"
    )
    assert caught.value.errno == errno.EADDRINUSE


def test_a_port_is_free_again_at_once() -> None:
    """Connections of an earlier process in TIME_WAIT do not keep a new one from listening."""
    with listening() as sock:
        port = sock.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), 2) as client:
            sock.setblocking(True)
            accepted, _ = sock.accept()
            accepted.close()
            assert client.recv(1) == b""
    with listening(port=port):
        pass


def test_nothing_stays_open_when_it_cannot_listen() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for bind in (Bind("10.255.255.1", 80), Bind("/nowhere/at/all", 0), Bind("2001:db8::1", 80)):
        with pytest.raises(CannotListen):
            listen(listener(), bind)
    assert len(os.listdir("/proc/self/fd")) == before


# Unix sockets


def test_a_unix_socket_and_its_path_go_together(tmp_path: Path) -> None:
    path = tmp_path / "in"
    sock = listen(listener(), Bind(str(path), 0))
    assert stat.S_ISSOCK(path.stat().st_mode)
    close_listener(sock)
    assert not path.exists()
    close_listener(sock)


def test_a_dead_socket_file_is_replaced_a_living_one_or_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "in"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    living = listen(listener(), Bind(str(path), 0))
    with pytest.raises(CannotListen, match="Address already in use"):
        listen(listener(), Bind(str(path), 0))
    assert path.is_socket()
    close_listener(living)

    path.write_text("precious")
    with pytest.raises(CannotListen, match="Address already in use"):
        listen(listener(), Bind(str(path), 0))
    assert path.read_text() == "precious"


def test_an_abstract_name_has_no_file(tmp_path: Path) -> None:
    name = f"@tfo-proxy-{os.getpid()}"
    sock = listen(listener(), Bind(name, 0))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + name[1:])
    close_listener(sock)


# Accepting


async def test_every_connection_is_handed_on_with_its_peer() -> None:
    served: list[tuple[socket.socket, object]] = []
    troubles: list[OSError] = []
    with listening() as sock:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                accept_forever,
                sock,
                lambda *one: served.append(one),
                troubles.append,
            )
            clients = [socket.create_connection(sock.getsockname(), 2) for _ in range(7)]
            with trio.fail_after(30):
                while len(served) < 7:  # noqa: ASYNC110
                    await trio.sleep(0.001)
            close_listener(sock)  # and the loop returns
    assert {peer for _, peer in served} == {client.getsockname() for client in clients}
    assert not any(connection.getblocking() for connection, _ in served)
    assert not troubles
    for one in (*clients, *(connection for connection, _ in served)):
        one.close()


async def test_a_client_that_reset_in_the_queue_is_no_trouble() -> None:
    served: list[socket.socket] = []
    with listening() as sock:
        rude = socket.create_connection(sock.getsockname(), 2)
        rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        rude.close()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_forever, sock, lambda one, _: served.append(one), lambda _: None)
            with socket.create_connection(sock.getsockname(), 2), trio.fail_after(30):
                while not served:  # noqa: ASYNC110
                    await trio.sleep(0.001)
            close_listener(sock)
    for one in served:
        one.close()


async def test_without_descriptors_it_waits_says_so_and_goes_on() -> None:
    served: list[socket.socket] = []
    troubles: list[OSError] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with listening() as sock:
        clients = [socket.create_connection(sock.getsockname(), 2) for _ in range(3)]
        highest = max(int(fd) for fd in os.listdir("/proc/self/fd"))
        async with trio.open_nursery() as nursery:
            fill = [os.dup(0) for _ in range(highest)]
            limit = max(fill) + 1
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            try:
                with pytest.raises(OSError, match="Too many open files"):
                    while True:
                        fill.append(os.dup(0))
                nursery.start_soon(accept_forever, sock, lambda one, _: served.append(one), troubles.append)
                started = trio.current_time()
                with trio.fail_after(30):
                    while len(troubles) < 3:  # noqa: ASYNC110
                        await trio.sleep(0.01)
                assert trio.current_time() - started >= 0.2, "it does not spin"
                assert not served
                assert {trouble.errno for trouble in troubles} == {errno.EMFILE}
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for fd in fill:
                    os.close(fd)
            with trio.fail_after(30):
                while len(served) < 3:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            close_listener(sock)
    for one in (*clients, *served):
        one.close()


class Grumpy:
    """A listening socket whose accept(2) fails as it may, before it works."""

    def __init__(self, sock: socket.socket, errors: list[int]) -> None:
        self._sock, self._errors = sock, errors

    family = socket.AF_INET

    def _accept(self) -> tuple[int, object]:
        if self._errors:
            code = self._errors.pop(0)
            raise OSError(code, os.strerror(code))
        return self._sock._accept()  # type: ignore[attr-defined,no-any-return]

    def fileno(self) -> int:
        return self._sock.fileno()


async def test_every_error_of_accept_is_survived_but_the_loss_of_the_listener() -> None:
    passing = [
        errno.ECONNABORTED, errno.EINTR, errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN,
        errno.ENONET, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EPERM, errno.ENOBUFS, errno.ENOMEM, errno.ENFILE,
    ]  # fmt: skip
    troubles: list[OSError] = []
    with listening() as sock:
        grumpy = Grumpy(sock, [*passing, errno.EBADF])
        with trio.fail_after(30):
            await accept_forever(grumpy, lambda *_: None, troubles.append)  # type: ignore[arg-type]  # as real
    assert {errno.ENOBUFS, errno.ENOMEM, errno.ENFILE} <= {trouble.errno for trouble in troubles}


@pytest.mark.parametrize(
    ("bind", "says"),
    [
        (Bind("{}/none/sock", 0), "No such file or directory (ENOENT); create the folder {}/none"),
        (Bind("{}/file", 0), "remove the file"),
        (Bind("{}/file/sock", 0), "(ENOTDIR); {}/file is not a folder"),
        (Bind("192.0.2.1", 0), "(EADDRNOTAVAIL); this machine does not have that address"),
    ],
)
def test_why_it_cannot_listen_is_told_with_what_mends_it(tmp_path: Path, bind: Bind, says: str) -> None:
    (tmp_path / "file").touch()
    there = Bind(bind.host.format(tmp_path), bind.port)
    with pytest.raises(CannotListen, match=re.escape(says.format(tmp_path))):
        listen(listener(), there)
