from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from proxy.core.outcomes import EndedBy, Reason
from proxy.net.flow import BUFFER, Flow
from proxy.net.relay import Relay, close_with_reset, unsent
from proxy.net.watch import Watch
from tests.net.pairs import pair, read_all, reset

DATA = bytes(range(251)) * 20_000


class Rig:
    def __init__(self, watch: Watch, client: socket.socket, server: socket.socket) -> None:
        self.watch, self.client, self.server = watch, client, server
        self.heard: list[bool] = []
        self.over = trio.Event()
        self.relay: Relay

    async def ended(self) -> Relay:
        with trio.fail_after(30):
            await self.over.wait()
        return self.relay


@asynccontextmanager
async def relaying(
    early: bytes = b"",
    *,
    ended: bool = False,
    before: Callable[[Rig], None] = lambda _: None,
    small: bool = False,
) -> AsyncIterator[Rig]:
    """A client and a server with a relay between them."""
    watch = Watch()
    async with trio.open_nursery() as nursery:
        await nursery.start(watch.run)
        with pair(small=small) as (downstream, client), pair(small=small) as (upstream, server):
            rig = Rig(watch, client, server)
            buffer = memoryview(bytearray(BUFFER))

            def over() -> None:  # as a session does
                downstream.close()
                upstream.close()
                rig.over.set()

            rig.relay = Relay(downstream, upstream, watch, buffer, over, rig.heard.append)
            before(rig)
            rig.relay.start(early, downstream_ended=ended)
            yield rig
            rig.relay.drop()
        nursery.cancel_scope.cancel()


async def receive(sock: socket.socket, size: int = 1 << 16) -> bytes:
    return await trio.to_thread.run_sync(sock.recv, size)


async def test_bytes_both_ways_and_who_spoke_first() -> None:
    async with relaying() as rig:
        rig.client.sendall(b"ping")
        assert await receive(rig.server) == b"ping"
        rig.server.sendall(b"pong")
        assert await receive(rig.client) == b"pong"
        assert rig.heard == [True]
        assert (rig.relay.up.moved, rig.relay.down.moved) == (4, 4)
        assert rig.relay.first_byte is not None
        assert not rig.over.is_set()


async def test_a_server_that_speaks_first_is_heard() -> None:
    async with relaying() as rig:
        rig.server.sendall(b"220\r\n")
        assert await receive(rig.client) == b"220\r\n"
        assert rig.heard == [False]


async def test_early_data_goes_first() -> None:
    async with relaying(b"first ") as rig:
        rig.client.sendall(b"second")
        got = b""
        while len(got) < 12:
            got += await receive(rig.server)
        assert got == b"first second"


async def test_what_was_there_before_it_began_is_seen() -> None:
    def before(rig: Rig) -> None:
        rig.client.sendall(b"up")
        rig.server.sendall(b"down")
        rig.client.shutdown(socket.SHUT_WR)
        rig.server.shutdown(socket.SHUT_WR)

    async with relaying(before=before) as rig:
        relay = await rig.ended()
        assert (read_all(rig.server), read_all(rig.client)) == (b"up", b"down")
        assert (relay.up.moved, relay.down.moved) == (2, 4)
        assert relay.reason is Reason.CLOSED


async def test_half_closes_are_kept() -> None:
    async with relaying() as rig:
        rig.client.sendall(b"request")
        rig.client.shutdown(socket.SHUT_WR)
        assert await trio.to_thread.run_sync(read_all, rig.server) == b"request"
        await trio.sleep(0.02)
        assert not rig.over.is_set()
        rig.server.sendall(b"answer")
        rig.server.close()
        assert await receive(rig.client) == b"answer"
        relay = await rig.ended()
        assert (relay.ended_by, relay.reason) == (EndedBy.DOWNSTREAM, Reason.CLOSED)
        assert relay.survivor() is None


async def test_a_client_that_had_ended_before() -> None:
    async with relaying(b"all I have to say", ended=True) as rig:
        assert await trio.to_thread.run_sync(read_all, rig.server) == b"all I have to say"
        rig.server.close()
        relay = await rig.ended()
        assert (relay.ended_by, relay.reason) == (EndedBy.DOWNSTREAM, Reason.CLOSED)


@pytest.mark.parametrize("side", [EndedBy.DOWNSTREAM, EndedBy.UPSTREAM])
async def test_a_reset_ends_both_and_says_whose_it_was(side: EndedBy) -> None:
    async with relaying() as rig:
        rig.client.sendall(b"x")
        assert await receive(rig.server) == b"x"
        broken = rig.client if side is EndedBy.DOWNSTREAM else rig.server
        reset(broken)
        relay = await rig.ended()
        assert (relay.ended_by, relay.reason) == (side, Reason.RESET)
        survivor = relay.survivor()
        assert survivor is (relay.up.sink if side is EndedBy.DOWNSTREAM else relay.down.sink)


async def test_what_a_server_said_before_its_reset_arrives() -> None:
    async with relaying() as rig:
        rig.server.sendall(DATA[:5000])
        assert (await receive(rig.client))[:1] == DATA[:1]
        rig.client.setblocking(False)
        reset(rig.server)
        relay = await rig.ended()
        assert relay.down.moved == 5000


async def test_a_client_that_resets_while_the_server_is_sending() -> None:
    async with relaying() as rig:
        feeder = threading.Thread(target=_send_until_broken, args=(rig.server,))
        feeder.start()
        await receive(rig.client)
        reset(rig.client)
        relay = await rig.ended()
        assert (relay.ended_by, relay.reason) == (EndedBy.DOWNSTREAM, Reason.RESET)
        await trio.to_thread.run_sync(feeder.join)


def _send_until_broken(sock: socket.socket) -> None:
    try:
        while True:
            sock.sendall(DATA)
    except OSError:
        pass


@pytest.mark.parametrize("small", [False, True])
async def test_bulk_both_ways_at_once(small: bool) -> None:
    size = len(DATA)
    async with relaying(small=small) as rig, trio.open_nursery() as nursery:
        results: dict[str, bytes] = {}

        def feed(sock: socket.socket) -> None:
            sock.sendall(DATA)
            sock.shutdown(socket.SHUT_WR)

        async def read(name: str, sock: socket.socket) -> None:
            results[name] = await trio.to_thread.run_sync(read_all, sock)

        rig.client.settimeout(30)
        rig.server.settimeout(30)
        nursery.start_soon(trio.to_thread.run_sync, feed, rig.client)
        nursery.start_soon(trio.to_thread.run_sync, feed, rig.server)
        nursery.start_soon(read, "server", rig.server)
        nursery.start_soon(read, "client", rig.client)
        with trio.fail_after(30):
            await rig.over.wait()
    assert results == {"server": DATA, "client": DATA}
    assert (rig.relay.up.moved, rig.relay.down.moved) == (size, size)


async def test_a_slow_reader_holds_back_and_is_not_forgotten() -> None:
    async with relaying(small=True) as rig:
        rig.server.setblocking(False)
        sent = 0
        for _ in range(20):
            try:
                sent += rig.server.send(DATA[sent:])
            except BlockingIOError:
                await trio.sleep(0.01)
        held = rig.relay.down.held()
        assert 0 < held <= BUFFER
        rig.server.shutdown(socket.SHUT_WR)
        assert await trio.to_thread.run_sync(read_all, rig.client) == DATA[:sent]


async def test_urgent_data_neither_stops_nor_cuts_the_stream() -> None:
    """A read stops short at the urgent mark (tcp(7)): what is behind it must come all the same."""

    def before(rig: Rig) -> None:
        rig.client.sendall(b"before")
        rig.client.send(b"!", socket.MSG_OOB)
        rig.client.sendall(b"after")
        rig.client.shutdown(socket.SHUT_WR)

    async with relaying(before=before) as rig:
        got = await trio.to_thread.run_sync(read_all, rig.server)
        assert got.replace(b"!", b"") == b"beforeafter"


async def test_urgent_data_does_not_make_it_wait() -> None:
    def before(rig: Rig) -> None:
        rig.client.sendall(b"before")
        rig.client.send(b"!", socket.MSG_OOB)
        rig.client.sendall(b"after")

    async with relaying(before=before) as rig:
        got = b""
        with trio.fail_after(30):
            while not got.endswith(b"after"):
                got += await receive(rig.server)


async def test_stopped_from_outside_it_says_so_once() -> None:
    async with relaying() as rig:
        rig.relay.stop()
        assert rig.over.is_set()
        rig.client.sendall(b"x")
        await trio.sleep(0.02)
        rig.relay.stop()
        assert rig.relay.up.moved == 0


async def test_a_mistake_of_ours_ends_this_one_only(monkeypatch: pytest.MonkeyPatch) -> None:
    async with relaying() as rig:
        monkeypatch.setattr(Flow, "pump", _fail)
        rig.client.sendall(b"x")
        relay = await rig.ended()
        assert isinstance(relay.fault, ZeroDivisionError)


def _fail(*_: object) -> bool:
    raise ZeroDivisionError


async def test_a_reset_waits_for_the_bytes_on_their_way() -> None:
    with pair() as (ours, peer):
        ours.send(b"last words")
        await close_with_reset(ours)
        assert peer.recv(100) == b"last words"
        with pytest.raises(ConnectionResetError):
            peer.recv(1)
        assert ours.fileno() == -1


async def test_a_reset_does_not_wait_for_ever() -> None:
    with pair(small=True) as (ours, peer):
        with pytest.raises(BlockingIOError):
            while True:
                ours.send(DATA)
        assert unsent(ours) > 0
        started = trio.current_time()
        await close_with_reset(ours)
        assert 0.9 <= trio.current_time() - started < 30
        with pytest.raises(ConnectionResetError):
            read_all(peer)


def test_who_has_read_everything_leaves_nothing_unsent() -> None:
    with pair() as (ours, peer):
        ours.send(b"x")
        assert peer.recv(1) == b"x"
        assert unsent(ours) == 0


async def test_urgent_data_in_the_middle_of_bulk() -> None:
    half = len(DATA) // 2

    def feed(sock: socket.socket) -> None:
        sock.sendall(DATA[:half])
        sock.send(b"!", socket.MSG_OOB)
        sock.sendall(DATA[half:])
        sock.shutdown(socket.SHUT_WR)

    async with relaying() as rig, trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, feed, rig.client)
        got = await trio.to_thread.run_sync(read_all, rig.server)
        assert got in {DATA, DATA[:half] + b"!" + DATA[half:]}
