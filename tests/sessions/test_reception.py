from __future__ import annotations

import base64
import socket
from typing import Any

import pytest
import trio

from proxy.core.address import Endpoint
from proxy.core.evidence import Evidence
from proxy.core.fastopen import PLAIN_PLAN, Standing, State
from proxy.core.lockout import Lockout
from proxy.core.outcomes import Reason
from proxy.core.record import SessionRecord
from proxy.core.request import Refused
from proxy.core.snapshot import DIRECT, Cluster, FastOpen, Listener, Mode, Reply
from proxy.core.users import Users, read_secret
from proxy.net.listening import Listening
from proxy.sessions.reception import VIA, Reception
from tests.net.pairs import pair

GET = b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"


def reception(sock: socket.socket, mode: Mode = Mode.MIXED, reply: Reply = Reply.AUTO) -> Reception:
    record = SessionRecord(1, "a", ("192.0.2.1", 1), "", 0.0)
    return Reception(sock, Listener("a", (), mode, DIRECT, reply=reply), record)


def nobody() -> None:
    return None


ASIDE: Any = {
    "listening": Listening(),
    "introduced": nobody,
    "lockout": Lockout(),
}


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
        via = b"Via: 1.1 " + VIA
        assert (
            heard.held.data == b"GET / HTTP/1.1\r\nHost: a.test\r\n" + via + b"\r\nConnection: close\r\n\r\n"
        )
        assert heard.behind == b"pipelined"
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


async def test_who_dialled_a_tproxy_listener_itself_on_a_port_that_the_kernel_chose() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listening = Listening()
        listening.follow([listener])
        with socket.create_connection(listener.getsockname()):
            ours, _ = listener.accept()
            with ours:
                with pytest.raises(Refused) as caught:
                    await reception(ours, Mode.TPROXY).hear(**ASIDE | {"listening": listening})
                assert caught.value.reason is Reason.LOOP
                request = await reception(ours, Mode.TPROXY).hear(**ASIDE)
                assert request.authority == Endpoint(*listener.getsockname()), (
                    "redirected, as far as it can tell"
                )


def basic(user: str, password: str) -> bytes:
    words = base64.b64encode(f"{user}:{password}".encode())
    return b"CONNECT a.test:443 HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic " + words + b"\r\n\r\n"


@pytest.mark.autojump
async def test_who_guesses_is_slowed_down_and_then_not_looked_at() -> None:
    lockout = Lockout()
    listener = Listener("a", (), Mode.HTTP, DIRECT, users=Users({"alice": read_secret("right")}))

    async def tries(password: str, host: str = "192.0.2.1") -> tuple[str, float]:
        started = trio.current_time()
        with pair() as (ours, peer):
            peer.sendall(basic("alice", password))
            heard = Reception(ours, listener, SessionRecord(1, "a", (host, 1), "", 0.0))
            try:
                await heard.hear(**ASIDE | {"lockout": lockout})
            except Refused as refused:
                assert refused.reply.startswith(b"HTTP/1.1 407 ")  # noqa: PT017
                return str(refused), trio.current_time() - started
            return "in", trio.current_time() - started

    same = [await tries("old") for _ in range(20)]
    assert [(why, round(pause, 3)) for why, pause in same] == [("user 'alice': wrong password", 0.0)] * 20
    waited = [await tries(f"wrong {number}") for number in range(5)]
    assert [why for why, _ in waited] == ["user 'alice': wrong password"] * 5
    assert [pause for _, pause in waited] == pytest.approx([0, 0, 0.25, 0.5, 1.0], abs=0.01)
    why, pause = await tries("right", "192.0.2.2")
    assert (why, round(pause, 1)) == ("in", 0.0)
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(tries, f"guess {number}")
    why, pause = await tries("right")
    assert why == "user 'alice': too many wrong passwords before this one, which was not looked at"
    assert pause == 0.0
    assert (await tries("right", "192.0.2.2")) == ("in", 0.0)
    await trio.sleep(40)
    assert (await tries("right"))[0] == "in", "it had its turn, and clears"
    for number in range(20):
        await tries(f"more {number}")
    assert (await tries("right")) == ("in", 0.0), "it was right from there before"
    await trio.sleep(400)
    assert (await tries("right"))[0] == "in"


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
