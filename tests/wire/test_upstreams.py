"""Servers and paths as they are: quick, patient, absent, silent, rude; and a kernel that will not fast-open."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from proxy.lab.behaviours import answers, resets
from proxy.lab.clients import ask
from proxy.lab.rules import Direction
from proxy.lab.wan import Wan
from tests.wire.program import GET, Program, forward

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.06)]

WARM = 5


def test_the_server_answers_before_the_handshake_is_over(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)))
    ahead, lines = [], []
    with Program(wan.client, {"a": forward(server, hedge="off")}) as program:
        ask(program.address(), GET, fast_open=False)
        program.session(1)
        for number in range(2, 2 + WARM):
            wan.forget()
            assert ask(program.address(), GET, fast_open=False).reply == b"pong"
            lines.append(program.session(number))
            seen = wan.capture().between(server.address)
            pong = next(item for item in seen.way(Direction.DOWN) if item.payload)
            ack = next(item for item in seen.way(Direction.UP) if not item.packet.is_syn)
            assert ack.left is not None
            ahead.append(ack.left - pong.entered)
    # The server's own processor may keep one answer waiting; no processor makes one come sooner.
    assert max(ahead) > 0, "the answer was on its way before our ACK arrived"
    assert {line["evidence"] for line in lines} == {"syn_data_acked"}
    assert wan.rtt <= min(line["first_byte"] for line in lines) < 1.5 * wan.rtt
    _, *warm = server.wait(1 + WARM)
    assert all(one.had_syn_data for one in warm)
    assert server.received == [GET] * (1 + WARM)


@pytest.mark.parametrize("late", [False, True], ids=["first bytes", "first bytes late"])
def test_a_server_that_defers_accepting(wan: Wan, late: bool) -> None:
    server = wan.serve(answers(request=len(GET)), defer_accept=5)
    waits = {} if late else {"first_bytes": "5s"}
    with Program(wan.client, {"a": forward(server, hedge="off", timeouts=waits)}) as program:
        for number in (1, 2):
            wan.forget()
            with socket.create_connection(program.address()) as client:
                if late:
                    wan.wait_for(lambda seen: bool(seen.syns(dst=server.address)))
                client.sendall(GET)
                assert client.recv(100) == b"pong"
            line = program.session(number)
        (syn,) = wan.capture().syns(dst=server.address)
        assert syn.payload == (b"" if late else GET)
        assert line["evidence"] == ("plain" if late else "syn_data_acked"), "late first bytes win nothing"
    server.wait(2)
    assert server.received == [GET, GET]


@pytest.fixture
def no_fast_open(wan: Wan) -> Iterator[None]:
    wan.client.sysctl("net.ipv4.tcp_fastopen", 0)
    yield
    wan.client.sysctl("net.ipv4.tcp_fastopen", 1)


def test_a_kernel_that_will_not_fast_open_is_said_once_and_costs_nothing(
    wan: Wan, no_fast_open: None
) -> None:
    server = wan.serve(answers(request=len(GET)))
    with Program(wan.client, {"a": forward(server, hedge="off")}) as program:
        for number in range(1, 4):
            wan.forget()
            assert ask(program.address(), GET, fast_open=False).reply == b"pong"
            line = program.session(number)
            (syn,) = wan.capture().syns(dst=server.address)
            assert (syn.packet.fast_open, syn.payload) == (None, b"")
            assert (line["evidence"], line["syn_bytes"]) == ("unavailable", 0)
            assert line["reason"] == "closed"
        (said,) = program.events("fast_open_unavailable")
        assert "net.ipv4.tcp_fastopen" in said["do"]
        assert (said["level"], said["errno"]) in {("warning", "EOPNOTSUPP"), ("warning", "ENOTSUP")}
    server.wait(3)
    assert server.received == [GET] * 3


def outcome(program: Program, request: bytes = GET) -> tuple[str, float]:
    """How a client sees a session that must fail: its error, and after how long."""
    started = time.monotonic()
    with socket.create_connection(program.address()) as client:
        client.settimeout(15)
        try:
            client.sendall(request)
            data = client.recv(100)
        except OSError as error:
            return type(error).__name__, time.monotonic() - started
        return repr(data), time.monotonic() - started


def test_refused(wan: Wan) -> None:
    nobody = (wan.fresh_address(), 81)
    with Program(wan.client, {"a": forward(nobody)}) as program:
        assert outcome(program)[0] == "ConnectionResetError"
        line = program.session(1)
        assert (line["ended_by"], line["during"], line["reason"]) == ("upstream", "dial", "refused")
        assert "ECONNREFUSED" in line["detail"]
        seen = wan.capture().between(nobody)
        assert len(seen.syns()) <= 2, "the fast open, and one plain dial to make sure"
        assert len(seen.resets()) == len(seen.syns())
        assert (line["up_bytes"], line["down_bytes"]) == (0, 0)


def test_refused_after_syn_data_is_checked_by_one_plain_dial(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)))
    with Program(wan.client, {"a": forward(server)}) as program:
        for number in (1, 2):
            ask(program.address(), GET, fast_open=False)
            program.session(number)
        wan.forget()
        with wan.through("resets-syn-data"):
            assert ask(program.address(), GET, fast_open=False).reply == b"pong"
        line = program.session(3)
        fast, plain = wan.capture().syns(dst=server.address)
        assert (fast.payload, plain.payload, plain.packet.fast_open) == (GET, b"", None)
        assert (line["evidence"], line["redialled"]) == ("refused", True)
        assert line["standing_after"] == "data_doubted"
        server.close()
        wan.forget()
        assert outcome(program)[0] == "ConnectionResetError"
        line = program.session(4)
        assert (line["reason"], line["ended_by"]) == ("refused", "upstream")
        assert len(wan.capture().syns(dst=server.address)) <= 2
    assert server.received == [GET] * 3


@contextlib.contextmanager
def unreachable(wan: Wan, network: str, far: bool) -> Iterator[None]:
    """No way to that network: we know it ourselves, or a router far away says so."""
    namespace = wan.server if far else wan.client
    done = namespace.run(["ip", "route", "add", "unreachable", network])
    assert done.returncode == 0, done.stderr
    forwarding = wan.server.sysctl("net.ipv4.ip_forward")
    wan.server.sysctl("net.ipv4.ip_forward", 1)
    try:
        yield
    finally:
        wan.server.sysctl("net.ipv4.ip_forward", forwarding)
        namespace.run(["ip", "route", "del", "unreachable", network])


@pytest.mark.parametrize("far", [False, True], ids=["no route", "icmp"])
def test_unreachable(wan: Wan, far: bool) -> None:
    with (
        unreachable(wan, "10.99.0.0/24", far),
        Program(wan.client, {"a": forward(("10.99.0.1", 80), connect={"timeout": "60s"})}) as program,
    ):
        assert outcome(program)[0] == "ConnectionResetError", "and not after a minute"
        line = program.session(1)
        assert (line["ended_by"], line["during"], line["reason"]) == ("upstream", "dial", "unreachable")
        assert "UNREACH" in line["detail"]
        assert len(wan.capture().syns(dst="10.99.0.1")) == (2 if far else 0)


def test_nobody_answers(wan: Wan) -> None:
    nobody = (wan.unrouted_address(), 80)
    with Program(wan.client, {"a": forward(nobody, connect={"timeout": "400ms"})}) as program:
        error, took = outcome(program)
        assert error == "ConnectionResetError"
        assert 0.4 <= took < 5, "not as long as without a timeout of its own"
        line = program.session(1)
        assert (line["ended_by"], line["during"], line["reason"]) == ("timeout", "dial", "connect_timeout")
        assert wan.capture().syns(dst=nobody)
        wan.forget()
        time.sleep(1.2)
        assert not wan.capture().between(nobody), "the kernel no longer tries: the socket is closed"


def test_the_next_endpoint_is_tried(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)))
    dead = f"{wan.fresh_address()}:81"
    cluster = forward(server, endpoints=[dead, f"{server.address[0]}:80"])
    with Program(wan.client, {"a": cluster}) as program:
        assert ask(program.address(), GET, fast_open=False).reply == b"pong"
        line = program.session(1)
        assert (line["tried"], line["endpoint"]) == (2, f"{server.address[0]}:80")
    assert server.wait(1)[0].received == GET


@pytest.mark.parametrize("reply", [b"", b"half an ans"], ids=["at once", "in mid-answer"])
def test_a_server_that_resets(wan: Wan, reply: bytes) -> None:
    """A RST in place of an answer could be the path's: the request is made once more, plainly, and then no more."""
    server = wan.serve(resets(after=len(GET), reply=reply))
    with Program(wan.client, {"a": forward(server, hedge="off")}) as program:
        for number in (1, 2):
            wan.forget()
            with socket.create_connection(program.address()) as client:
                client.sendall(GET)
                got = b""
                with pytest.raises(ConnectionResetError):
                    while data := client.recv(100):
                        got += data
            assert reply.startswith(got)
            line = program.session(number)
            assert (line["ended_by"], line["during"], line["reason"]) == ("upstream", "relay", "reset")
            assert bool(line.get("redialled")) == (not reply and number == 1)
        assert line["evidence"] == ("syn_data_acked" if reply else "plain")
        assert len(wan.capture().syns(dst=server.address)) == 1, "the request is not made twice"
        assert wan.capture().between(server.address).way(Direction.DOWN).resets()
    assert server.received == [GET] * (2 if reply else 3)


@pytest.mark.parametrize("name", ["drops-option", "drops-syn-data"])
def test_a_refusal_behind_a_lost_fast_open_is_the_end_and_is_learned(wan: Wan, name: str) -> None:
    """The plain dial beside it is refused: nothing is waited for any more, and later sessions dial plainly."""
    server = wan.serve(answers())
    assert ask(server.address, b"", expect=0).error == 0  # leaves a cookie for the host
    ends = forward(server, endpoints=[f"{server.address[0]}:{port}" for port in (81, 82)], warm_up=False)
    with wan.through(name), Program(wan.client, {"a": ends}) as program:
        for number in (1, 2, 3):
            ask(program.address(), GET, fast_open=False, expect=1)
            line = program.session(number)
            assert (line["reason"], line["tried"]) == ("refused", 2)
            assert [one["open"] for one in line["dials"]].count("plain") == 2
            assert len(line["dials"]) == (3 if number == 1 else 2)
            assert line["duration"] < (0.8 if number == 1 else 0.3)
