"""The four exchanges that define the protocol (RFC 7413 section 3), made by the program and seen on the wire."""

from __future__ import annotations

import pytest

from proxy.core.fastopen import UNCOUNTED
from proxy.lab.behaviours import answers
from proxy.lab.capture import Capture
from proxy.lab.clients import ask
from proxy.lab.rules import Direction
from proxy.lab.servers import Server
from proxy.lab.wan import Wan
from tests.wire.program import GET, Program, forward

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.06)]

REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong"


def conversation(wan: Wan, server: Server) -> Capture:
    """The packets of the last connection to the server, once its last FIN is there."""
    seen = wan.wait_for(
        lambda capture: (
            len({item.packet.flow for item in capture.between(server.address) if item.packet.is_fin}) >= 2
        )
    )
    return seen.between(server.address)


def data_to(server: Server, capture: Capture) -> list[bytes]:
    """The payloads sent to the server, the SYN's included, as they entered the line."""
    return [item.payload for item in capture.way(Direction.UP).between(server.address) if item.payload]


@pytest.mark.parametrize("version", [4, 6])
def test_first_contact_asks_for_a_cookie_and_the_second_sends_its_data_in_the_syn(
    wan: Wan, version: int
) -> None:
    server = wan.serve(answers(REPLY, request=len(GET)), version=version)
    bind = "[::1]:0" if version == 6 else "127.0.0.1:0"
    with Program(wan.client, {"a": forward(server, bind, hedge="off")}) as program:
        first = ask(program.address(), GET, fast_open=False, expect=len(REPLY))
        line = program.session(1)
        seen = conversation(wan, server)
        (syn,), (syn_ack,) = seen.syns(), seen.syn_acks()
        assert (syn.cookie, syn.payload) == (b"", b""), "an empty option 34"
        assert syn.packet.fast_open == (34, b"")
        cookie = syn_ack.cookie
        assert cookie is not None
        assert 4 <= len(cookie) <= 16
        assert syn_ack.packet.ack == syn.packet.seq + 1
        (data,) = [item for item in seen.way(Direction.UP) if item.payload]
        assert data.payload == GET
        assert syn_ack.left is not None
        assert data.entered >= syn_ack.left, "data only after the handshake"
        assert first.reply == REPLY
        assert (line["open"], line["syn_bytes"], line["evidence"]) == ("data", 0, "cookie_requested")
        assert (line["standing_before"], line["standing_after"]) == ("unknown", "learning")
        assert line["rtt"] == pytest.approx(wan.rtt, rel=0.3)

        wan.forget()
        second = ask(program.address(), GET, fast_open=False, expect=len(REPLY))
        line = program.session(2)
        seen = conversation(wan, server)
        (syn,), (syn_ack,) = seen.syns(), seen.syn_acks()
        assert (syn.cookie, syn.payload) == (cookie, GET), "the cookie as it was given, and the data"
        assert syn_ack.packet.ack == syn.packet.seq + 1 + len(GET), "both are acknowledged"
        assert data_to(server, seen) == [GET], "and never sent again"
        assert second.reply == REPLY
        assert (line["open"], line["syn_bytes"], line["evidence"]) == ("data", len(GET), "syn_data_acked")
        assert (line["standing_before"], line["standing_after"]) == ("learning", "confirmed")
        assert (line["up_bytes"], line["down_bytes"]) == (len(GET), len(REPLY))
        assert (line["ended_by"], line["during"], line["reason"]) == ("downstream", "relay", "closed")
    cold, warm = server.wait(2)
    assert [bytes(one.received) for one in (cold, warm)] == [GET, GET], "each exactly once"
    assert (cold.had_syn_data, warm.had_syn_data) == (False, True), "as the server's TCP_INFO has it"


def test_a_stale_cookie_loses_no_byte_and_no_time(wan: Wan) -> None:
    server = wan.serve(answers(REPLY, request=len(GET)), key=b"k" * 16)
    with Program(wan.client, {"a": forward(server, hedge="off")}) as program:
        ask(program.address(), GET, fast_open=False, expect=len(REPLY))
        program.session(1)
        (syn_ack,) = conversation(wan, server).syn_acks()
        server.set_keys(b"K" * 16)
        wan.forget()
        stale = ask(program.address(), GET, fast_open=False, expect=len(REPLY))
        line = program.session(2)
        seen = conversation(wan, server)
        (syn,), (answer,) = seen.syns(), seen.syn_acks()
        assert (syn.cookie, syn.payload) == (syn_ack.cookie, GET)
        assert answer.packet.ack == syn.packet.seq + 1, "only the SYN is acknowledged"
        assert answer.cookie not in (None, b"", syn_ack.cookie), "and a new cookie comes with it"
        after = next(item for item in seen.way(Direction.UP) if item is not syn)
        assert after.payload == GET, (
            "the ACK of the handshake carries the data again, before any timer runs down"
        )
        assert after.packet.seq == syn.packet.seq + 1
        assert stale.reply == REPLY
        assert (line["syn_bytes"], line["evidence"]) == (len(GET), "syn_data_not_acked")

        wan.forget()
        ask(program.address(), GET, fast_open=False, expect=len(REPLY))
        line = program.session(3)
        (syn,) = conversation(wan, server).syns()
        assert (syn.cookie, syn.payload) == (answer.cookie, GET), "the new cookie is used at once"
        assert (line["evidence"], line["standing_after"]) == ("syn_data_acked", "confirmed")
    conversations = server.wait(3)
    assert server.received == [GET] * 3
    assert [one.had_syn_data for one in conversations] == [False, False, True]


def test_a_server_without_fast_open_gets_an_ordinary_handshake(wan: Wan) -> None:
    server = wan.serve(answers(REPLY, request=len(GET)), fast_open=None)
    with Program(wan.client, {"a": forward(server, hedge="off")}) as program:
        for number in range(1, 5):
            wan.forget()
            assert ask(program.address(), GET, fast_open=False, expect=len(REPLY)).reply == REPLY
            line = program.session(number)
            seen = conversation(wan, server)
            (syn,), (syn_ack,) = seen.syns(), seen.syn_acks()
            assert not syn.payload
            assert syn_ack.packet.fast_open is None
            assert syn_ack.packet.ack == syn.packet.seq + 1
            assert data_to(server, seen) == [GET]
            again = "cookie_requested" if number < UNCOUNTED else "cookie_withheld"
            assert (line["syn_bytes"], line["evidence"]) == (0, again)
            assert line["standing_after"] == ("learning" if number < 3 else "unsupported")
    assert [bytes(one.received) for one in server.wait(4)] == [GET] * 4
