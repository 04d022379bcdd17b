"""Each upstream behaves as its name says."""

from __future__ import annotations

import errno
import socket

import pytest

from proxy.lab.behaviours import (
    answers,
    answers_each,
    echoes,
    never_answers,
    resets,
    sends,
    slow,
    speaks_first,
)
from proxy.lab.clients import ask
from proxy.lab.wan import Wan

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.04)]


def test_who_speaks_first(wan: Wan) -> None:
    servers = [wan.serve(speaks_first(b"220 hello\r\n", b"250 ok\r\n")) for _ in range(6)]
    server = servers[0]
    for rtts in (2, 1):  # without a cookie, and with one
        asked = [ask(one.address, b"", expect=11) for one in servers]
        assert {one.reply for one in asked} == {b"220 hello\r\n"}
        assert int(min(one.first_byte or 0 for one in asked) / wan.rtt) == rtts
    with socket.create_connection(server.address) as client:
        assert client.recv(100) == b"220 hello\r\n"
        client.sendall(b"EHLO\r\n")
        assert client.recv(100) == b"250 ok\r\n"
    assert server.wait(3)[2].received == b"EHLO\r\n"


def test_slow_silent_and_resetting(wan: Wan) -> None:
    assert (ask(wan.serve(slow(0.3)).address, b"x").first_byte or 0) > 0.3
    silent = wan.serve(never_answers())
    assert ask(silent.address, b"x", timeout=1.5).error_name == "ETIMEDOUT"
    assert silent.wait(1)[0].received == b"x"
    rude = wan.serve(resets())
    assert ask(rude.address, b"x").error == errno.ECONNRESET
    assert rude.wait(1)[0].ended == "reset-by-us"
    with socket.create_connection(wan.serve(resets(after=2, reply=b"par")).address) as client:
        client.sendall(b"xx")
        assert client.recv(3, socket.MSG_WAITALL) == b"par"
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_echo_many_answers_and_bulk(wan: Wan) -> None:
    with socket.create_connection(wan.serve(echoes()).address) as client:
        client.sendall(b"abc")
        assert client.recv(3, socket.MSG_WAITALL) == b"abc"
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    with socket.create_connection(wan.serve(answers_each(b"!", request=2)).address) as client:
        client.sendall(b"123456")
        assert client.recv(3, socket.MSG_WAITALL) == b"!!!"
    with socket.create_connection(wan.serve(sends(100_001)).address) as client:
        data = b"".join(iter(lambda: client.recv(65536), b""))
    assert data == (bytes(range(256)) * 400)[:100_001]


def test_a_server_that_closes_first_and_one_that_is_closed(wan: Wan) -> None:
    with socket.create_connection(wan.serve(answers(closes=True)).address) as client:
        client.sendall(b"x")
        assert client.recv(4, socket.MSG_WAITALL) == b"pong"
        assert client.recv(1) == b""
    server = wan.serve(never_answers())
    with socket.create_connection(server.address) as client:
        server.wait(1, ended=False)
        server.close()
        assert client.recv(1) == b""
    assert server.conversations[0].ended == "closed"
    with pytest.raises(TimeoutError):
        server.wait(2, timeout=0.01)
