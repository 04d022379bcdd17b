"""Whatever knocks at a far side: closed, counted, and nothing is left."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

from proxy.core import proxy_header, tunnel
from proxy.core.address import Authority, Endpoint
from proxy.core.destinations import Ban, Destinations
from proxy.core.networks import NAMED
from proxy.core.outcomes import EndedBy, Reason
from proxy.core.snapshot import DIRECT, FarSide, Listener, Mode, Snapshot, Timeouts
from proxy.core.tunnel import ACCEPTED, Ticket
from tests.serving import HERE, Serving, echo, serving, upstream

KEY = bytes(range(16))
GET = b"GET / HTTP/1.1\r\n\r\n"
SILENT = {Reason.WRONG_KEY, Reason.OLD_CLOCK, Reason.REPLAYED, Reason.BAD_REQUEST, Reason.HANDSHAKE_TIMEOUT}


@asynccontextmanager
async def far_side(*, ban: bool = False, handshake: float = 60) -> AsyncIterator[Serving]:
    listener = Listener(
        "far", HERE, Mode.TUNNEL, DIRECT, far_side=FarSide((KEY,)), timeouts=Timeouts(handshake=handshake)
    )
    denied = (Ban("loopback", NAMED["loopback"]),) if ban else ()
    async with serving(Snapshot((listener,), {}, destinations=Destinations(denied, ()))) as far:
        yield far


def opening(
    early: bytes = GET, *, destination: Endpoint | Authority | None = None, final: bool = False
) -> bytes:
    ticket = Ticket(
        os.urandom(16), time.time(), destination or Endpoint("127.0.0.1", 9), Endpoint("192.0.2.1", 1)
    )
    ticket = ticket._replace(dialled=Endpoint("192.0.2.2", 2))
    return tunnel.seal(KEY, ticket, 1, early, final=final) + early


async def answer(far: Serving, data: bytes, *, ends: bool = True) -> bytes:
    """What is said until the far side closes, which it must do."""
    stream = await far.connect("far")
    found = b""
    with trio.fail_after(30), suppress(trio.BrokenResourceError):
        async with stream:
            await stream.send_all(data)
            if ends:
                await stream.send_eof()
            while more := await stream.receive_some():
                found += more
    return found


async def test_thousands_of_broken_openings() -> None:
    """Mutations by a fixed seed, cut off, with something behind: none gets an answer, none stays."""
    rng = random.Random(7413)
    sample = opening()
    async with far_side() as far, trio.open_nursery() as nursery:
        limit = trio.CapacityLimiter(64)

        async def one(data: bytes) -> None:
            async with limit:
                assert not await answer(far, data)

        for _ in range(2000):
            data = bytearray(sample)
            kind = rng.randrange(4)
            if kind == 0:
                data = data[: rng.randrange(len(data))]
            elif kind == 1:
                data = bytearray(rng.randbytes(rng.randrange(1, 300)))
            elif kind == 2:
                data = bytearray(proxy_header.SIGNATURE + rng.randbytes(rng.randrange(200)))
            else:
                data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
            nursery.start_soon(one, bytes(data))
    reasons = {record.reason for record in far.events.records}
    assert len(far.events.records) == 2000
    assert reasons <= SILENT | {Reason.NO_REQUEST}
    assert {Reason.BAD_REQUEST, Reason.NO_REQUEST} <= reasons


async def test_who_says_half_of_it_is_not_waited_for() -> None:
    async with far_side(handshake=0.05) as far:
        for size in (0, 1, 50, len(opening()) - 1):
            assert not await answer(far, opening()[:size], ends=False)
        assert {record.reason for record in far.events.records} == {Reason.HANDSHAKE_TIMEOUT}


async def test_its_own_rules_hold() -> None:
    async with far_side(ban=True) as far:
        assert await answer(far, opening()) in {b"", ACCEPTED}, "the reset may come before the word is read"
        record = await far.events.record()
        assert (record.reason, record.client) == (Reason.DENIED, "192.0.2.1:1")
        nobody = Authority("no-such-host.invalid", 1)
        assert await answer(far, opening(destination=nobody)) in {b"", ACCEPTED}
        assert (await far.events.record(2)).reason is Reason.NO_SUCH_HOST


async def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = Endpoint(*closed.getsockname())
    async with far_side() as far:
        assert await answer(far, opening(destination=nobody, final=True)) == b""
        assert (await far.events.record()).reason is Reason.REFUSED


async def test_a_near_side_that_says_something_else_than_its_word() -> None:
    async with upstream(echo) as server, far_side() as far:
        (endpoint,) = server.endpoints
        assert isinstance(endpoint, Endpoint)
        await answer(far, opening(destination=endpoint) + b"?")
        record = await far.events.record()
        assert (record.reason, record.ended_by) == (Reason.BAD_REQUEST, EndedBy.PROXY)
