"""Both sides of a tunnel in one process, on loopback; what paths do to it is in tests/wire/test_tunnel.py."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from proxy.core import tunnel
from proxy.core.address import Endpoint
from proxy.core.clusters import Replay, SendHeader, Via
from proxy.core.destinations import Destinations
from proxy.core.outcomes import Reason
from proxy.core.snapshot import DIRECT, Cluster, FarSide, Listener, Mode, Snapshot
from proxy.core.tunnel import ACCEPTED, COMMITTED, Ticket
from tests.serving import HERE, Serving, echo, one_listener, serving, upstream

KEY = bytes(range(16))
POST = b"POST / HTTP/1.1\r\n\r\n"


@asynccontextmanager
async def far_side() -> AsyncIterator[Serving]:
    listener = Listener("far", HERE, Mode.TUNNEL, DIRECT, far_side=FarSide((KEY,)))
    async with serving(Snapshot((listener,), {}, destinations=Destinations((), ()))) as far:
        yield far


@asynccontextmanager
async def both(server: Cluster, **more: object) -> AsyncIterator[tuple[Serving, Serving]]:
    async with far_side() as far:
        there = Endpoint(*far.sockets["far"][0].getsockname()[:2])
        cluster = replace(server, via=Via("tunnel", there, keys=(KEY,)), **more)  # type: ignore[arg-type]
        async with serving(one_listener(cluster)) as near:
            yield near, far


def opening(
    server: Cluster, early: bytes = POST, attempt: int = 1, *, nonce: bytes = b"", final: bool = False
) -> bytes:
    (endpoint,) = server.endpoints
    assert isinstance(endpoint, Endpoint)
    ticket = Ticket(
        nonce or os.urandom(16), time.time(), endpoint, Endpoint("192.0.2.1", 1), Endpoint("192.0.2.2", 2)
    )
    return tunnel.seal(KEY, ticket, attempt, early, final=final) + early


@pytest.mark.parametrize("size", [1, 1000, 100_000])
async def test_there_and_back(size: int) -> None:
    data = os.urandom(size)
    async with upstream(echo) as server, both(server) as (near, far):
        for number in (1, 2):
            async with await near.connect() as client:
                await client.send_all(data)
                found = b""
                while len(found) < size:
                    found += await client.receive_some()
                assert found == data
                await client.send_eof()
                assert await client.receive_some() == b""
            record = await near.events.record(number)
            assert (record.up_bytes, record.down_bytes, record.reason) == (size, size, Reason.CLOSED)
            record = await far.events.record(number)
            assert (record.up_bytes, record.down_bytes, record.reason) == (size, size, Reason.CLOSED)


async def test_replay_none_means_nothing_to_a_tunnel() -> None:
    async with upstream(echo) as server, both(server, replay=Replay.NONE) as (near, _):
        client = await near.connect()
        await client.send_all(POST)
        assert await client.receive_some() == POST
        await client.aclose()


@pytest.mark.parametrize("early", [POST, b""])
async def test_the_server_is_told_whom_it_is_for(early: bytes) -> None:
    """The near side's cluster says so; spare connections mean nothing to a tunnel."""
    async with (
        upstream(echo) as server,
        both(server, proxy_header=SendHeader.V1, preconnect=2) as (near, _),
    ):
        client = await near.connect()
        if early:
            await client.send_all(early)
        (host, port), (_, dialled) = client.socket.getsockname(), client.socket.getpeername()
        said = f"PROXY TCP4 {host} 127.0.0.1 {port} {dialled}\r\n".encode() + early
        assert await heard(client, len(said)) == said
        await client.send_all(b"more")
        assert await heard(client, 4) == b"more"
        await client.aclose()


async def test_a_far_side_that_is_not_there() -> None:
    async with upstream(echo) as server:
        async with far_side() as far:
            there = Endpoint(*far.sockets["far"][0].getsockname()[:2])
        cluster = replace(server, via=Via("tunnel", there, keys=(KEY,)))
        async with serving(one_listener(cluster)) as near, await near.connect() as client:
            await client.send_all(POST)
            with pytest.raises(trio.BrokenResourceError):
                await client.receive_some()
            assert (await near.events.record()).reason is Reason.REFUSED


async def test_a_unix_socket_is_nowhere_for_the_far_side() -> None:
    cluster = Cluster("c", (Endpoint("/run/x", 0),))
    async with both(cluster) as (near, _), await near.connect() as client:
        await client.send_all(POST)
        with pytest.raises(trio.BrokenResourceError):
            await client.receive_some()
        assert (await near.events.record()).reason is Reason.NO_ENDPOINT


async def test_a_later_attempt_takes_over_and_an_earlier_one_is_a_replay() -> None:
    nonce = os.urandom(16)
    async with upstream(echo) as server, far_side() as far:
        async with await far.connect("far") as first:
            await first.send_all(opening(server, nonce=nonce))
            assert await heard(first, 1 + len(POST)) == ACCEPTED + POST
            async with await far.connect("far") as replay:
                await replay.send_all(opening(server, nonce=nonce))
                assert await replay.receive_some() == b""
            async with await far.connect("far") as second:
                await second.send_all(opening(server, attempt=2, nonce=nonce))
                assert await heard(second, 1 + len(POST)) == ACCEPTED + POST
                with pytest.raises(trio.BrokenResourceError):
                    await first.receive_some()
                await second.send_all(COMMITTED + b"more")
                assert await heard(second, 4) == b"more"
                async with await far.connect("far") as third:
                    await third.send_all(opening(server, attempt=3, nonce=nonce))
                    assert await third.receive_some() == b"", "it is settled"
        reasons = [(await far.events.record(number)).reason for number in (1, 2, 3)]
        assert reasons == [Reason.REPLAYED, Reason.TAKEN_OVER, Reason.REPLAYED]
        record = await far.events.record(4)
        assert (record.up_bytes, record.down_bytes) == (len(POST) + 4, len(POST) + 4)


@pytest.mark.parametrize("final", [True, False])
async def test_an_attempt_that_comes_while_the_server_is_dialled(final: bool) -> None:
    nonce = os.urandom(16)
    async with upstream(echo) as server, far_side() as far:
        first, second = await far.connect("far"), await far.connect("far")
        await first.send_all(opening(server, nonce=nonce))
        await second.send_all(opening(server, attempt=2, nonce=nonce, final=final))
        answer = POST if final else ACCEPTED + POST
        assert await heard(second, len(answer)) == answer
        await second.send_all(b"more" if final else COMMITTED + b"more")
        assert await heard(second, 4) == b"more"
        await first.aclose()
        await second.aclose()


async def heard(stream: trio.SocketStream, size: int) -> bytes:
    found = b""
    with trio.fail_after(30):
        while len(found) < size:
            more = await stream.receive_some(size - len(found))
            if not more:
                break
            found += more
    return found
