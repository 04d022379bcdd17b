"""Many sessions: every byte of ten thousand arrives, and two thousand that are cut off leave nothing behind."""

from __future__ import annotations

import hashlib
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from proxy.lab.servers import TCP_FASTOPEN
from proxy.lab.wan import Wan
from tests.wire.program import Line, Program, forward, until

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.0), pytest.mark.slow]

PAYLOADS, AT_A_TIME, LARGEST = 10_000, 200, 4 << 20
CUT_OFF = 2_000
BLOCK = random.Random(7413).randbytes(LARGEST + (1 << 16))


@pytest.fixture(autouse=True)
def both_bits(wan: Wan) -> None:
    """Clients and servers are in one namespace here."""
    wan.client.sysctl("net.ipv4.tcp_fastopen", 3)


def waits(ends: tuple[Line, Line]) -> tuple[Line, Line]:
    """Where there is no distance nothing is worth waiting for; here we want the bytes in the SYN all the same."""
    listener, cluster = ends
    return listener | {"timeouts": {"first_bytes": "50ms"}}, cluster


def payload(dice: random.Random) -> memoryview:
    """0 B to 4 MiB: half of them fit one packet, one in a hundred is large."""
    kind = dice.random()
    if kind < 0.05:
        size = dice.choice((0, 0, 1, 1420, 1421, 65535, 65536, 65537))
    elif kind < 0.6:
        size = dice.randrange(2000)
    elif kind < 0.98:
        size = int(2 ** dice.uniform(10, 17))
    elif kind < 0.999:
        size = int(2 ** dice.uniform(17, 22))
    else:
        size = LARGEST
    begin = dice.randrange(1 << 16)
    return memoryview(BLOCK)[begin : begin + size]


def digest(data: memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


async def read_exactly(stream: trio.SocketStream, size: int) -> bytes:
    got = b""
    while len(got) < size:
        data = await stream.receive_some(size - len(got))
        assert data, "it ended early"
        got += data
    return got


async def read_to_the_end(stream: trio.SocketStream) -> bytes:
    hash_ = hashlib.blake2b(digest_size=16)
    while data := await stream.receive_some(1 << 18):
        hash_.update(data)
    return hash_.digest()


class Upstream:
    """Answers each client with the payload of the number it begins with, and remembers what it got, by number."""

    def __init__(self, answers: list[memoryview]) -> None:
        self.answers = answers
        self.received: dict[int, list[bytes]] = {}

    async def serve(self, stream: trio.SocketStream) -> None:
        try:
            number = int.from_bytes(await read_exactly(stream, 4), "big")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._answer, stream, number)
                self.received.setdefault(number, []).append(await read_to_the_end(stream))
        except (AssertionError, trio.BrokenResourceError, BaseExceptionGroup):
            pass  # the client was cut off
        finally:
            with trio.CancelScope(shield=True):
                await stream.aclose()

    async def _answer(self, stream: trio.SocketStream, number: int) -> None:
        await stream.send_all(self.answers[number % len(self.answers)])
        await stream.send_eof()


@asynccontextmanager
async def upstream(answers: list[memoryview]) -> AsyncIterator[tuple[Upstream, tuple[str, int]]]:
    server = Upstream(answers)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)
        listeners[0].socket.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 1024)
        nursery.start_soon(trio.serve_listeners, server.serve, listeners)
        port = listeners[0].socket.getsockname()[1]
        yield server, ("127.0.0.1", port)
        nursery.cancel_scope.cancel()


async def test_ten_thousand_payloads_arrive_intact_both_ways(wan: Wan) -> None:
    dice = random.Random(1)
    up, down = [payload(dice) for _ in range(PAYLOADS)], [payload(dice) for _ in range(PAYLOADS)]
    wrong: list[int] = []
    async with upstream(down) as (server, address):
        with Program(wan.client, {"a": waits(forward(address, replay="any", hedge="off"))}) as program:
            to = program.address()
            numbers = iter(range(PAYLOADS))

            async def send(stream: trio.SocketStream, number: int) -> None:
                await stream.send_all(number.to_bytes(4, "big"))
                await stream.send_all(up[number])
                await stream.send_eof()

            async def client() -> None:
                for number in numbers:
                    stream = await trio.open_tcp_stream(*to)
                    async with stream, trio.open_nursery() as nursery:
                        nursery.start_soon(send, stream, number)
                        if await read_to_the_end(stream) != digest(down[number]):
                            wrong.append(number)

            async with trio.open_nursery() as nursery:
                for _ in range(AT_A_TIME):
                    nursery.start_soon(client)
            assert not wrong
            await trio.to_thread.run_sync(program.session, PAYLOADS)
            lines = program.events("session")
            assert {line["reason"] for line in lines} == {"closed"}
            assert sum(line["up_bytes"] for line in lines) == sum(len(data) + 4 for data in up)
            assert sum(line["down_bytes"] for line in lines) == sum(len(data) for data in down)
            assert [line["evidence"] for line in lines].count("syn_data_acked") > PAYLOADS // 2
        assert sorted(server.received) == list(range(PAYLOADS))
        assert all(server.received[number] == [digest(up[number])] for number in range(PAYLOADS))


async def test_two_thousand_sessions_cut_at_random_moments_leave_nothing_behind(wan: Wan) -> None:
    """By FIN or RST, before, during and after the dial, by the client or by the server."""
    dice = random.Random(2)
    answers = [payload(dice) for _ in range(100)]
    async with upstream(answers) as (_, address):
        ends = {
            "a": waits(forward(address, replay="any")),
            "dead": forward(("127.0.0.1", 9)),
            "far": forward(("10.77.3.9", 80)),
        }
        with Program(wan.client, ends) as program:
            idle = program.descriptors()
            numbers = iter(range(CUT_OFF))

            async def client() -> None:
                for number in numbers:
                    name = dice.choices(("a", "dead", "far"), (90, 5, 5))[0]
                    with trio.move_on_after(dice.choice((0.001, 0.005, 0.02, 0.1)) * dice.random()):
                        await cut_off(program.address(name), number, rude=dice.random() < 0.5)

            async def cut_off(to: tuple[str, int], number: int, *, rude: bool) -> None:
                with trio.socket.socket() as sock:
                    if rude:
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    try:
                        await sock.connect(to)
                        stream = trio.SocketStream(sock)
                        await trio.sleep(dice.choice((0, 0, 0.001, 0.01)))
                        await stream.send_all(number.to_bytes(4, "big"))
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(stream.send_all, answers[number % 100])
                            await stream.receive_some(1 << 16)
                            await trio.sleep_forever()
                    except (OSError, trio.BrokenResourceError, BaseExceptionGroup):
                        pass

            async with trio.open_nursery() as nursery:
                for _ in range(AT_A_TIME):
                    nursery.start_soon(client)

            def nothing_left() -> bool:
                return program.open_sessions() == 0 and program.descriptors() == idle

            await trio.to_thread.run_sync(until, nothing_left, 15)
            assert 100 < len(program.events("session")) <= CUT_OFF
            assert not program.events("session_fault")
