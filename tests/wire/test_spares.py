"""Spare connections: the round trip that Fast Open cannot save is paid before the client comes."""

from __future__ import annotations

import ctypes
import signal
import socket
import statistics
import struct
import time
from collections.abc import Iterator

import pytest

from proxy.lab.behaviours import answers, speaks_first
from proxy.lab.clients import Exchange, ask
from proxy.lab.servers import Behaviour, Conversation, Server
from proxy.lab.wan import Wan
from tests.wire.program import GET, Program, forward, until

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.1), pytest.mark.slow]

SO_ATTACH_FILTER = 26
POST = b"POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 4\r\n\r\nbody"
TIMES = 12
PAUSE = 0.05


def closes_when_idle(seconds: float) -> Behaviour:
    """Answers a request, but ends a connection on which nothing came for so long."""
    answer = answers(request=len(GET))

    def behave(conversation: Conversation) -> None:
        conversation.socket.settimeout(seconds)
        answer(conversation)

    return behave


def deaf(conversation: Conversation) -> None:
    """From now on nothing reaches this connection: a firewall between has forgotten it (BPF: RET 0)."""
    code = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0))
    program = struct.pack("HL", 1, ctypes.addressof(code))
    conversation.socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def asked(
    program: Program, request: bytes = GET, times: int = TIMES, pause: float = PAUSE
) -> Iterator[Exchange]:
    for number in range(times):
        if number:
            time.sleep(pause)
        yield ask(program.address(), request, fast_open=False)


def first_bytes(exchanges: list[Exchange]) -> list[float]:
    times = [exchange.first_byte for exchange in exchanges if exchange.first_byte is not None]
    assert len(times) == len(exchanges), [exchange.error_name for exchange in exchanges]
    return times


def warm(program: Program) -> None:
    """Until the warm-up has found out that there is no Fast Open."""
    time.sleep(0.6)


def spares(program: Program) -> dict[str, int]:
    found: dict[str, int] = program.status()["spares"]
    return found


@pytest.mark.parametrize("preconnect", [2, "auto"])
def test_the_round_trip_is_saved_without_fast_open(wan: Wan, preconnect: object) -> None:
    server = wan.serve(answers(request=len(GET)), fast_open=None)
    with Program(wan.client, {"a": forward(server, warm_up=True, preconnect=preconnect)}) as program:
        warm(program)
        times = first_bytes(list(asked(program)))
        assert statistics.median(times) <= 1.15 * wan.rtt, times
        line = program.session(TIMES)
        lines = [program.session(number) for number in range(1, TIMES + 1)]
        assert sum("spare" in one for one in lines) == TIMES - 1
        assert line["spare"] is True
        assert (line["open"], line["evidence"], line["standing_before"]) == ("spare", "plain", "unsupported")
        saved = [one["saved"] for one in lines if "spare" in one]
        assert min(saved) == pytest.approx(wan.rtt, rel=0.05)
        status = program.status()
        assert status["spares"]["taken"] == status["on_spares"] == TIMES - 1
        assert status["round_trips_saved"] == status["round_trips_saved_by_spares"] == TIMES - 1
        assert status["seconds_saved_by_spares"] == pytest.approx(sum(saved), abs=1e-4)
        assert status["sessions"] == TIMES
    assert [received for received in server.received if received] == [GET] * TIMES


def ready(program: Program, number: int = 1) -> None:
    until(lambda: spares(program)["ready"] >= number)


def unused(server: Server) -> Conversation:
    """The server's end of the one spare, once its handshake has ended there too."""
    time.sleep(0.1)
    (spare,) = [one for one in server.conversations if not one.received and not one.ended]
    return spare


def warmed_up(program: Program, count: int = 2) -> None:
    """A few sessions, and a spare is ready for the next."""
    warm(program)
    first_bytes(list(asked(program, times=count)))
    ready(program)


@pytest.mark.parametrize("end", ["fin", "reset", "deaf"])
def test_a_spare_that_dies_as_it_is_taken_costs_a_plain_dial_and_nothing_else(wan: Wan, end: str) -> None:
    server = wan.serve(answers(request=len(GET)), fast_open=None)
    with Program(wan.client, {"a": forward(server, warm_up=True, preconnect=1)}) as program:
        warmed_up(program)
        victim = unused(server)
        match end:
            case "fin":
                victim.finish()
                victim.abandon()
            case "reset":
                victim.reset()
            case _:
                deaf(victim)
        program.session(2)
        (time_taken,) = first_bytes(list(asked(program, times=1)))
        assert time_taken <= (3.2 if end != "deaf" else 6.5) * wan.rtt
        line = program.session(3)
        assert line["ended_by"] == "downstream"
        assert (line["reason"], "spare" in line) == ("closed", False)
        assert 0 < line["dead_spare"] <= time_taken - 1.9 * wan.rtt
        assert line["repeated_bytes"] == len(GET)
        assert line["lost"] == pytest.approx(time_taken - 2 * wan.rtt, abs=0.01)
        status = program.status()
        assert status["dead_spares"] == 1
        assert status["spares"]["wasted"] >= 1


def test_a_server_that_closes_idle_connections_fails_no_session_and_slows_none(wan: Wan) -> None:
    """How long it lets them live is learned, so they are not taken near their end."""
    server = wan.serve(closes_when_idle(1.0), fast_open=None)
    with Program(wan.client, {"a": forward(server, warm_up=True, preconnect=2)}) as program:
        warm(program)
        for pause in (0.0, 0.3, 0.98, 1.03, 1.06, 0.97, 0.4, 1.5, 0.2, 0.2, 0.93):
            time.sleep(pause)
            (taken,) = first_bytes(list(asked(program, times=1)))
            assert taken <= 3.1 * wan.rtt
        times = first_bytes(list(asked(program)))
        assert statistics.median(times) <= 1.2 * wan.rtt
        assert spares(program)["wasted"] > 0
        assert {line["reason"] for line in program.events("session")} == {"closed"}


@pytest.mark.parametrize("server_first", ["yes", "auto"])
def test_a_banner_that_came_early_is_kept_for_its_client(wan: Wan, server_first: str) -> None:
    server = wan.serve(speaks_first(b"220 ready\r\n"), port=25, fast_open=None)
    cluster = forward(server, warm_up=True, preconnect=2, server_first=server_first)
    with Program(wan.client, {"a": cluster}) as program:
        warm(program)
        exchanges = list(asked(program, b"", pause=0.25))
        assert {exchange.reply for exchange in exchanges} == {b"220 ready\r\n"}
        times = first_bytes(exchanges)
        assert times[0] >= 1.9 * wan.rtt
        assert statistics.median(times[1:]) <= 0.1 * wan.rtt
        lines = [program.session(number) for number in range(2, TIMES + 1)]
        assert all(line["spare"] is True for line in lines)
        assert min(line["saved"] for line in lines) == pytest.approx(2 * wan.rtt, rel=0.05)


def test_what_must_not_be_said_twice_is_never_put_on_a_spare(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)), fast_open=None)
    with Program(wan.client, {"a": forward(server, warm_up=True, preconnect=2)}) as program:
        warmed_up(program)
        taken = spares(program)["taken"]
        first_bytes(list(asked(program, POST, times=4)))
        program.session(6)
        assert sum("spare" in line for line in program.events("session")) == taken
        assert spares(program)["taken"] == taken
    assert server.received.count(POST) == 4


def test_the_operator_may_say_that_all_may_be_said_twice(wan: Wan) -> None:
    server = wan.serve(answers(request=len(POST)), fast_open=None)
    cluster = forward(server, warm_up=True, preconnect=2, replay="any")
    with Program(wan.client, {"a": cluster}) as program:
        warm(program)
        times = first_bytes(list(asked(program, POST)))
        assert statistics.median(times) <= 1.15 * wan.rtt
    assert [received for received in server.received if received] == [POST] * TIMES


@pytest.mark.parametrize("fast_open", ["off", "auto"])
def test_only_where_fast_open_does_not_work(wan: Wan, fast_open: str) -> None:
    server = wan.serve(answers(request=len(GET)), fast_open=256)
    with Program(wan.client, {"a": forward(server, fast_open=fast_open, preconnect=2)}) as program:
        times = first_bytes(list(asked(program)))
        assert statistics.median(times) <= 1.15 * wan.rtt
        assert (spares(program)["taken"] > 0) == (fast_open == "off")
    if fast_open == "auto":
        assert server.received == [GET] * TIMES


def test_what_the_client_says_and_ends_meanwhile_comes_in_order(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET + POST)), fast_open=None)
    with Program(wan.client, {"a": forward(server, fast_open="off", preconnect=1)}) as program:
        first_bytes(list(asked(program, GET + POST, times=1)))
        with socket.create_connection(program.address()) as client:
            client.sendall(GET)
            time.sleep(0.02)
        ready(program)
        with socket.create_connection(program.address()) as client:
            client.sendall(GET)
            time.sleep(0.02)
            client.sendall(POST)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(100) == b"pong"
            assert client.recv(100) == b""
        assert program.wait_for("session", early_bytes=len(GET), spare=True)["up_bytes"] == len(GET + POST)
    assert server.received.count(GET + POST) == 2


def test_a_drain_closes_them(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)), fast_open=None)
    with Program(wan.client, {"a": forward(server, fast_open="off", preconnect=3)}) as program:
        first_bytes(list(asked(program, times=4)))
        ready(program, 3)
        with socket.create_connection(program.address()) as client:  # keeps the program draining
            client.sendall(GET)
            assert client.recv(100) == b"pong"
            program.signal(signal.SIGTERM)
            program.wait_for("draining")
            until(lambda: sum(not one.ended for one in server.conversations) == 1)
        assert program.end() == 0


def test_when_nobody_comes_any_more_nothing_is_left(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)), fast_open=None)
    with Program(wan.client, {"a": forward(server, fast_open="off", preconnect="auto")}) as program:
        before = program.descriptors()
        first_bytes(list(asked(program, times=6)))
        until(lambda: spares(program)["ready"] > 0)
        until(lambda: program.descriptors() == before, timeout=15)
        until(lambda: all(one.ended for one in server.conversations))
        assert spares(program)["ready"] == 0


def test_a_server_that_is_gone_is_not_pestered(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)), fast_open=None)
    with Program(wan.client, {"a": forward(server, fast_open="off", preconnect=2)}) as program:
        first_bytes(list(asked(program, times=3)))
        server.close()
        until(lambda: spares(program)["ready"] == 0)
        wan.forget()
        for exchange in asked(program, times=10):
            assert not exchange.reply
        time.sleep(0.5)
        assert len(wan.capture().syns(dst=server.address)) <= 10 + 4
