"""Whose answer comes first, the fast-opened connection's or the plain one's; and what the client does meanwhile."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from proxy.core.address import Endpoint
from proxy.core.evidence import Evidence
from proxy.core.fastopen import Open, Plan
from proxy.lab.behaviours import answers, never_answers, speaks_first
from proxy.lab.clients import ask
from proxy.lab.servers import Behaviour, Conversation, Server
from proxy.lab.wan import Wan
from proxy.net import dial, silence
from proxy.net.upstream import Upstream
from proxy.net.watch import Watch

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.04)]

PING = b"ping"
DOUBT = 0.06
NEVER = 300.0  # for what must not happen, however long the machine stands still
LONG = 60.0  # for what is not to be waited for


@pytest.fixture
def client() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Our end of the client's connection, and the client's."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    before = len(list(Path("/proc/self/fd").iterdir()))
    yield
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 8, (
        "the lab's own conversations, and no more"
    )


class Waiting:
    def __init__(self, watch: Watch, primary: Upstream) -> None:
        self.watch, self.primary = watch, primary
        self.doubts = 0
        self.allowed: Callable[[], bool] = lambda: True

    def may_doubt(self) -> bool:
        self.doubts += 1
        return self.allowed()

    async def answer(
        self, downstream: socket.socket, early: bytes = PING, *, timeout: float = LONG, doubt: float = DOUBT
    ) -> Upstream:
        with trio.fail_after(LONG / 2):
            return await silence.first_answer(
                self.primary, early, self.watch, downstream,
                doubt_at=self.primary.started + doubt, timeout=timeout, may_doubt=self.may_doubt,
            )  # fmt: skip


@asynccontextmanager
async def opened(
    wan: Wan, behaviour: Behaviour, early: bytes = PING
) -> AsyncIterator[tuple[Waiting, Server]]:
    """A connection that was fast-opened with a cookie, while nothing is in the way yet."""
    server = wan.serve(behaviour)
    ask(server.address, b"", expect=0)
    endpoint = Endpoint(*server.address)
    plan = Plan(Open.DATA if early else Open.EMPTY, len(early), None, probe=False, era=0)
    watch = Watch()
    async with trio.open_nursery() as nursery:
        await nursery.start(watch.run)
        primary = await dial.connect(endpoint, dial.begin(endpoint, early, plan, watch.clock), watch, LONG)
        wan.forget()
        yield Waiting(watch, primary), server
        nursery.cancel_scope.cancel()
    primary.sock.close()


async def test_an_answer_in_time(wan: Wan, client: tuple[socket.socket, socket.socket]) -> None:
    async with opened(wan, answers()) as (waiting, _):
        chosen = await waiting.answer(client[0], doubt=NEVER)
        assert chosen is waiting.primary
        assert (chosen.spoke, chosen.hedged, chosen.repeated, waiting.doubts) == (True, False, 0, 0)
        assert not wan.capture().syns()


async def test_a_slow_server_keeps_its_connection_and_is_told_twice(
    wan: Wan, client: tuple[socket.socket, socket.socket]
) -> None:
    told, again = itertools.count(1), threading.Event()

    def behave(conversation: Conversation) -> None:
        while conversation.receive():
            if next(told) == 1:
                again.wait(LONG)
                conversation.send(b"pong")
            else:
                again.set()

    async with opened(wan, behave) as (waiting, server):
        chosen = await waiting.answer(client[0])
        assert chosen is waiting.primary
        assert (chosen.evidence, chosen.hedged, chosen.repeated) == (Evidence.SYN_DATA_ACKED, True, 4)
    await trio.to_thread.run_sync(server.wait, 3)
    assert server.received.count(PING) == 2


async def test_an_answer_while_the_rival_is_still_on_its_way(
    wan: Wan, client: tuple[socket.socket, socket.socket]
) -> None:
    dialled = threading.Event()

    def behave(conversation: Conversation) -> None:
        if conversation.receive():
            dialled.wait(LONG)
            conversation.send(b"pong")
            conversation.receive_all()

    async with opened(wan, behave) as (waiting, _), trio.open_nursery() as nursery:

        async def see_the_rival() -> None:
            while not wan.capture().syns():  # noqa: ASYNC110  # the line is another process
                await trio.sleep(0.01)
            dialled.set()

        with wan.through("drops", flags="S", direction="C>S"):
            nursery.start_soon(see_the_rival)
            chosen = await waiting.answer(client[0])  # long before the rival is given up
        assert (chosen is waiting.primary, chosen.repeated) == (True, 0)


async def test_a_silent_path_is_left(wan: Wan, client: tuple[socket.socket, socket.socket]) -> None:
    with wan.through("silent-after-handshake"):
        async with opened(wan, answers()) as (waiting, _):
            chosen = await waiting.answer(client[0])
            with chosen.sock:
                assert chosen is not waiting.primary
                assert (chosen.evidence, chosen.spoke, chosen.plain) == (Evidence.SILENT, True, True)
                assert (chosen.sent, chosen.syn_bytes, chosen.repeated) == (4, 4, 4)
                assert chosen.started == waiting.primary.started
                assert chosen.late is waiting.primary, "its answer would clear the path"
                assert not await silence.late_answer(
                    waiting.primary, waiting.watch, waiting.watch.clock() + 0.1
                )
                assert chosen.sock.recv(10) == b"pong"


async def test_a_banner_that_does_not_come_is_fetched_plainly(
    wan: Wan, client: tuple[socket.socket, socket.socket]
) -> None:
    with wan.through("silent-after-handshake", option=True):
        async with opened(wan, speaks_first(b"220"), early=b"") as (waiting, _):
            chosen = await waiting.answer(client[0], early=b"")
            with chosen.sock:
                assert (chosen.evidence, chosen.repeated) == (Evidence.SILENT, 0)
                assert chosen.sock.recv(10) == b"220"


async def test_no_doubt_is_borne_where_it_is_not_allowed(
    wan: Wan, client: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "_RECHECK", 0.01)
    async with opened(wan, never_answers()) as (waiting, _):
        waiting.allowed = lambda: False
        chosen = await waiting.answer(client[0], timeout=1.0)
        assert chosen is waiting.primary
        assert waiting.doubts > 1, "it is asked now and then"
        assert not wan.capture().syns()


async def test_what_the_client_says_next_goes_to_the_connection_there_is(
    wan: Wan, client: tuple[socket.socket, socket.socket]
) -> None:
    async with opened(wan, never_answers()) as (waiting, _):
        client[1].send(b"more")
        assert await waiting.answer(client[0], doubt=NEVER) is waiting.primary
        assert not wan.capture().syns()
        assert client[0].recv(10) == b"more", "it is left for the relay"


async def test_and_to_the_plain_one_once_there_are_two(
    wan: Wan, client: tuple[socket.socket, socket.socket]
) -> None:
    async with opened(wan, never_answers()) as (waiting, server), trio.open_nursery() as nursery:

        async def speak() -> None:
            while server.received.count(PING) < 2:  # noqa: ASYNC110  # in its own thread
                await trio.sleep(0.01)
            client[1].send(b"more")

        nursery.start_soon(speak)
        chosen = await waiting.answer(client[0])  # long before both are given up
        with chosen.sock:
            assert (chosen.evidence, chosen.plain) == (Evidence.PLAIN, True), "it says nothing of the path"


async def test_two_that_stay_silent_are_left_to_the_session(
    wan: Wan, client: tuple[socket.socket, socket.socket]
) -> None:
    async with opened(wan, never_answers()) as (waiting, _):
        chosen = await waiting.answer(client[0], timeout=2.0)
        with chosen.sock:
            assert (chosen.evidence, chosen.spoke, chosen.repeated) == (Evidence.PLAIN, False, 4)


async def test_a_client_that_has_said_all_is_told_to_both(
    wan: Wan, client: tuple[socket.socket, socket.socket]
) -> None:
    async with opened(wan, never_answers()) as (waiting, server):
        client[1].shutdown(socket.SHUT_WR)
        chosen = await waiting.answer(client[0])
        with chosen.sock:
            assert chosen is waiting.primary, "it ends in turn, as it may"
            assert (chosen.spoke, chosen.sock.recv(10)) == (False, b"")
    await trio.to_thread.run_sync(server.wait, 2)


@pytest.mark.parametrize("fin", [False, True], ids=["reset", "fin"])
async def test_an_end_without_a_byte_is_no_answer(
    wan: Wan, client: tuple[socket.socket, socket.socket], fin: bool
) -> None:
    with wan.through("reset-at-first-answer", fin=fin):
        async with opened(wan, answers()) as (waiting, _):
            chosen = await waiting.answer(client[0], doubt=NEVER)
            with chosen.sock:
                assert chosen.sock.recv(10) == b"pong"
            assert (chosen.evidence, chosen.plain, chosen.spoke) == (Evidence.SILENT, True, True)
            assert (chosen.unanswered, chosen.redialled, chosen.hedged, chosen.late) == (
                True,
                True,
                False,
                None,
            )
            assert waiting.primary.sock.fileno() == -1


@pytest.mark.parametrize("fin", [False, True], ids=["reset", "fin"])
async def test_a_server_that_ends_every_connection_so_is_asked_twice_and_its_end_is_passed_on(
    wan: Wan, client: tuple[socket.socket, socket.socket], fin: bool
) -> None:
    def closes(conversation: Conversation) -> None:
        conversation.receive()
        if not fin:
            conversation.reset()

    async with opened(wan, closes) as (waiting, server):
        chosen = await waiting.answer(client[0], doubt=NEVER)
        with chosen.sock:
            assert (chosen.unanswered, chosen.spoke, chosen.evidence) == (True, False, Evidence.PLAIN)
            if fin:
                assert chosen.sock.recv(1) == b""
            else:
                with pytest.raises(ConnectionResetError):
                    chosen.sock.recv(1)
    await trio.to_thread.run_sync(server.wait, 3)
    assert server.received.count(PING) == 2


async def test_what_the_client_says_after_such_an_end_goes_to_the_plain_one(
    wan: Wan, client: tuple[socket.socket, socket.socket]
) -> None:
    with wan.through("reset-at-first-answer"):
        async with opened(wan, answers()) as (waiting, _), trio.open_nursery() as nursery:

            async def speak() -> None:
                await trio.sleep(0.05)  # the RST is here, the plain connection is not
                client[1].send(b"more")

            nursery.start_soon(speak)
            chosen = await waiting.answer(client[0], doubt=NEVER)
            with chosen.sock:
                assert (chosen.unanswered, chosen.spoke) == (True, False)
                await trio.lowlevel.wait_readable(chosen.sock)
                assert (chosen.sock.recv(10), client[0].recv(10)) == (b"pong", b"more")


async def test_an_error_of_the_clients_socket_stays_in_it(
    wan: Wan, client: tuple[socket.socket, socket.socket]
) -> None:
    async with opened(wan, never_answers()) as (waiting, _):
        client[0].send(b"unread")
        client[1].close()  # a unix socket's RST
        assert await waiting.answer(client[0], doubt=NEVER) is waiting.primary
        with pytest.raises(ConnectionResetError):
            client[0].recv(1)


async def test_a_late_answer_is_heard(wan: Wan, client: tuple[socket.socket, socket.socket]) -> None:
    order = itertools.count(1)

    def behave(conversation: Conversation) -> None:
        if conversation.receive():
            conversation.pause(0.5 if next(order) == 1 else 0.0)
            conversation.send(b"pong")
            conversation.receive_all()

    async with opened(wan, behave) as (waiting, _):
        chosen = await waiting.answer(client[0])
        with chosen.sock:
            assert chosen.late is waiting.primary
            late = chosen.late
            assert late is not None
            assert await silence.late_answer(late, waiting.watch, waiting.watch.clock() + 5)


async def test_nothing_is_left_when_nobody_waits_any_more(
    wan: Wan, client: tuple[socket.socket, socket.socket]
) -> None:
    async with opened(wan, never_answers()) as (waiting, _):
        with trio.move_on_after(0.2) as scope:
            await waiting.answer(client[0])
        assert scope.cancelled_caught
        assert waiting.primary.sock.fileno() != -1, "it is still the caller's"
