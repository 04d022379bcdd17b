from __future__ import annotations

import socket
from typing import Any

import pytest

from proxy.core.evidence import Evidence
from proxy.core.fastopen import PLAIN_PLAN, Standing, State
from proxy.core.outcomes import Reason
from proxy.core.record import SessionRecord
from proxy.core.request import Refused
from proxy.core.snapshot import DIRECT, Cluster, FastOpen, Listener, Mode, Reply
from proxy.net.listening import Listening
from proxy.reception import Reception
from tests.net.pairs import pair

GET = b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"


def reception(sock: socket.socket, mode: Mode = Mode.MIXED, reply: Reply = Reply.AUTO) -> Reception:
    record = SessionRecord(1, "a", ("192.0.2.1", 1), "", 0.0)
    return Reception(sock, Listener("a", (), mode, DIRECT, reply=reply), record)


def never(headers: bytes, now: float) -> bool:
    return False


def nobody() -> None:
    return None


ASIDE: Any = {"takes_syn_data": False, "seen": never, "listening": Listening(), "introduced": nobody}


async def test_a_tunnel_is_granted_once() -> None:
    with pair() as (ours, peer):
        peer.sendall(b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n")
        heard = reception(ours)
        request = await heard.hear(**ASIDE)
        assert (request.protocol, str(request.authority), heard.held, heard.granted) == (
            "connect", "a.test:443", None, False,
        )  # fmt: skip
        assert heard.refusal(Reason.REFUSED, "").startswith(b"HTTP/1.1 502 ")
        heard.grant(Reply.DIALED)
        heard.grant(Reply.DIALED)
        assert peer.recv(1000) == b"HTTP/1.1 200 Connection established\r\n\r\n"
        assert heard.refusal(Reason.REFUSED, "") == b"", "it believes that it is connected"


async def test_a_forwarded_request_waits_for_no_word() -> None:
    with pair() as (ours, peer):
        peer.sendall(GET + b"pipelined")
        heard = reception(ours)
        await heard.hear(**ASIDE)
        assert heard.granted
        assert heard.held is not None
        assert heard.held.data == b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
        assert b"a.test:80: why" in heard.refusal(Reason.REFUSED, "why")


async def test_what_is_neither_socks_nor_http() -> None:
    with pair() as (ours, peer):
        peer.sendall(b"\x16\x03\x01")
        with pytest.raises(Refused) as caught:
            await reception(ours).hear(**ASIDE)
        assert (caught.value.reason, caught.value.reply) == (Reason.BAD_REQUEST, b"")


@pytest.mark.parametrize("mode", [Mode.TRANSPARENT])
async def test_who_was_not_redirected(mode: Mode) -> None:
    with pair() as (ours, _), pytest.raises(Refused) as caught:
        await reception(ours, mode).hear(**ASIDE)
    assert caught.value.reason is Reason.LOOP


def standing(state: State, reached: float | None) -> Standing:
    made = Standing()
    made.state, made.reached = state, reached
    return made


@pytest.mark.parametrize(
    ("reply", "state", "reached", "worth", "promised"),
    [
        (Reply.AUTO, State.CONFIRMED, 90.0, True, True),
        (Reply.AUTO, State.LEARNING, 90.0, True, True),
        (Reply.AUTO, State.CONFIRMED, 90.0, False, False),
        (Reply.AUTO, State.CONFIRMED, None, True, False),
        (Reply.AUTO, State.CONFIRMED, -1000.0, True, False),
        (Reply.AUTO, State.UNKNOWN, 90.0, True, False),
        (Reply.DIALED, State.CONFIRMED, 90.0, True, False),
        (Reply.OPTIMISTIC, State.UNKNOWN, None, False, True),
    ],
)
def test_when_a_word_is_given(
    reply: Reply, state: State, reached: float | None, worth: bool, promised: bool
) -> None:
    with pair() as (ours, _):
        heard = reception(ours, reply=reply)
        assert heard.may_promise(standing(state, reached), DIRECT, 100.0, worth=worth) is promised


def test_a_word_is_kept_by_those_who_were_reached_lately() -> None:
    made = Standing()
    assert not made.keeps_word(DIRECT, 1.0)
    made.learn(Evidence.COOKIE_REQUESTED, made.plan(DIRECT, 0, 1.0), 1.0)
    assert made.keeps_word(DIRECT, 2.0)
    assert not made.keeps_word(Cluster("off", (), fast_open=FastOpen.OFF), 2.0)
    assert not made.keeps_word(DIRECT, 1000.0)
    made.learn(Evidence.PLAIN, PLAIN_PLAN, 1000.0)
    assert made.keeps_word(DIRECT, 1001.0)
    made.until, made.state = 2000.0, State.QUARANTINED
    assert not made.keeps_word(DIRECT, 1001.0)
