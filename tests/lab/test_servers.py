"""Each upstream behaves as its name says, and remembers what it got."""

from __future__ import annotations

import errno
import socket
import time

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
from proxy.lab.clients import MSG_FASTOPEN, ask
from proxy.lab.wan import Wan

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.04)]


def test_what_was_received_when_and_from_whom(wan: Wan) -> None:
    server = wan.serve(answers(request=8))
    with socket.create_connection(server.address) as client:
        client.sendall(b"half")
        time.sleep(0.05)
        client.sendall(b"more")
        assert client.recv(10) == b"pong"
        source = client.getsockname()
    (conversation,) = server.wait(1)
    assert conversation.peer == source
    (first, half), (second, more) = conversation.chunks
    assert (half, more, bytes(conversation.received)) == (b"half", b"more", b"halfmore")
    assert second - first == pytest.approx(0.05, abs=0.02)
    assert (conversation.ended, conversation.sent, conversation.fast_opened) == ("eof", 4, False)


def test_who_speaks_first(wan: Wan) -> None:
    server = wan.serve(speaks_first(b"220 hello\r\n", b"250 ok\r\n"))
    cold, warm = ask(server.address, b"", expect=11), ask(server.address, b"", expect=11)
    assert cold.reply == warm.reply == b"220 hello\r\n"
    assert round((cold.first_byte or 0) / wan.rtt) == 2
    assert round((warm.first_byte or 0) / wan.rtt) == 1
    with socket.create_connection(server.address) as client:
        assert client.recv(100) == b"220 hello\r\n"
        client.sendall(b"EHLO\r\n")
        assert client.recv(100) == b"250 ok\r\n"
    assert server.wait(3)[2].received == b"EHLO\r\n"


def test_slow_silent_and_resetting(wan: Wan) -> None:
    assert (ask(wan.serve(slow(0.3)).address, b"x").first_byte or 0) > 0.3
    silent = wan.serve(never_answers())
    assert ask(silent.address, b"x", timeout=0.15).error_name == "ETIMEDOUT"
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


def test_deferred_accept_waits_for_data_but_takes_a_fast_open_at_once(wan: Wan) -> None:
    server = wan.serve(answers(), defer_accept=5)
    with socket.create_connection(server.address) as client:
        with pytest.raises(TimeoutError):
            server.wait(1, ended=False, timeout=4 * wan.rtt)
        client.sendall(b"late")
        assert client.recv(4) == b"pong"
    ask(server.address, b"cold")
    warm = ask(server.address, b"warm")
    assert (warm.in_syn, warm.syn_data_acked, round((warm.first_byte or 0) / wan.rtt)) == (4, True, 1)
    assert [one.had_syn_data for one in server.wait(3)] == [False, False, True]


def test_a_client_that_resets_is_told_from_one_that_ends(wan: Wan) -> None:
    server = wan.serve(never_answers())
    ask(server.address, b"")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.sendto(b"bye", MSG_FASTOPEN, server.address)
        server.wait(2, ended=False)
    conversations = server.wait(2)
    assert sorted(one.ended for one in conversations) == ["eof", "reset"]
