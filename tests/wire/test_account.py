"""What the status says was won and lost, beside what the lab saw on the wire."""

from __future__ import annotations

from itertools import pairwise
from statistics import median

import pytest

from proxy.lab.behaviours import answers, speaks_first
from proxy.lab.capture import Capture
from proxy.lab.clients import ask
from proxy.lab.servers import Server
from proxy.lab.wan import Wan
from tests.wire.program import GET, Line, Program, forward

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.1)]

SESSIONS = 6


def sessions(program: Program, request: bytes, count: int) -> tuple[Line, list[Line]]:
    """What the status says after so many, and what the log says of each."""
    lines = []
    for number in range(count):
        assert ask(program.address(), request, fast_open=False).reply
        lines.append(program.session(number + 1))
    return program.status(), lines


def told(lines: list[Line], name: str) -> list[float]:
    return [line.get(name, 0.0) for line in lines]


def ratio(said: list[float], seen: list[float]) -> float:
    """Of what the log says to what the wire says, in the middle: a stop between the two falsifies one of them only."""
    return median(one / other for one, other in zip(said, seen, strict=True))


def round_trips(capture: Capture, server: Server) -> list[float]:
    """From every SYN that the server answered until its SYN-ACK was here, in seconds of the lab's clock."""
    answers = {item.packet.reverse_flow: item.left for item in capture.syn_acks(src=server.address)}
    times = []
    for item in capture.syns(dst=server.address):
        left = answers.get(item.packet.flow)
        if left is not None:
            times.append(left - item.entered)
    return times


def test_seconds_saved_by_syn_data(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)))
    with Program(wan.client, {"a": forward(server)}) as program:
        status, lines = sessions(program, GET, SESSIONS)
    _cold, *warm = round_trips(wan.capture(), server)
    assert status["round_trips_saved"] == len(warm) == SESSIONS - 1
    assert ratio(told(lines, "saved")[1:], warm) == pytest.approx(1.0, rel=0.05)
    assert status["seconds_saved"] == pytest.approx(sum(told(lines, "saved")), abs=1e-4)
    assert median(told(lines, "lost")) < 0.05 * wan.rtt
    assert status["seconds_net"] == pytest.approx(status["seconds_saved"] - status["seconds_lost"])


def test_seconds_saved_by_empty_opens(wan: Wan) -> None:
    server = wan.serve(speaks_first(b"220 ready\r\n"))
    with Program(wan.client, {"a": forward(server, server_first="yes")}) as program:
        status, lines = sessions(program, b"", SESSIONS)
    _cold, *warm = round_trips(wan.capture(), server)
    assert status["round_trips_saved"] == len(warm) == SESSIONS - 1
    assert ratio(told(lines, "saved")[1:], warm) == pytest.approx(1.0, rel=0.05)
    assert status["seconds_saved"] == pytest.approx(sum(told(lines, "saved")), abs=1e-4)


def test_seconds_lost_by_hedges(wan: Wan) -> None:
    """Two SYNs are lost until the path is known; each costs the time until the plain dial began."""
    server = wan.serve(answers(request=len(GET)))
    with Program(wan.client, {"a": forward(server)}) as program, wan.through("drops-syn-data"):
        status, lines = sessions(program, GET, SESSIONS)
    syns = list(wan.capture().syns(dst=server.address))
    waits = [plain.entered - lost.entered for lost, plain in pairwise(syns) if lost.dropped]
    assert (len(waits), status["hedges"]) == (2, 2)
    assert (status["round_trips_saved"], status["seconds_saved"]) == (0, 0)
    lost = [line["lost"] for line in lines if line.get("hedged")]
    assert min(abs(one / other - 1) for one, other in zip(lost, waits, strict=True)) < 0.05
    assert status["seconds_lost"] == pytest.approx(sum(told(lines, "lost")), abs=1e-4)
    assert status["repeated_bytes"] == 2 * len(GET)


def test_nothing_is_won_or_lost_where_fast_open_does_not_work(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)), fast_open=None)
    with Program(wan.client, {"a": forward(server)}) as program:
        status, lines = sessions(program, GET, SESSIONS)
    assert (status["round_trips_saved"], status["seconds_saved"]) == (0, 0)
    assert median(told(lines, "lost")) < 0.05 * wan.rtt
