"""Clients of every kind, many at a time, who check each byte that comes back and keep account of all of them."""

from __future__ import annotations

import random
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from proxy.lab.servers import Address

LATE = 60.0  # seconds after which a client gives up; the machine may have other things to do
MOST_AT_ONCE = 1500
_RESET = struct.pack("ii", 1, 0)
_BLOCK = random.Random(7413).randbytes(1 << 20)


@dataclass(slots=True)
class Call:
    """One client: what it did, and what came of it. Bytes are those of the stream behind any handshake."""

    kind: str
    listener: str
    began: float  # time.time(), as the log
    client: str = ""  # as the log names it
    up: int = 0
    down: int = 0
    ended: float = 0.0
    outcome: str = "ok"  # or refused, broken, wrong, late
    orderly: bool = True  # the log must count the same bytes


Talk = Callable[[trio.SocketStream, Call], Awaitable[None]]


class Wrong(Exception):
    """Something else came back than was said."""


async def say(stream: trio.SocketStream, call: Call, data: bytes) -> None:
    await stream.send_all(data)
    call.up += len(data)


async def hear(stream: trio.SocketStream, call: Call, expected: bytes) -> None:
    heard = 0
    while heard < len(expected):
        data = await stream.receive_some(len(expected) - heard)
        call.down += len(data)
        if not data:
            raise trio.BrokenResourceError
        if data != expected[heard : heard + len(data)]:
            raise Wrong
        heard += len(data)


async def end(stream: trio.SocketStream, call: Call) -> None:
    """Both sides end in order."""
    await stream.send_eof()
    while data := await stream.receive_some():
        call.down += len(data)
        raise Wrong


async def short(stream: trio.SocketStream, call: Call) -> None:
    said = random.choice((b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", _BLOCK[:300]))
    await say(stream, call, said)
    await hear(stream, call, said)
    await end(stream, call)


async def talks(stream: trio.SocketStream, call: Call) -> None:
    for _ in range(random.randint(2, 20)):
        said = _BLOCK[: random.randint(1, 4000)]
        await say(stream, call, said)
        await hear(stream, call, said)
        await trio.sleep(random.random() / 5)
    await end(stream, call)


async def bulk(stream: trio.SocketStream, call: Call) -> None:
    size = random.randint(200_000, len(_BLOCK))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(say, stream, call, _BLOCK[:size])
        await hear(stream, call, _BLOCK[:size])
    await end(stream, call)


async def leaves(stream: trio.SocketStream, call: Call) -> None:
    """Breaks off in the middle."""
    call.orderly = False
    await say(stream, call, _BLOCK[:50_000])
    await hear(stream, call, _BLOCK[:100])
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


async def says_nothing(stream: trio.SocketStream, call: Call) -> None:
    await trio.sleep(random.random() / 2)
    await end(stream, call)


def hello() -> bytes:
    """What a TLS client says first."""
    said = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), said, server_hostname="a.example.com")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return said.read()


async def greets(stream: trio.SocketStream, call: Call) -> None:
    said = hello()
    await say(stream, call, said)
    await hear(stream, call, said)
    await end(stream, call)


@dataclass
class Traffic:
    """Clients of these kinds (what they say, and to which listener), each as often as it weighs."""

    kinds: Mapping[str, tuple[Talk, str, int]]
    listeners: Mapping[str, Address]
    sources: Mapping[str, str] = field(
        default_factory=dict[str, str]
    )  # where the clients of a listener come from
    calls: list[Call] = field(default_factory=list[Call])
    open: int = 0
    longest: float = 0.0  # seconds for which the clients themselves stood still: a busy machine shows here

    async def flow(self, rate: float, enough: trio.Event) -> None:
        """So many new clients a second, until it is ``enough``; returns when all have ended."""
        names = list(self.kinds)
        weights = [weight for _, _, weight in self.kinds.values()]
        async with trio.open_nursery() as nursery:
            began = looked = trio.current_time()
            sent = 0
            while not enough.is_set():
                self.longest = max(self.longest, trio.current_time() - looked)
                looked = trio.current_time()
                due = int((trio.current_time() - began) * rate) - sent
                for name in random.choices(names, weights, k=min(due, MOST_AT_ONCE - self.open)):
                    self.open += 1
                    nursery.start_soon(self.call, name)
                sent += due
                await trio.sleep(0.005)

    async def so_many(self, number: int, at_once: int = 32) -> None:
        """So many clients, one after the other in each of ``at_once`` tasks."""
        (name,) = self.kinds
        left = number

        async def some() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                self.open += 1
                await self.call(name)

        async with trio.open_nursery() as nursery:
            for _ in range(at_once):
                nursery.start_soon(some)

    async def call(self, name: str) -> None:
        """One client."""
        talk, listener, _ = self.kinds[name]
        call = Call(name, listener, time.time(), outcome="late")
        try:
            with trio.move_on_after(LATE):
                call.outcome = await self._talk(talk, listener, call)
        finally:
            call.ended = time.time()
            self.open -= 1
            self.calls.append(call)

    async def _talk(self, talk: Talk, listener: str, call: Call) -> str:
        sock = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        outcome = "refused"
        try:
            if listener in self.sources:
                await sock.bind((self.sources[listener], 0))
            await sock.connect(self.listeners[listener][:2])
            host, port = sock.getsockname()
            call.client, outcome = f"{host}:{port}", "broken"
            await talk(trio.SocketStream(sock), call)
            outcome = "ok"
        except* ConnectionResetError:
            outcome = "broken"  # whoever had taken it was killed
        except* (trio.BrokenResourceError, OSError):
            pass
        except* Wrong:
            outcome = "wrong"
        finally:
            sock.close()
        return outcome
