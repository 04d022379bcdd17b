"""An answer passed on before it is known on which connection: once, whole, from the start for a successor."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from proxy.core.reader import Malformed
from proxy.core.tunnel import ACCEPTED, COMMITTED
from proxy.net.tentative import Abandoned, Tentative
from tests.net.pairs import pair, reset
from tests.net.watching import watching


@contextmanager
def three() -> Iterator[tuple[socket.socket, ...]]:
    """The near side's connection, a second one, and the server's; ours and theirs of each."""
    with pair() as first, pair() as second, pair() as server:
        yield (*first, *second, *server)


async def settle(tentative: Tentative, upstream: socket.socket, grace: float = 5.0) -> None:
    await tentative.settle(upstream, grace)


async def hear(sock: socket.socket, size: int) -> bytes:
    """What comes, until it is so much."""
    found = b""
    while len(found) < size:
        found += await trio.to_thread.run_sync(sock.recv, size - len(found))
    return found


async def test_the_answer_is_passed_on_and_taken_out_at_the_end() -> None:
    async with watching() as watch, trio.open_nursery() as nursery:
        with three() as (ours, near, _, _, upstream, server):
            tentative = Tentative(ours, b"", watch, final=False)
            nursery.start_soon(settle, tentative, upstream)
            server.send(b"pong")
            assert await hear(near, 5) == ACCEPTED + b"pong"
            server.send(b"more")
            assert await hear(near, 4) == b"more"
            near.send(COMMITTED + b"rest")
            while not tentative.settled:  # noqa: ASYNC110  # what is tested
                await trio.sleep(0.001)
            await trio.sleep(0.01)
            assert (tentative.passed, tentative.downstream) == (8, ours)
            server.send(b"!")
            assert upstream.recv(100) == b"!", "what was passed on is not read again"
            assert ours.recv(100) == b"rest"


async def test_a_successor_gets_it_from_the_start() -> None:
    async with watching() as watch, trio.open_nursery() as nursery:
        with three() as (ours, near, later, near2, upstream, server):
            tentative = Tentative(ours, b"", watch, final=False)
            server.send(b"pong")
            nursery.start_soon(settle, tentative, upstream)
            assert await hear(near, 5) == ACCEPTED + b"pong"
            tentative.succeed(later, b"", final=False)
            assert await hear(near2, 5) == ACCEPTED + b"pong"
            near2.send(COMMITTED)
            while not tentative.settled:  # noqa: ASYNC110  # what is tested
                await trio.sleep(0.001)
            with pytest.raises(ConnectionResetError):
                await hear(near, 1)


async def test_the_last_attempt_settles_it_and_nothing_was_passed() -> None:
    async with watching() as watch, trio.open_nursery() as nursery:
        with three() as (ours, near, later, _, upstream, server):
            tentative = Tentative(ours, b"", watch, final=False)
            server.send(b"pong")
            nursery.start_soon(settle, tentative, upstream)
            assert await hear(near, 5) == ACCEPTED + b"pong"
            tentative.succeed(later, b"said", final=True)
            while not tentative.settled:  # noqa: ASYNC110  # what is tested
                await trio.sleep(0.001)
            await trio.sleep(0.01)
            assert (tentative.passed, tentative.said, tentative.downstream) == (0, b"said", later)
            assert upstream.recv(100) == b"pong", "the relay passes it on"


@pytest.mark.parametrize("how", ["reset", "end"])
async def test_a_near_side_that_leaves_may_come_back(how: str) -> None:
    async with watching() as watch, trio.open_nursery() as nursery:
        with three() as (ours, near, later, near2, upstream, server):
            tentative = Tentative(ours, b"", watch, final=False)
            nursery.start_soon(settle, tentative, upstream)
            assert await hear(near, 1) == ACCEPTED
            reset(near) if how == "reset" else near.close()
            await trio.sleep(0.01)
            server.send(b"pong")
            tentative.succeed(later, COMMITTED, final=False)
            assert await hear(near2, 1) == ACCEPTED
            await trio.sleep(0.02)
            assert tentative.settled


async def test_nobody_comes_back() -> None:
    async with watching() as watch:
        with three() as (ours, _, _, _, upstream, _):
            with pytest.raises(Abandoned):
                await settle(Tentative(ours, b"", watch, final=False), upstream, 0.02)
            assert ours.fileno() > 0, "it is the session's to close"


async def test_another_word_than_the_one() -> None:
    async with watching() as watch:
        with three() as (ours, near, _, _, upstream, _):
            near.send(b"GET")
            with pytest.raises(Malformed):
                await settle(Tentative(ours, b"", watch, final=False), upstream)


async def test_an_upstream_that_breaks() -> None:
    async with watching() as watch:
        with three() as (ours, _, _, _, upstream, server):
            reset(server)
            with pytest.raises(ConnectionResetError):
                await settle(Tentative(ours, b"", watch, final=False), upstream)


async def test_no_more_is_passed_than_can_be_kept() -> None:
    async with watching() as watch, trio.open_nursery() as nursery:
        with three() as (ours, near, _, _, upstream, server):
            tentative = Tentative(ours, b"", watch, final=False)
            nursery.start_soon(settle, tentative, upstream)
            server.setblocking(False)
            sent = blocked = 0
            with trio.fail_after(30):
                while blocked < 30 or not tentative.passed:
                    try:
                        sent += server.send(bytes(65536))
                        blocked = 0
                    except BlockingIOError:
                        blocked += 1
                        await trio.sleep(0.01)
            assert 0 < tentative.passed <= 65536 < sent
            near.send(COMMITTED)
            while not tentative.settled:  # noqa: ASYNC110  # what is tested
                await trio.sleep(0.001)
