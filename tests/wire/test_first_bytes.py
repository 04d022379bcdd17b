"""First bytes of every size: what of them travels in the SYN, and that all of them arrive once and in order."""

from __future__ import annotations

import random

import pytest

from proxy.lab.behaviours import answers, speaks_first
from proxy.lab.capture import Capture
from proxy.lab.clients import ask
from proxy.lab.rules import Direction
from proxy.lab.wan import Wan
from tests.wire.program import GET, Line, Program, forward

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.06)]

ROOM = {
    4: 1420,
    6: 1400,
}  # MTU 1500 less the headers, and 40 bytes for TCP options (tcp_fastopen_defer_connect)


def sequence(capture: Capture) -> int:
    """How many bytes the client sent in all, repeated ones once."""
    (syn, *_) = capture.syns()
    ends = [item.packet.seq + item.packet.payload_length for item in capture.way(Direction.UP)]
    return (max(ends) - syn.packet.seq - 1) & 0xFFFFFFFF


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("size", "syn_data", "in_syn"),
    [
        pytest.param(1, "auto", 1, id="one byte"),
        pytest.param(500, 500, 500, id="exactly syn_data"),
        pytest.param(501, 500, 500, id="one more than syn_data"),
        pytest.param(3000, "auto", None, id="more than the MSS"),
        pytest.param(65 * 1024, "auto", None, id="65 KiB"),
    ],
)
def test_first_bytes_cold_and_warm(
    wan: Wan, size: int, syn_data: object, in_syn: int | None, version: int
) -> None:
    data = random.Random(size).randbytes(size)
    server = wan.serve(answers(b"thanks", request=size), version=version)
    in_syn = ROOM[version] if in_syn is None else in_syn
    with Program(wan.client, {"a": forward(server, replay="any", syn_data=syn_data, hedge="off")}) as program:
        for number, expected in ((1, 0), (2, in_syn)):
            wan.forget()
            asked = ask(program.address(), data, fast_open=False, expect=6)
            assert asked.reply == b"thanks"
            assert asked.error == 0
            line = program.session(number)
            seen = wan.capture().between(server.address)
            (syn,) = seen.syns()
            assert syn.payload == data[:expected]
            assert line["syn_bytes"] == expected
            assert (line["up_bytes"], line["down_bytes"]) == (size, 6)
            assert sequence(seen) - size in (0, 1), "a FIN counts as one"
        assert line["evidence"] == "syn_data_acked"
        (syn_ack,) = seen.syn_acks()
        assert (syn_ack.packet.ack - syn.packet.seq - 1) & 0xFFFFFFFF == in_syn
        if size > in_syn:  # the rest goes on when the handshake is over
            assert syn_ack.left is not None
            later = [item for item in seen.way(Direction.UP) if item.payload and item is not syn]
            assert all(item.entered >= syn_ack.left for item in later)
    server.wait(2)
    assert server.received == [data, data]


@pytest.mark.parametrize(("replay", "expected"), [("safe", 0), ("none", 0), ("any", 40)])
def test_unknown_bytes_ride_in_the_syn_only_where_the_operator_says_so(
    wan: Wan, replay: str, expected: int
) -> None:
    data = bytes(range(40))
    server = wan.serve(answers(request=len(data)))
    with Program(wan.client, {"a": forward(server, replay=replay, hedge="off")}) as program:
        for number in (1, 2):
            wan.forget()
            assert ask(program.address(), data, fast_open=False).reply == b"pong"
            line = program.session(number)
        (syn,) = wan.capture().syns(dst=server.address)
        assert (len(syn.payload), line["syn_bytes"]) == (expected, expected)
        assert (line["open"] == "plain") is (expected == 0), "an empty fast open could win nothing"
    server.wait(2)
    assert server.received == [data, data]


def test_only_the_safe_part_of_the_first_bytes_rides_in_the_syn(wan: Wan) -> None:
    post = b"POST /pay HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\n100"
    server = wan.serve(answers(request=len(GET + post)))
    with Program(wan.client, {"a": forward(server, hedge="off")}) as program:
        for number in (1, 2):
            wan.forget()
            assert ask(program.address(), GET + post, fast_open=False).reply == b"pong"
            line = program.session(number)
        (syn,) = wan.capture().syns(dst=server.address)
        assert GET.startswith(syn.payload)
        assert line["syn_bytes"] == len(syn.payload)
        assert line["up_bytes"] == len(GET + post)
    server.wait(2)
    assert server.received == [GET + post] * 2


def test_without_first_bytes_the_open_is_empty_and_the_server_speaks_at_once(wan: Wan) -> None:
    banner = b"220 ready\r\n"
    server = wan.serve(speaks_first(banner, b"221 bye\r\n"))
    line: Line = {}
    with Program(wan.client, {"a": forward(server, server_first="yes", hedge="off")}) as program:
        for number in range(1, 6):
            wan.forget()
            asked = ask(program.address(), b"", fast_open=False, expect=len(banner))
            assert asked.reply == banner
            line = program.session(number)
        (syn,) = wan.capture().syns(dst=server.address)
        assert not syn.payload
        assert len(syn.cookie or b"") >= 4
        assert (line["open"], line["evidence"]) == ("empty", "empty_open")
        waited = [program.session(number)["first_byte"] for number in range(2, 6)]
        assert min(waited) < 1.5 * wan.rtt, "one round trip, not two"
