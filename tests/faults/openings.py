"""Clients that name their destination, and how they go about it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace

import trio

from proxy.core.destinations import Destinations
from proxy.core.snapshot import Mode, Snapshot
from tests.faults.law import Scenario
from tests.faults.scenarios import GET, Asked, asks, exactly, rest

CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Forbidden(Asked):
    """Where the destination may not be gone to."""

    async def made(self, stack: AsyncExitStack) -> Snapshot:
        return replace(await super().made(stack), destinations=Destinations())


SLOWLY, AT_ONCE, UNHEARD = Asked(Mode.MIXED), Asked(Mode.MIXED), Asked(Mode.MIXED)
GARBLED, FORBIDDEN, LATER = Asked(Mode.HTTP), Forbidden(Mode.SOCKS), Asked(Mode.SOCKS)


def request(asked: Asked) -> bytes:
    """A SOCKS 5 client's whole opening."""
    return b"\5\1\0" + b"\5\1\0\1\x7f\0\0\1" + asked.endpoint().port.to_bytes(2, "big")


async def in_pieces(stream: trio.SocketStream) -> None:
    to = SLOWLY.endpoint()
    head = f"CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n".encode()
    for at in range(0, len(head), 11):
        await stream.send_all(head[at : at + 11])
        await trio.sleep(0.001)
    assert await exactly(stream, len(CONNECTED)) == CONNECTED
    await asks(stream)


async def all_at_once(stream: trio.SocketStream) -> None:
    """As clients do that save round trips themselves; the first bytes are there before the dial."""
    await stream.send_all(request(AT_ONCE) + GET)
    assert (await exactly(stream, 12))[:4] == b"\5\0\5\0"
    assert await exactly(stream, len(GET)) == GET
    await stream.send_eof()
    assert await rest(stream) == b""


async def later(stream: trio.SocketStream) -> None:
    """Connected, and silent until the wait for first bytes is over."""
    await stream.send_all(request(LATER))
    await trio.sleep(0.08)
    assert (await exactly(stream, 12))[:4] == b"\5\0\5\0"
    await asks(stream)


async def begins_only(stream: trio.SocketStream) -> None:
    await stream.send_all(b"\5")
    await rest(stream)
    raise AssertionError("it said nothing")


async def says_nonsense(stream: trio.SocketStream) -> None:
    await stream.send_all(b"CONNECT nowhere HTTP/1.1\r\n\r\n")
    assert (await rest(stream)).startswith(b"HTTP/1.1 400 ")


async def is_refused(stream: trio.SocketStream) -> None:
    await stream.send_all(request(FORBIDDEN))
    assert (await exactly(stream, 12))[:4] == b"\5\0\5\2"
    assert await rest(stream) == b""


OPENINGS = (
    Scenario("CONNECT, in pieces", SLOWLY.made, in_pieces),
    Scenario("socks, all at once", AT_ONCE.made, all_at_once),
    Scenario("socks, and then silence", LATER.made, later),
    Scenario("an opening without an end", UNHEARD.made, begins_only, served=False),
    Scenario("CONNECT to nowhere", GARBLED.made, says_nonsense),
    Scenario("socks, refused", FORBIDDEN.made, is_refused),
)
