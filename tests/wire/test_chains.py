"""Through another proxy: its handshake and the first bytes in one SYN, and gateways that do not take that."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from proxy.lab.clients import ask
from proxy.lab.servers import Behaviour, Conversation, Server
from proxy.lab.wan import Wan
from tests.wire.program import GET, Program, forward

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.05)]

GREETING, METHOD = b"\x05\x01\x00", b"\x05\x00"
REQUEST = b"\x05\x01\x00\x03\x0fapi.example.com\x01\xbb"
REPLY = b"\x05\x00\x00\x01" + bytes(6)
CONNECT = b"CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n"
GRANTED = b"HTTP/1.1 200 OK\r\n\r\n"


def until(conversation: Conversation, size: int) -> bool:
    while len(conversation.received) < size:
        if not conversation.receive():
            return False
    return True


def socks(reply: bytes = REPLY, banner: bytes = b"") -> Behaviour:
    """A gateway that reads on where it left off, with the destination behind it."""

    def behave(conversation: Conversation) -> None:
        conversation.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for said, answer in ((GREETING, METHOD), (REQUEST, reply + banner)):
            if not until(conversation, len(GREETING) if said is GREETING else len(GREETING + REQUEST)):
                return
            conversation.send(answer)
        if until(conversation, len(GREETING + REQUEST + GET)):
            conversation.send(b"pong")
        conversation.receive_all()

    return behave


def forgetful(conversation: Conversation) -> None:
    """A SOCKS gateway that throws away what came behind the message it was reading."""
    conversation.receive()
    conversation.send(METHOD)
    conversation.receive()
    conversation.send(REPLY)
    if conversation.receive():
        conversation.send(b"pong")
    conversation.receive_all()


def deaf_behind_connect(conversation: Conversation) -> None:
    """An HTTP gateway that throws away what came behind the request's head."""
    conversation.receive()
    conversation.send(GRANTED)
    if conversation.receive():
        conversation.send(b"pong")
    conversation.receive_all()


def http(conversation: Conversation) -> None:
    conversation.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if until(conversation, len(CONNECT)):
        conversation.send(GRANTED)
        if until(conversation, len(CONNECT + GET)):
            conversation.send(b"pong")
    conversation.receive_all()


def through(server: Server, kind: str = "socks", **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    host, port = server.address
    return forward("api.example.com:443", via={kind: f"{host}:{port}"}, connect={"timeout": "2s"}, **more)


@pytest.mark.parametrize(
    ("kind", "behaviour", "said"), [("socks", socks(), GREETING + REQUEST), ("http", http, CONNECT)]
)
def test_handshake_and_first_bytes_ride_in_one_syn(
    wan: Wan, kind: str, behaviour: Behaviour, said: bytes
) -> None:
    server = wan.serve(behaviour)
    with Program(wan.client, {"a": through(server, kind)}) as program:
        for _ in range(5):
            assert ask(program.address(), GET, fast_open=False).reply == b"pong"
        lines = [program.session(number) for number in range(2, 6)]
        for line in lines:
            assert (line["evidence"], line["syn_bytes"]) == ("syn_data_acked", len(said + GET))
            assert (line["up_bytes"], line["down_bytes"]) == (len(GET), 4)
        assert min(line["first_byte"] for line in lines) < 1.6 * wan.rtt
    assert [bytes(one.received) for one in server.wait(5)] == [said + GET] * 5


def test_bytes_that_must_not_come_twice_wait_for_the_connection(wan: Wan) -> None:
    server = wan.serve(socks())
    post = b"P" * len(GET)
    with Program(wan.client, {"a": through(server)}) as program:
        for _ in range(2):
            assert ask(program.address(), post, fast_open=False).reply == b"pong"
        line = program.session(2)
        assert line["syn_bytes"] == len(GREETING + REQUEST)
    assert [bytes(one.received) for one in server.wait(2)] == [GREETING + REQUEST + post] * 2


def test_a_server_that_speaks_first(wan: Wan) -> None:
    server = wan.serve(socks(banner=b"220 "))
    with Program(wan.client, {"a": through(server, server_first="yes")}) as program:
        assert ask(program.address(), GET, fast_open=False, expect=8).reply == b"220 pong"


@pytest.mark.parametrize(
    ("kind", "behaviour"), [("socks", forgetful), ("http", deaf_behind_connect)], ids=["socks", "http"]
)
def test_a_gateway_that_does_not_read_on_is_asked_step_by_step(
    wan: Wan, kind: str, behaviour: Behaviour
) -> None:
    server = wan.serve(behaviour)
    with Program(wan.client, {"a": through(server, kind)}) as program:
        for _ in range(4):
            assert ask(program.address(), GET, fast_open=False).reply == b"pong"
        known = [program.session(number)["first_byte"] for number in range(2, 5)]
        assert min(known) < 0.5, "it is known by now"


def test_a_gateway_that_says_no(wan: Wan) -> None:
    server = wan.serve(socks(reply=b"\x05\x05\x00\x01" + bytes(6)))
    with Program(wan.client, {"a": through(server)}) as program:
        assert not ask(program.address(), GET, fast_open=False).reply
        line = program.session(1)
        assert line["reason"] == "refused"
        assert "the gateway says: connection refused" in str(line["detail"])
