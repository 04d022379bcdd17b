from __future__ import annotations

import gc
import socket

import pytest

from proxy.net.connection import Connection, taker


def listening() -> socket.socket:
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def test_one_that_is_taken_is_ready_for_use() -> None:
    with listening() as sock, socket.create_connection(sock.getsockname()) as client:
        connection, peer = taker(sock)()
        with connection:
            assert peer == client.getsockname() == connection.getpeername()
            assert connection.family == socket.AF_INET
            assert connection.type == socket.SOCK_STREAM
            assert not connection.get_inheritable()
            with pytest.raises(BlockingIOError):
                connection.recv(1)
            client.sendall(b"hello")
            buffer = bytearray(10)
            assert connection.recv_into(buffer) == 5
            connection.send(b"x")
            assert client.recv(10) == b"x"
        assert connection.fileno() == -1
        connection.close()  # again: nothing to do
        assert client.recv(10) == b""


def test_nobody_waits() -> None:
    with listening() as sock, pytest.raises(BlockingIOError):
        taker(sock)()


def test_another_descriptor_is_as_the_first() -> None:
    with Connection(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, 0, None) as sock:
        assert sock.gettimeout() == 0.0
        with sock.dup() as other:
            assert other.fileno() != sock.fileno()
            assert other.gettimeout() == 0.0
            assert other.family == sock.family


def test_one_that_is_forgotten_is_told_of() -> None:
    sock = Connection(socket.AF_INET, socket.SOCK_STREAM, 0, None)
    with pytest.warns(ResourceWarning, match="unclosed"):  # noqa: PT031
        del sock
        gc.collect()
