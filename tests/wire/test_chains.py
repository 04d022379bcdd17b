"""Through another proxy: its handshake and the first bytes in one SYN, and gateways that do not take that."""

from __future__ import annotations

import re
import socket
import time
from typing import Any

import pytest

from proxy.lab.clients import ask
from proxy.lab.servers import Behaviour, Conversation, Server
from proxy.lab.wan import Wan
from tests.core import hellos
from tests.wire.program import GET, Program, forward

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.05)]

GREETING, METHOD = b"\x05\x01\x00", b"\x05\x00"
REQUEST = b"\x05\x01\x00\x03\x0fapi.example.com\x01\xbb"
REPLY = b"\x05\x00\x00\x01" + bytes(6)
CONNECT = (
    b"CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\nConnection: close\r\n"
    b"Via: 1.1 tfo-proxy-xxxxxxxxxxxx\r\n\r\n"
)
HELLO = hellos.record(hellos.message(hellos.server_name(b"api.example.com")))
GRANTED = b"HTTP/1.1 200 OK\r\n\r\n"


def unnamed(data: bytes | bytearray) -> bytes:
    """What a gateway got, with x for what each process adds to its name."""
    return re.sub(rb"tfo-proxy-[0-9a-f]{12}", b"tfo-proxy-xxxxxxxxxxxx", bytes(data))


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
        if until(conversation, len(CONNECT + HELLO)):
            conversation.send(b"pong")
    conversation.receive_all()


def refusing(conversation: Conversation) -> None:
    """An HTTP gateway that refuses, stays open, and answers whatever else it is asked."""
    if until(conversation, len(CONNECT)):
        conversation.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        if conversation.receive():
            conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    conversation.receive_all()


def slow(conversation: Conversation) -> None:
    """An HTTP gateway that says 100 first and needs a while, in lines that end in LF."""
    if until(conversation, len(CONNECT)):
        conversation.send(b"HTTP/1.1 100 Continue\n\n")
        time.sleep(0.1)
        assert unnamed(conversation.received) == CONNECT, "nothing more before the answer"
        conversation.send(b"HTTP/1.1 200 OK\nX: y\n\n")
        if until(conversation, len(CONNECT + GET)):
            conversation.send(b"pong")
    conversation.receive_all()


def through(server: Server, kind: str = "socks", **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    host, port = server.address
    return forward("api.example.com:443", via={kind: f"{host}:{port}"}, connect={"timeout": "2s"}, **more)


@pytest.mark.parametrize(
    ("kind", "behaviour", "said", "first"),
    [("socks", socks(), GREETING + REQUEST, GET), ("http", http, CONNECT, HELLO)],
    ids=["socks", "http"],
)
def test_handshake_and_first_bytes_ride_in_one_syn(
    wan: Wan, kind: str, behaviour: Behaviour, said: bytes, first: bytes
) -> None:
    server = wan.serve(behaviour)
    with Program(wan.client, {"a": through(server, kind)}) as program:
        for _ in range(5):
            assert ask(program.address(), first, fast_open=False).reply == b"pong"
        lines = [program.session(number) for number in range(2, 6)]
        for line in lines:
            assert (line["evidence"], line["syn_bytes"]) == ("syn_data_acked", len(said + first))
            assert (line["up_bytes"], line["down_bytes"]) == (len(first), 4)
        assert min(line["first_byte"] for line in lines) < 1.6 * wan.rtt
    assert [unnamed(one.received) for one in server.wait(5)] == [said + first] * 5


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
    ("kind", "behaviour", "first"),
    [("socks", forgetful, GET), ("http", deaf_behind_connect, HELLO)],
    ids=["socks", "http"],
)
def test_a_gateway_that_does_not_read_on_is_asked_step_by_step(
    wan: Wan, kind: str, behaviour: Behaviour, first: bytes
) -> None:
    server = wan.serve(behaviour)
    with Program(wan.client, {"a": through(server, kind)}) as program:
        for _ in range(4):
            assert ask(program.address(), first, fast_open=False).reply == b"pong"
        known = [program.session(number)["first_byte"] for number in range(2, 5)]
        assert min(known) < 0.5, "it is known by now"


def test_a_gateway_that_says_no(wan: Wan) -> None:
    server = wan.serve(socks(reply=b"\x05\x05\x00\x01" + bytes(6)))
    with Program(wan.client, {"a": through(server)}) as program:
        assert not ask(program.address(), GET, fast_open=False).reply
        line = program.session(1)
        assert line["reason"] == "refused"
        assert "the gateway says: connection refused" in str(line["detail"])


def test_a_gateway_that_refuses_a_connect_gets_no_request_of_the_client(wan: Wan) -> None:
    server = wan.serve(refusing)
    requests = [GET, b"\r\n" + GET, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"SSH-2.0-x HTTP/1.1\r\n"]
    with Program(wan.client, {"a": through(server, "http")}) as program:
        for number, request in enumerate(requests, 1):
            assert not ask(program.address(), request, fast_open=False).reply
            assert "the gateway says: 403" in str(program.session(number)["detail"])
    assert [unnamed(one.received) for one in server.wait(len(requests))] == [CONNECT] * len(requests)


def test_first_bytes_that_may_be_http_wait_for_the_gateways_final_answer(wan: Wan) -> None:
    server = wan.serve(slow)
    with Program(wan.client, {"a": through(server, "http")}) as program:
        for _ in range(2):
            assert ask(program.address(), GET, fast_open=False).reply == b"pong"
    assert [unnamed(one.received) for one in server.wait(2)] == [CONNECT + GET] * 2


def test_a_connect_that_comes_back_through_a_gateway_is_refused(wan: Wan) -> None:
    server = wan.serve(refusing)
    host, port = server.address
    document = {
        "listeners": {"a": {"bind": "127.0.0.1:0", "mode": "http"}},
        "defaults": {"via": {"http": f"{host}:{port}"}},
    }
    with Program(wan.client, None, document=document) as program:
        said = b"CONNECT api.example.com:443 HTTP/1.1\r\nHost: x\r\nVia: 1.0 first\r\n\r\n"
        assert b" 403 " in ask(program.address(), said, fast_open=False).reply
        (connect,) = [bytes(one.received) for one in server.wait(1)]
        assert unnamed(connect) == CONNECT.replace(b"Via: ", b"Via: 1.0 first, ")
        reply = ask(program.address(), connect, fast_open=False).reply
        assert reply.startswith(b"HTTP/1.1 508 ")
        assert program.session(2)["reason"] == "loop"
    assert len(server.received) == 1
