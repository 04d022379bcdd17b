"""The promise, in round trips: one for a warm connection, two for a cold one, two where Fast Open does not work.

Medians of twenty, at 100 ms: what the protocol owes, with 5 ms for everything that is not the wire.
"""

from __future__ import annotations

import statistics

import pytest

from proxy.lab.behaviours import answers, speaks_first
from proxy.lab.clients import ask
from proxy.lab.wan import Wan
from tests.wire.program import GET, Program, forward

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.1), pytest.mark.slow]

TIMES = 20


def median(times: list[float]) -> float:
    assert len(times) == TIMES
    return statistics.median(times)


def test_warm(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)))
    times = []
    with Program(wan.client, {"a": forward(server, hedge="1s")}) as program:
        for _ in range(TIMES + 1):
            asked = ask(program.address(), GET, fast_open=False)
            assert asked.first_byte is not None
            times.append(asked.first_byte)
        assert program.session(TIMES + 1)["evidence"] == "syn_data_acked"
        assert median(times[1:]) <= 1.05 * wan.rtt
        syns = wan.capture().syns(dst=server.address)
        assert [bool(syn.payload) for syn in syns] == [False] + [True] * TIMES
    server.wait(TIMES + 1)
    assert server.received == [GET] * (TIMES + 1)


def test_first_contact(wan: Wan) -> None:
    servers = [wan.serve(answers(request=len(GET))) for _ in range(TIMES)]
    times = []
    with Program(wan.client, {f"s{n}": forward(server) for n, server in enumerate(servers)}) as program:
        for number in range(TIMES):
            asked = ask(program.address(f"s{number}"), GET, fast_open=False)
            assert asked.first_byte is not None
            times.append(asked.first_byte)
            assert program.session(number + 1)["evidence"] == "cookie_requested"
        assert median(times) <= 2.05 * wan.rtt
    assert [server.received for server in servers] == [[GET]] * TIMES


def test_a_server_without_fast_open(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)), fast_open=None)
    times = []
    with Program(wan.client, {"a": forward(server)}) as program:
        for _ in range(TIMES):
            asked = ask(program.address(), GET, fast_open=False)
            assert asked.first_byte is not None
            times.append(asked.first_byte)
        assert median(times) <= 2.05 * wan.rtt
        assert program.session(TIMES)["standing_after"] == "unsupported"
    server.wait(TIMES)
    assert server.received == [GET] * TIMES


def test_a_server_that_speaks_first(wan: Wan) -> None:
    """One round trip as well: the empty open lets it speak as soon as the SYN is there."""
    server = wan.serve(speaks_first(b"220 ready\r\n"))
    times = []
    with Program(wan.client, {"a": forward(server, server_first="yes")}) as program:
        for _ in range(TIMES + 1):
            asked = ask(program.address(), b"", fast_open=False)
            assert asked.first_byte is not None
            times.append(asked.first_byte)
        assert median(times[1:]) <= 1.05 * wan.rtt


@pytest.mark.parametrize("warm", [False, True])
def test_a_client_that_fast_opens_to_us_saves_its_own_round_trip_too(wan: Wan, warm: bool) -> None:
    """The program stands on the far side: from the client's SYN to its first byte it is one round trip, not two."""
    here = wan.fresh_address()
    server = wan.serve(answers(request=len(GET)))
    times = []
    with Program(wan.server, {"a": forward(server, f"{here}:0")}) as program:
        for _ in range(TIMES + 1):
            asked = ask(program.address(), GET, fast_open=warm)
            assert asked.first_byte is not None
            times.append(asked.first_byte)
        assert round(median(times[1:]) / wan.rtt) == (1 if warm else 2)
