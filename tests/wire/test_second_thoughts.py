"""An endpoint that has taken SYN data and is not yet known to answer it: what may be doubted, and what may not."""

from __future__ import annotations

import socket
import time

import pytest

from proxy.lab.behaviours import answers, never_answers
from proxy.lab.clients import ask
from proxy.lab.servers import Conversation
from proxy.lab.wan import Wan
from tests.wire.program import GET, Program, forward

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.06)]


def test_a_server_that_waits_for_more_is_not_taken_for_a_silent_path(wan: Wan) -> None:
    """The client speaks again before any answer: the rest goes to the connection that is there, and at once."""
    server = wan.serve(answers(b"thanks", request=8))
    with Program(wan.client, {"a": forward(server, replay="any", server_first="no")}) as program:
        for number in range(1, 5):
            wan.forget()
            with socket.create_connection(program.address()) as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.sendall(b"head")
                time.sleep(0.01)
                client.sendall(b"tail")
                assert client.recv(100) == b"thanks"
            line = program.session(number)
            assert len(wan.capture().syns(dst=server.address)) == 1, "no second connection"
            assert not line.get("hedged")
        line = program.session(4)
        assert (line["evidence"], line["standing_after"]) == ("syn_data_acked", "confirmed")
    server.wait(4)
    assert server.received == [b"headtail"] * 4


def test_a_client_that_ends_after_its_request_is_told_to_the_server_at_once(wan: Wan) -> None:
    def counts(conversation: Conversation) -> None:
        conversation.receive_all()
        conversation.send(b"%d" % len(conversation.received))

    server = wan.serve(counts)
    with Program(wan.client, {"a": forward(server, hedge="1s")}) as program:
        for number in (1, 2):
            with socket.create_connection(program.address()) as client:
                client.sendall(GET)
                client.shutdown(socket.SHUT_WR)
                assert client.recv(100) == b"%d" % len(GET)
            line = program.session(number)
            assert line["first_byte"] < 0.5, "the server did not have to wait for the hedge"
            assert not line.get("hedged")
    assert [bytes(one.received) for one in server.wait(2)] == [GET, GET]


@pytest.mark.parametrize("ends", [False, True], ids=["waits", "ends"])
def test_a_path_that_falls_silent_costs_one_session_a_hedge_and_no_session_its_answer(
    wan: Wan, ends: bool
) -> None:
    server = wan.serve(answers(request=len(GET)))
    with Program(wan.client, {"a": forward(server, hedge="150ms")}) as program:
        ask(program.address(), GET, fast_open=False)
        program.session(1)
        with wan.through("silent-after-handshake"):
            for number in (2, 3, 4):
                with socket.create_connection(program.address()) as client:
                    client.settimeout(3)
                    client.sendall(GET)
                    if ends:
                        client.shutdown(socket.SHUT_WR)
                    assert client.recv(100) == b"pong"
                line = program.session(number)
                if number < 4:
                    assert (line["evidence"], line["hedged"]) == ("silent", True)
                    assert line["repeated_bytes"] == len(GET)
            assert (line["standing_before"], line["evidence"]) == ("quarantined", "plain")
    assert set(map(bytes, server.received)) == {GET}


def test_a_slow_server_keeps_the_connection_that_it_has(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET), delay=0.4))
    with Program(wan.client, {"a": forward(server)}) as program:
        for number in range(1, 5):
            wan.forget()
            assert ask(program.address(), GET, fast_open=False).reply == b"pong"
            line = program.session(number)
            dialled = len(wan.capture().syns(dst=server.address))
            assert dialled == (2 if number == 2 else 1), "once, and then it is known to answer"
        line = program.session(4)
        assert (line["evidence"], line["standing_after"]) == ("syn_data_acked", "confirmed")


def test_hedge_off_never_dials_twice(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET), delay=0.7))
    with Program(wan.client, {"a": forward(server, hedge="off", connect={"timeout": "300ms"})}) as program:
        for number in (1, 2, 3):
            wan.forget()
            assert ask(program.address(), GET, fast_open=False).reply == b"pong"
            assert not program.session(number).get("hedged")
            assert len(wan.capture().syns(dst=server.address)) == 1
    server.wait(3)
    assert server.received == [GET] * 3


def test_a_server_that_never_answers_is_ended_by_the_sessions_own_clock(wan: Wan) -> None:
    server = wan.serve(never_answers())
    ends = forward(server, timeouts={"idle": "1s"}, hedge="100ms", connect={"timeout": "400ms"})
    with Program(wan.client, {"a": ends}) as program:
        idle = program.descriptors()
        for number in (1, 2):
            with socket.create_connection(program.address()) as client:
                client.settimeout(6)
                client.sendall(GET)
                with pytest.raises(ConnectionResetError):
                    client.recv(100)
            line = program.session(number)
            assert (line["ended_by"], line["during"], line["reason"]) == ("timeout", "relay", "idle")
        assert (line["syn_bytes"], line["evidence"], line["hedged"]) == (len(GET), "syn_data_acked", True)
        assert line["dials"][-1]["open"] == "plain", (
            "the plain connection is used, and has not answered either"
        )
        assert program.descriptors() == idle
    assert set(map(bytes, server.received)) == {GET}
