"""Between the ends: half-closes and resets passed on, slow readers waited for, silence ended in time."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from proxy.lab.behaviours import answers, echoes, never_answers, resets, sends, speaks_first
from proxy.lab.rules import Direction
from proxy.lab.servers import Conversation, Server
from proxy.lab.wan import Wan
from tests.wire.program import GET, Program, forward, until

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.04)]

RST = struct.pack("ii", 1, 0)
MUCH = 48 << 20
# What the kernels between the two ends of a test may hold (tcp_wmem, tcp_rmem: 4 and 6 MiB and some, thrice).
KERNELS = 32 << 20


def connect(program: Program, listener: str = "a") -> socket.socket:
    client = socket.create_connection(program.address(listener))
    client.settimeout(10)
    return client


def read_all(client: socket.socket) -> bytes:
    got = bytearray()
    while data := client.recv(1 << 20):
        got += data
    return bytes(got)


# Ends


def test_the_clients_half_close_reaches_the_server_and_the_answer_still_comes(wan: Wan) -> None:
    def counts(conversation: Conversation) -> None:
        conversation.receive_all()
        conversation.send(b"%d" % len(conversation.received))

    server = wan.serve(counts)
    with Program(wan.client, {"a": forward(server, hedge="off")}) as program:
        for number in (1, 2):
            wan.forget()
            with connect(program) as client:
                client.sendall(GET)
                client.shutdown(socket.SHUT_WR)
                assert read_all(client) == b"%d" % len(GET)
            line = program.session(number)
            assert (line["ended_by"], line["reason"], line["down_bytes"]) == ("downstream", "closed", 2)
            seen = wan.capture().between(server.address)
            ends = [item for item in seen if item.packet.is_fin]
            assert [item.direction for item in ends] == [Direction.UP, Direction.DOWN]
            assert not seen.resets()
    assert [bytes(one.received) for one in server.wait(2)] == [GET, GET]


def test_last_words_and_the_end_behind_them_share_a_segment(wan: Wan) -> None:
    server = wan.serve(speaks_first(b"hello"))
    with (
        Program(wan.client, {"a": forward(server, server_first="yes")}) as program,
        connect(program) as client,
    ):
        assert client.recv(10) == b"hello"
        client.send(b"bye", socket.MSG_MORE)
        client.shutdown(socket.SHUT_WR)
        read_all(client)
        program.session()
        (last,) = (item for item in wan.capture().between(server.address) if item.payload == b"bye")
        assert last.packet.is_fin


def test_a_fin_together_with_the_first_bytes(wan: Wan) -> None:
    """What `printf … | nc -N` does: the FIN is there before the dial begins."""
    server = wan.serve(answers(request=len(GET)))
    with Program(wan.client, {"a": forward(server)}) as program:
        for number in range(1, 4):
            with connect(program) as client:
                client.sendall(GET)
                client.shutdown(socket.SHUT_WR)
                assert read_all(client) == b"pong"
            program.session(number, reason="closed")
        with connect(program) as client:  # and nothing at all
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b""
        assert program.session(4)["up_bytes"] == 0
    server.wait(4)
    assert server.received == [GET, GET, GET, b""]


def test_the_servers_half_close_reaches_the_client_who_may_go_on(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET), closes=True))
    with Program(wan.client, {"a": forward(server)}) as program:
        with connect(program) as client:
            client.sendall(GET)
            assert read_all(client) == b"pong"
            for _ in range(3):
                client.sendall(b"and more")
                time.sleep(0.05)
        line = program.session(1)
        assert (line["ended_by"], line["reason"]) == ("upstream", "closed")
        assert line["up_bytes"] == len(GET) + 24
        seen = wan.capture().between(server.address)
        ends = [item for item in seen if item.packet.is_fin]
        assert [item.direction for item in ends] == [Direction.DOWN, Direction.UP]
    assert server.wait(1)[0].received == GET + b"and more" * 3


def test_the_clients_reset_is_passed_on_to_the_server(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)))
    with Program(wan.client, {"a": forward(server)}) as program:
        with connect(program) as client:
            client.sendall(GET)
            assert client.recv(100) == b"pong"
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        line = program.session(1)
        assert (line["ended_by"], line["during"], line["reason"]) == ("downstream", "relay", "reset")
        seen = wan.wait_for(lambda capture: bool(capture.between(server.address).resets()))
        ended = seen.between(server.address)
        assert not [item for item in ended.way(Direction.UP) if item.packet.is_fin], "a RST, not a FIN"
        assert ended.way(Direction.UP).resets()
    (conversation,) = server.wait(1)
    assert (conversation.ended, bytes(conversation.received)) == ("reset", GET)


def test_the_servers_reset_is_passed_on_to_the_client_after_what_it_had_said(wan: Wan) -> None:
    here = wan.fresh_address()
    with Server(wan.server, ("127.0.0.1", 0), resets(after=len(GET), reply=b"half")) as server:
        ends = {"a": forward(server, f"{here}:0")}
        with Program(wan.server, ends) as program:  # on the far side: its client comes over the line
            with connect(program) as client:
                client.sendall(GET)
                with pytest.raises(ConnectionResetError):
                    read_all(client)
            line = program.session(1)
            assert (line["ended_by"], line["during"], line["reason"]) == ("upstream", "relay", "reset")
            down = wan.capture().between(here).way(Direction.DOWN)
            assert down.resets()
            assert not [item for item in down if item.packet.is_fin], "a RST, not a FIN"
            if line["down_bytes"]:
                assert b"".join(item.payload for item in down) == b"half"
        assert server.received == [GET]


def test_a_client_that_resets_while_it_is_dialled(wan: Wan) -> None:
    nobody = (wan.unrouted_address(), 80)
    with Program(wan.client, {"a": forward(nobody, connect={"timeout": "600ms"})}) as program:
        idle = program.descriptors()
        with connect(program) as client:
            client.sendall(GET)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        program.session(1)
        until(lambda: program.descriptors() == idle)


# Pressure


@pytest.fixture
def near(wan: Wan) -> Iterator[list[Server]]:
    """Servers in the client's namespace, over loopback: for bulk."""
    servers: list[Server] = []
    yield servers
    for server in servers:
        server.close()


def stands_still(conversation: Conversation) -> int:
    """What it has sent once it has sent no more for a second; at most all there is."""
    held, since = 0, time.monotonic()
    while time.monotonic() - since < 1.0:
        time.sleep(0.05)
        if conversation.sent != held:
            held, since = conversation.sent, time.monotonic()
    return held


def pattern(size: int) -> bytes:
    return bytes(range(256)) * (size // 256)


def test_a_slow_client_holds_the_server_back_and_the_program_small(wan: Wan, near: list[Server]) -> None:
    near.append(Server(wan.client, ("127.0.0.1", 0), sends(MUCH)))
    with Program(wan.client, {"a": forward(near[0])}) as program:
        before = program.memory()
        with connect(program) as client:
            client.sendall(b"go")
            near[0].wait(1, ended=False)
            held = stands_still(near[0].conversations[0])
            assert held < KERNELS, "until somebody reads"
            assert program.memory() - before < 4 << 20
            assert read_all(client) == pattern(MUCH)
        line = program.session(1)
        assert (line["down_bytes"], line["up_bytes"]) == (MUCH, 2)
        assert program.memory() - before < 8 << 20


def test_a_slow_server_holds_the_client_back_and_the_program_small(wan: Wan, near: list[Server]) -> None:
    go_on = threading.Event()

    def patient(conversation: Conversation) -> None:
        go_on.wait(10)
        conversation.receive_all()

    near.append(Server(wan.client, ("127.0.0.1", 0), patient))
    data, sent = memoryview(pattern(MUCH)), 0
    with Program(wan.client, {"a": forward(near[0])}) as program:
        before = program.memory()
        with connect(program) as client:
            client.settimeout(0.5)
            with pytest.raises(TimeoutError):
                while True:
                    sent += client.send(data[sent : sent + 65536])
            assert sent < KERNELS
            assert program.memory() - before < 4 << 20
            go_on.set()
            client.settimeout(10)
            client.sendall(data[sent:])
        line = program.session(1)
        assert line["up_bytes"] == MUCH
    assert near[0].wait(1)[0].received == data


def test_bulk_both_ways_over_the_line(wan: Wan) -> None:
    size = 3 << 20
    server = wan.serve(echoes())
    data = pattern(size)
    with Program(wan.client, {"a": forward(server)}) as program:
        with connect(program) as client:

            def feed() -> None:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)

            feeder = threading.Thread(target=feed)
            feeder.start()
            assert read_all(client) == data
            feeder.join()
        line = program.session(1)
        assert (line["up_bytes"], line["down_bytes"], line["reason"]) == (size, size, "closed")
    assert server.wait(1)[0].received == data


# Time


def test_sessions_that_last_too_long_are_ended(wan: Wan) -> None:
    server = wan.serve(never_answers())
    halves = wan.serve(answers(request=len(GET), closes=True))
    busy = wan.serve(echoes())
    ends = {
        "idle": forward(server, timeouts={"idle": "1s"}),
        "half": forward(halves, timeouts={"half_closed": "1s"}),
        "life": forward(busy, timeouts={"lifetime": "1500ms"}),
        "none": forward(server, timeouts={"idle": "none", "half_closed": "none", "lifetime": "none"}),
    }
    with Program(wan.client, ends) as program:
        started = time.monotonic()
        clients = {name: connect(program, name) for name in ends}
        for client in clients.values():
            client.sendall(GET)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):  # never silent, and ended all the same
            while time.monotonic() - started < 30:
                clients["life"].sendall(b"x")
                clients["life"].recv(100)
                time.sleep(0.05)
        for name, reason in (("idle", "idle"), ("half", "half_closed"), ("life", "lifetime")):
            line = program.wait_for("session", listener=name)
            assert (line["ended_by"], line["during"], line["reason"]) == ("timeout", "relay", reason)
            assert 0.9 <= line["duration"] <= 20, "not ten minutes, which is the default"
        assert program.open_sessions() == 1
        for client in clients.values():
            client.close()
        line = program.wait_for("session", listener="none")
        assert line["reason"] == "closed"


def test_keepalive_is_sent_and_a_server_that_vanished_is_noticed(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)))
    keepalive = {"idle": "1s", "interval": "1s", "count": 2}
    with (
        Program(wan.client, {"a": forward(server, keepalive=keepalive)}) as program,
        connect(program) as client,
    ):
        client.sendall(GET)
        assert client.recv(100) == b"pong"
        seen = wan.capture().between(server.address)
        (syn,) = seen.syns()
        next_byte = (syn.packet.seq + 1 + len(GET)) & 0xFFFFFFFF

        def probes() -> int:
            up = wan.capture().between(server.address).way(Direction.UP)
            return len(
                [item for item in up if item.packet.seq == (next_byte - 1) & 0xFFFFFFFF and not item.payload]
            )

        until(lambda: probes() >= 2, timeout=6)
        with wan.through("drops"):
            line = program.session(1)
        assert (line["ended_by"], line["during"], line["reason"]) == ("upstream", "relay", "vanished")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
