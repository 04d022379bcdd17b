"""The far side's word: it comes, it does not, the far side closes; and a plain connection beside."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from proxy.core.address import Endpoint
from proxy.core.evidence import Evidence
from proxy.core.fastopen import PLAIN_PLAN
from proxy.core.outcomes import Reason
from proxy.core.tunnel import ACCEPTED
from proxy.net import acceptance, dial
from proxy.net.upstream import DialFailed, Upstream
from proxy.net.watch import Watch
from tests.net.pairs import pair, reset
from tests.net.watching import watching


@contextmanager
def far_side() -> Iterator[tuple[socket.socket, Endpoint]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        yield listener, Endpoint(*listener.getsockname())


async def first(watch: Watch, endpoint: Endpoint) -> Upstream:
    """A connection of which we say that it was fast-opened."""
    attempt = dial.begin(endpoint, b"", PLAIN_PLAN, watch.clock)
    upstream = await dial.connect(endpoint, attempt, watch, 30)
    upstream.sent = upstream.syn_bytes = 10
    return upstream


async def test_the_word_comes() -> None:
    async with watching() as watch:
        with far_side() as (listener, endpoint):
            upstream = await first(watch, endpoint)
            far, _ = listener.accept()
            far.send(ACCEPTED + b"pong")
            assert await acceptance.accepted(upstream, watch, watch.clock() + 60, 30) is upstream
            assert upstream.sock.recv(100) == b"pong", "no byte more is taken"
            upstream.sock.close()
            far.close()


@pytest.mark.parametrize("broken", [False, True], ids=["silent", "reset"])
async def test_it_does_not(broken: bool) -> None:
    """Then a plain connection is there, and the first one is reset."""
    async with watching() as watch:
        with far_side() as (listener, endpoint):
            upstream = await first(watch, endpoint)
            far, _ = listener.accept()
            if broken:
                reset(far)
            doubt_at = watch.clock() + (60 if broken else 0.1)
            chosen = await acceptance.accepted(upstream, watch, doubt_at, 30)
            assert (watch.clock() < doubt_at) is broken, "a broken one is not waited for"
            assert chosen is not upstream
            assert (chosen.evidence, chosen.hedged, chosen.sent) == (Evidence.SILENT, True, 0)
            assert (chosen.syn_bytes, chosen.repeated) == (10, 10)
            assert upstream.sock.fileno() < 0
            if not broken:
                with pytest.raises(ConnectionResetError):
                    far.recv(1)
            far.close()
            chosen.sock.close()


async def test_it_comes_while_there_is_nobody_else() -> None:
    async with watching() as watch, trio.open_nursery() as nursery:
        with far_side() as (listener, endpoint):
            upstream = await first(watch, endpoint)
            far, _ = listener.accept()
            listener.close()  # the plain dial is refused

            async def later() -> None:
                await trio.sleep(0.1)
                far.send(ACCEPTED)

            nursery.start_soon(later)
            assert await acceptance.accepted(upstream, watch, watch.clock() + 0.01, 30) is upstream
            upstream.sock.close()
            far.close()


@pytest.mark.parametrize("word", [b"", b"?"], ids=["closes", "says-something-else"])
async def test_a_far_side_that_does_not_believe_us(word: bytes) -> None:
    async with watching() as watch:
        with far_side() as (listener, endpoint):
            upstream = await first(watch, endpoint)
            far, _ = listener.accept()
            far.send(word)
            far.close()
            with pytest.raises(DialFailed, match="its log says why") as error:
                await acceptance.accepted(upstream, watch, watch.clock() + 60, 30)
            assert error.value.reason is Reason.NOT_PERMITTED
            assert upstream.sock.fileno() < 0
            listener.settimeout(0.05)
            with pytest.raises(TimeoutError):
                listener.accept()


async def test_neither_word_nor_connection() -> None:
    async with watching() as watch:
        with far_side() as (listener, endpoint):
            upstream = await first(watch, endpoint)
            far, _ = listener.accept()
            listener.close()
            with pytest.raises(DialFailed):
                await acceptance.accepted(upstream, watch, watch.clock() + 0.01, 0.1)
            assert upstream.sock.fileno() < 0
            far.close()


async def test_all_is_said_however_little_is_taken_at_once() -> None:
    with pair(small=True) as (ours, theirs):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(acceptance.say_all, ours, bytes(300_000), 60)
            heard = 0
            while heard < 300_000:
                heard += len(await trio.to_thread.run_sync(theirs.recv, 65536))
    with pair(small=True) as (ours, _):
        with pytest.raises(DialFailed) as error:
            await acceptance.say_all(ours, bytes(3_000_000), 0.05)
        assert error.value.reason is Reason.CONNECT_TIMEOUT
        assert ours.fileno() < 0
