"""Sessions whose destination's name server fails, lies or is slow: refused in words, and the others go on."""

from __future__ import annotations

import random
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
import trio

from proxy.core.address import Endpoint
from proxy.core.destinations import Destinations
from proxy.core.outcomes import Reason
from proxy.core.snapshot import DIRECT, Dns, Listener, Mode, Snapshot, Timeouts
from tests.serving import HERE, Serving, echo, serving, upstream

Answering = Callable[[dns.message.Message], bytes | None]
NAME = "service.example.com"


@asynccontextmanager
async def name_server(answering: Answering) -> AsyncIterator[Endpoint]:
    """On UDP and TCP; what ``answering`` makes of a question is what is said."""
    while True:  # until a port is free for both
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        sock = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        try:
            await sock.bind(("127.0.0.1", port))
            break
        except OSError:
            sock.close()
            await listeners[0].aclose()

    async def datagrams() -> None:
        while True:
            raw, asker = await sock.recvfrom(4096)
            said = answering(dns.message.from_wire(raw))
            if said is not None:
                await sock.sendto(said, asker)

    async def stream(one: trio.SocketStream) -> None:
        raw = await one.receive_some(4096)
        said = answering(dns.message.from_wire(raw[2:])) if len(raw) > 2 else None
        if said is not None:
            await one.send_all(struct.pack("!H", len(said)) + said)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(datagrams)
        nursery.start_soon(trio.serve_listeners, stream, listeners)
        yield Endpoint("127.0.0.1", port)
        nursery.cancel_scope.cancel()
    sock.close()


def reply(question: dns.message.Message, *lines: str, rcode: dns.rcode.Rcode = dns.rcode.NOERROR) -> bytes:
    answer = dns.message.make_response(question)
    answer.set_rcode(rcode)
    kind = dns.rdatatype.to_text(question.question[0].rdtype)
    for line in lines:
        name, ttl, *record = line.split(maxsplit=4)
        rrset = dns.rrset.from_text(name, int(ttl), *record)
        if dns.rdatatype.to_text(rrset.rdtype) in {kind, "CNAME"}:
            answer.answer.append(rrset)
    return answer.to_wire()


def address(host: str, ttl: int = 60) -> Answering:
    return lambda question: reply(question, f"{NAME}. {ttl} IN A {host}")


def fails(rcode: dns.rcode.Rcode) -> Answering:
    return lambda question: reply(question, rcode=rcode)


def goes_round(question: dns.message.Message) -> bytes:
    return reply(
        question, f"{NAME}. 60 IN CNAME other.example.com.", f"other.example.com. 60 IN CNAME {NAME}."
    )


def speaks_of_others(question: dns.message.Message) -> bytes:
    return reply(question, "somebody.else.example. 60 IN A 127.0.0.1")


def is_cut_short(question: dns.message.Message) -> bytes:
    answer = dns.message.make_response(question)
    answer.flags |= dns.flags.TC
    return answer.to_wire()


def is_somebody_elses(question: dns.message.Message) -> bytes:
    raw = bytearray(address("127.0.0.1")(question) or b"")
    raw[0] ^= 0xFF
    return bytes(raw)


def is_the_question(question: dns.message.Message) -> bytes:
    return question.to_wire()


def is_garbage(question: dns.message.Message) -> bytes:
    return struct.pack("!H", question.id) + random.Random(question.id).randbytes(60)


def is_torn(question: dns.message.Message) -> bytes:
    return (address("127.0.0.1")(question) or b"")[:-3]


def is_empty(question: dns.message.Message) -> bytes:
    return b""


def says_nothing(question: dns.message.Message) -> None:
    return None


def snapshot(server: Endpoint, deny: Destinations) -> Snapshot:
    direct = replace(DIRECT, warm_up=False)
    listener = Listener("a", HERE, Mode.HTTP, direct, timeouts=Timeouts(handshake=30.0))
    return Snapshot((listener,), {}, dns=Dns(servers=(server,)), destinations=deny)


async def ask(here: Serving, authority: str) -> bytes:
    """The status line, or nothing."""
    stream = await here.connect()
    async with stream:
        await stream.send_all(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        said = b""
        while b"\r\n" not in said and (data := await stream.receive_some()):
            said += data
        return said.split(b"\r\n")[0]


Asked = Callable[[Serving, int], Awaitable[None]]
OPEN = Destinations(deny=())


@asynccontextmanager
async def asking(answering: Answering, deny: Destinations = OPEN) -> AsyncIterator[tuple[Serving, int]]:
    async with (
        name_server(answering) as server,
        upstream(echo) as cluster,
        serving(snapshot(server, deny)) as here,
    ):
        yield here, cluster.only[0].port


async def test_a_name_that_is_answered_for() -> None:
    async with asking(address("127.0.0.1")) as (here, port):
        assert b" 200 " in await ask(here, f"{NAME}:{port}")


@pytest.mark.parametrize(
    "answering",
    [
        fails(dns.rcode.SERVFAIL), fails(dns.rcode.REFUSED), fails(dns.rcode.NXDOMAIN), fails(dns.rcode.FORMERR),
        fails(dns.rcode.NOERROR), fails(dns.rcode.YXDOMAIN), goes_round, speaks_of_others, is_cut_short,
        is_somebody_elses, is_the_question, is_garbage, is_torn, is_empty, says_nothing,
    ],
)  # fmt: skip
async def test_who_fails_or_lies_is_answered_with_a_refusal(
    answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.net.records._LEAST", 0.4)
    monkeypatch.setattr("proxy.net.records._EACH", 0.0)
    async with asking(answering) as (here, port):
        with trio.fail_after(30):
            status = await ask(here, f"{NAME}:{port}")
        assert status.startswith((b"HTTP/1.1 502 ", b"HTTP/1.1 504 ")), status
        record = await here.events.record()
        assert record.reason is Reason.NO_SUCH_HOST
        assert NAME in record.detail


async def test_slow_names_hold_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.net.records._LEAST", 3.0)
    late: list[bytes] = []
    async with asking(says_nothing) as (here, port), trio.open_nursery() as nursery:

        async def slow(number: int) -> None:
            late.append(await ask(here, f"n{number}.example.com:{port}"))

        for number in range(60):
            nursery.start_soon(slow, number)
        await trio.sleep(0.1)
        for _ in range(10):
            assert b" 200 " in await ask(here, f"127.0.0.1:{port}")
        assert not late
    assert len(late) == 60


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1"])
async def test_a_name_that_turns_out_to_be_a_forbidden_place(host: str) -> None:
    async with asking(address(host), Destinations()) as (here, port):
        assert (await ask(here, f"{NAME}:{port}")).startswith(b"HTTP/1.1 403 ")
        assert (await here.events.record()).reason is Reason.DENIED


async def test_a_name_that_is_first_one_place_and_then_a_forbidden_one() -> None:
    """DNS rebinding: each address that is dialled is looked at, not the name."""
    hosts = iter(["192.0.2.1", "192.0.2.1"])

    def rebinds(question: dns.message.Message) -> bytes | None:
        return address(next(hosts, "127.0.0.1"), ttl=0)(question)

    async with asking(rebinds, Destinations()) as (here, port):
        with trio.move_on_after(0.3):
            await ask(here, f"{NAME}:{port}")
        await trio.sleep(1.0)  # the shortest time that an answer is kept
        assert (await ask(here, f"{NAME}:{port}")).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("ttl", [0, 2**31 - 1])
async def test_a_time_to_live_that_is_none(ttl: int) -> None:
    async with asking(address("127.0.0.1", ttl)) as (here, port):
        for _ in range(3):
            assert b" 200 " in await ask(here, f"{NAME}:{port}")
