"""An upstream that breaks off at each byte: the client gets what was said before, then a reset, never a clean end."""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
import trio

from proxy.core.clusters import Via
from proxy.core.outcomes import EndedBy, Reason
from tests.faults.law import come_to_rest, opened
from tests.faults.scenarios import chained, exactly, forward
from tests.serving import one_listener, upstream

ASKED = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
RESET = struct.pack("ii", 1, 0)

Behaviour = Callable[[trio.SocketStream], Awaitable[None]]


def answers_so_much(size: int) -> Behaviour:
    async def behave(stream: trio.SocketStream) -> None:
        await exactly(stream, len(ASKED))
        if size:
            await stream.send_all(ANSWER[:size])
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    return behave


def hears_so_much(size: int) -> Behaviour:
    async def behave(stream: trio.SocketStream) -> None:
        if size:
            await exactly(stream, size)
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    return behave


async def said_until_the_reset(stream: trio.SocketStream) -> tuple[bytes, bool]:
    said = b""
    try:
        while data := await stream.receive_some():
            said += data
    except trio.BrokenResourceError:
        return said, True
    return said, False


@pytest.mark.parametrize("size", range(len(ANSWER) + 1))
async def test_after_so_much_of_an_answer(size: int) -> None:
    async with AsyncExitStack() as stack:
        house = await opened(stack, await forward(answers_so_much(size))(stack))
        stream = await trio.open_tcp_stream(*house.sockets["a"][0].getsockname()[:2])
        await stream.send_all(ASKED)
        with trio.fail_after(30):
            assert await said_until_the_reset(stream) == (ANSWER[:size], True)
        await stream.aclose()
        assert await come_to_rest(house, 1) == []
        record = house.events.records[0]
        assert (record.ended_by, record.reason, record.down_bytes) == (EndedBy.UPSTREAM, Reason.RESET, size)


@pytest.mark.parametrize("size", range(0, len(ASKED), 2))
async def test_after_so_much_of_a_request(size: int) -> None:
    async with AsyncExitStack() as stack:
        house = await opened(stack, await forward(hears_so_much(size))(stack))
        stream = await trio.open_tcp_stream(*house.sockets["a"][0].getsockname()[:2])
        with trio.fail_after(30):
            told = False
            try:
                for byte in ASKED:
                    await stream.send_all(bytes([byte]))
            except trio.BrokenResourceError:
                told = True  # and it is told only once
            said, reset = await said_until_the_reset(stream)
        assert (said, reset or told) == (b"", True)
        await stream.aclose()
        assert await come_to_rest(house, 1) == []
        assert house.events.records[0].ended_by is EndedBy.UPSTREAM


GATEWAY_SAYS = 12  # bytes of a SOCKS gateway's answers: a method, and where it is connected to


@pytest.mark.parametrize("size", range(GATEWAY_SAYS))
async def test_a_gateway_after_so_much_of_its_answers(size: int) -> None:
    """Each try again, until none is left: then the client is reset."""

    async def gateway(stream: trio.SocketStream) -> None:
        await exactly(stream, 3)
        said = (b"\5\0" + b"\5\0\0\1\0\0\0\0\0\0")[:size]
        if said:
            await stream.send_all(said[:2])
        if size > 2:
            await exactly(stream, 10)
            await stream.send_all(said[2:])
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    async with AsyncExitStack() as stack:
        snapshot = await chained(stack)
        cluster = snapshot.listeners[0].cluster
        broken = await stack.enter_async_context(upstream(gateway))
        through = replace(cluster, via=Via("socks", broken.only[0]))
        house = await opened(stack, one_listener(through))
        stream = await trio.open_tcp_stream(*house.sockets["a"][0].getsockname()[:2])
        await stream.send_all(ASKED)
        with trio.fail_after(30):
            assert await said_until_the_reset(stream) == (b"", True)
        await stream.aclose()
        assert await come_to_rest(house, 1) == []
