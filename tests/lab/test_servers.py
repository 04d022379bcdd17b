"""Upstreams remember what they got, when, and how it came."""

from __future__ import annotations

import socket
import time

import pytest

from proxy.lab.behaviours import answers, never_answers
from proxy.lab.clients import MSG_FASTOPEN, ask
from proxy.lab.wan import Wan

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.04)]


def test_what_was_received_when_and_from_whom(wan: Wan) -> None:
    server = wan.serve(answers(request=8))
    with socket.create_connection(server.address) as client:
        client.sendall(b"half")
        while server.received != [b"half"]:
            time.sleep(0.001)
        time.sleep(0.05)
        client.sendall(b"more")
        assert client.recv(10) == b"pong"
        source = client.getsockname()
    (conversation,) = server.wait(1)
    assert conversation.peer == source
    (first, half), (second, more) = conversation.chunks
    assert (half, more, bytes(conversation.received)) == (b"half", b"more", b"halfmore")
    assert 0.05 <= second - first < 20, "in seconds"
    assert (conversation.ended, conversation.sent, conversation.fast_opened) == ("eof", 4, False)


def test_deferred_accept_waits_for_data_but_takes_a_fast_open_at_once(wan: Wan) -> None:
    server = wan.serve(answers(), defer_accept=5)
    with socket.create_connection(server.address) as client:
        with pytest.raises(TimeoutError):
            server.wait(1, ended=False, timeout=4 * wan.rtt)
        client.sendall(b"late")
        assert client.recv(4) == b"pong"
    ask(server.address, b"cold")
    warm = ask(server.address, b"warm")
    assert (warm.in_syn, warm.syn_data_acked) == (4, True)
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
