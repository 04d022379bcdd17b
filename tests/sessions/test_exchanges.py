"""Plain HTTP requests, one after another on a client's connection, on loopback: what the server gets, byte by byte."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
import trio.lowlevel

from proxy.core.destinations import Ban, Destinations
from proxy.core.http1 import VIA
from proxy.core.networks import parse_network
from proxy.core.outcomes import EndedBy, Reason
from proxy.core.record import SessionRecord
from proxy.core.snapshot import Cluster, Mode, Snapshot, Timeouts
from proxy.core.users import Secret, Users
from proxy.sessions import asking as asking_module
from proxy.sessions.reception import VIA as OWN
from tests.serving import Serving, serving, upstream
from tests.sessions.test_asking import asking, target

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
VIA_LINE = b"Via: 1.1 " + OWN + b"\r\n"


@dataclass
class Origin:
    """A server that answers with ``answers`` in turn, once it has a head and ``body`` bytes more, and then waits."""

    answers: list[bytes] = field(default_factory=lambda: [OK])
    body: int = 0
    ends: str = "waits"  # what it does after its answer: waits for the client's end, closes, resets
    received: list[bytes] = field(default_factory=list)
    ended_early: int = 0  # connections whose client ended before there was an answer
    ended: list[str] = field(default_factory=list)

    async def __call__(self, stream: trio.SocketStream) -> None:
        try:
            await self._serve(stream)
        except trio.BrokenResourceError:
            self.ended.append("rst")

    async def _serve(self, stream: trio.SocketStream) -> None:
        number = len(self.received)
        self.received.append(b"")
        while not self._is_whole(self.received[number]):
            data = await stream.receive_some()
            if not data:
                self.ended_early += 1
                return
            self.received[number] += data
        with trio.move_on_after(0.05):  # what comes behind
            if data := await stream.receive_some():
                self.received[number] += data
            else:
                self.ended_early += 1
        for piece in self.answers[number % len(self.answers)].split(b"|"):
            await stream.send_all(piece)
        if self.ends == "closes":
            return
        if self.ends == "resets":
            stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            stream.socket.close()
            return
        while data := await stream.receive_some():
            self.received[number] += data
        self.ended.append("fin")

    def _is_whole(self, data: bytes) -> bool:
        return b"\r\n\r\n" in data and len(data.partition(b"\r\n\r\n")[2]) >= self.body


class Client:
    def __init__(self, stream: trio.SocketStream, cluster: Cluster) -> None:
        self.stream, self.to = stream, str(target(cluster)).encode()
        self._said = b""

    async def ask(self, first: bytes, *fields: bytes, body: bytes = b"") -> None:
        """``METHOD /path``, or with a version; Host is added."""
        method, path, *version = first.split()
        line = b" ".join((method, b"http://" + self.to + path, *(version or [b"HTTP/1.1"])))
        lines = [line, b"Host: x", *fields, b"", b""]
        await self.stream.send_all(b"\r\n".join(lines) + body)

    async def read(self, size: int) -> bytes:
        with trio.fail_after(10):
            while len(self._said) < size and (data := await self.stream.receive_some()):
                self._said += data
        said, self._said = self._said[:size], self._said[size:]
        return said

    async def answer(self) -> tuple[bytes, bytes]:
        """Head and body of an answer with a Content-Length."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = await self.read(1)
            assert byte, head
            head += byte
        _, _, rest = head.lower().partition(b"content-length: ")
        return head, await self.read(int(rest.partition(b"\r\n")[0] or b"0"))

    async def rest(self) -> bytes:
        """All until its end; a reset ends in ``<reset>``."""
        try:
            return await self.read(1 << 30)
        except trio.BrokenResourceError:
            return self._said + b"<reset>"


@asynccontextmanager
async def client(
    origin: Callable[[trio.SocketStream], Awaitable[None]], snapshot: Snapshot | None = None
) -> AsyncIterator[tuple[Serving, Client]]:
    async with (
        upstream(origin) as cluster,
        serving(snapshot or asking(Mode.HTTP)) as here,
        await here.connect() as stream,
    ):
        yield here, Client(stream, cluster)


async def records(here: Serving, number: int) -> list[SessionRecord]:
    await here.events.record(number)
    return here.events.records


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(5):
        while not condition():  # noqa: ASYNC110  # it can only be looked at
            await trio.sleep(0.01)


async def test_requests_follow_each_other_on_one_connection() -> None:
    origin = Origin(answers=[OK, OK.replace(b"ok", b"no")])
    async with client(origin) as (here, asks):
        for number in range(4):
            await asks.ask(b"GET /%d" % number, b"X-Case: Kept")
            head, body = await asks.answer()
            assert head == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + VIA_LINE + b"\r\n"
            assert body == (b"no" if number % 2 else b"ok")
        ended = await records(here, 4)
        assert {(record.mode, record.reason, record.ended_by) for record in ended} == {
            ("http", Reason.CLOSED, EndedBy.UPSTREAM)
        }
        assert len({record.client for record in ended}) == 1
        assert len(here.worker.sessions) == 1, "the connection is kept"
        await asks.stream.aclose()
        await until(lambda: not here.worker.sessions)
        assert len(here.events.records) == 4, "one line for each request, and none for an end without one"
    host = b"Host: " + asks.to + b"\r\n"
    assert origin.received == [
        b"GET /%d HTTP/1.1\r\n%bX-Case: Kept\r\n%bConnection: close\r\n\r\n" % (number, host, VIA_LINE)
        for number in range(4)
    ]
    assert origin.ended_early == 0, "a server that has not answered sees no end"


async def test_pipelined_requests_are_answered_in_order() -> None:
    origin = Origin(answers=[OK, OK.replace(b"ok", b"no")])
    async with client(origin) as (here, asks):
        await asks.ask(
            b"POST /1",
            b"Content-Length: 3",
            body=b"abc\r\nGET http://%b/2 HTTP/1.1\r\nHost: x\r\n\r\n" % asks.to,
        )
        await asks.stream.send_eof()
        assert (await asks.answer())[1] == b"ok"
        assert (await asks.answer())[1] == b"no"
        assert await asks.rest() == b""
        assert len(await records(here, 2)) == 2
    assert [data.partition(b" HTTP")[0] for data in origin.received] == [b"POST /1", b"GET /2"]
    assert origin.received[0].endswith(b"\r\n\r\nabc")


@pytest.mark.parametrize("extra", [b"{}\r\n", b"\0", b"x" * 70_000, b" GET / HTTP/1.1\r\n\r\n"])
async def test_bytes_behind_a_request_never_reach_its_server(extra: bytes) -> None:
    origin = Origin()
    async with client(origin) as (_, asks):
        await asks.ask(b"POST /", b"Content-Length: 2", body=b"ab")
        await trio.sleep(0.02)
        await asks.stream.send_all(extra)
        assert (await asks.answer())[1] == b"ok"
        assert (await asks.rest()).startswith((b"HTTP/1.1 400 ", b"<reset>", b""))
    assert origin.received[0].endswith(b"\r\n\r\nab")
    assert (len(origin.received), origin.ended_early) == (1, 0)


async def test_each_request_is_routed_by_itself() -> None:
    forbidden = Destinations(deny=(Ban("other", (parse_network("127.0.0.2/32"),)),))
    async with client(Origin(), asking(Mode.HTTP, forbidden)) as (here, asks):
        await asks.ask(b"GET /")
        assert (await asks.answer())[1] == b"ok"
        await asks.stream.send_all(b"GET http://127.0.0.2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _ = await asks.answer()
        assert head.startswith(b"HTTP/1.1 403 ")
        assert b"\r\nConnection: close\r\n" in head
        assert await asks.rest() == b""
        assert [record.reason for record in await records(here, 2)] == [Reason.CLOSED, Reason.DENIED]


async def test_each_request_is_of_a_user() -> None:
    users = Users({"alice": Secret(b"sesame")})
    login = b"Proxy-Authorization: Basic " + base64.b64encode(b"alice:sesame")
    origin = Origin()
    async with client(origin, asking(Mode.HTTP, users=users)) as (here, asks):
        for _ in range(2):
            await asks.ask(b"GET /", login)
            assert (await asks.answer())[1] == b"ok"
        await asks.ask(b"GET /")
        assert (await asks.answer())[0].startswith(b"HTTP/1.1 407 ")
        assert [record.user for record in await records(here, 3)] == ["alice", "alice", None]
    assert not any(b"Basic" in data for data in origin.received)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "answer", "expected", "goes_on"),
    [
        (b"GET /", CHUNKED, b"5\r\nhello\r\n0\r\n\r\n", True),
        (b"GET / HTTP/1.0", CHUNKED, b"hello", False),
        (b"HEAD /", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"", True),
        (b"GET /", b"HTTP/1.1 304 Not Modified\r\n\r\n", b"", True),
        (b"GET /", b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (b"GET /", b"HTTP/1.0 200 OK\n\nuntil the end", b"until the end", False),
        (b"GET / HTTP/1.0", OK, b"ok", False),
        (b"GET / HTTP/1.7", OK, b"ok", True),
    ],
)
async def test_the_client_is_told_whether_its_connection_goes_on(
    first: bytes, answer: bytes, expected: bytes, goes_on: bool
) -> None:
    origin = Origin(answers=[answer], ends="closes" if b"until" in answer else "waits")
    async with client(origin) as (_, asks):
        await asks.ask(first)
        if goes_on:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += await asks.read(1)
            assert b"onnection: close" not in head
            assert await asks.read(len(expected)) == expected
            await asks.ask(first)
            assert await asks.read(8) == b"HTTP/1.1"
        else:
            head, _, body = (await asks.rest()).partition(b"\r\n\r\n")
            assert b"\r\nConnection: close" in head
            assert body == expected


async def test_an_interim_response_comes_before_the_body() -> None:
    async def careful(stream: trio.SocketStream) -> None:
        said = await stream.receive_some()
        assert said.endswith(b"Connection: close\r\n\r\n")
        await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await stream.receive_some() == b"abc"
        await stream.send_all(OK)

    async with client(careful) as (_, asks):
        for _ in range(2):
            await asks.ask(b"POST /", b"Content-Length: 3", b"Expect: 100-continue")
            assert (await asks.answer())[0].startswith(b"HTTP/1.1 100 Continue\r\n")
            await asks.stream.send_all(b"abc")
            assert (await asks.answer())[1] == b"ok"


@pytest.mark.parametrize("ends", ["waits", "closes", "resets"])
async def test_an_answer_before_the_request_is_complete_is_the_last(ends: str) -> None:
    origin = Origin(answers=[OK.replace(b"200 OK", b"413 Too Large")], ends=ends)
    async with client(origin) as (here, asks):
        await asks.ask(b"POST /", b"Content-Length: 100000", body=b"abc")
        head, body = await asks.answer()
        assert head.startswith(b"HTTP/1.1 413 Too Large\r\n")
        assert b"\r\nConnection: close\r\n" in head
        assert body == b"ok"
        assert await asks.rest() == b""
        assert (await here.events.record()).reason is Reason.CLOSED


async def test_another_protocol_after_101() -> None:
    async def socket(stream: trio.SocketStream) -> None:
        said = await stream.receive_some()
        assert b"\r\nUpgrade: websocket\r\n" in said
        assert said.endswith(b"\r\nConnection: Upgrade\r\n\r\n")
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        await stream.send_all(head + b"first")
        async for data in stream:
            await stream.send_all(data.upper())

    async with client(socket) as (here, asks):
        await asks.ask(b"GET /ws", b"Upgrade: websocket", b"Connection: keep-alive, Upgrade")
        head, _ = await asks.answer()
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in head
        assert await asks.read(5) == b"first"
        for size in (3, 200_000):
            await asks.stream.send_all(b"x" * size)
            assert await asks.read(size) == b"X" * size
        await asks.stream.send_eof()
        assert await asks.rest() == b""
        record = await here.events.record()
        assert (record.reason, record.ended_by) == (Reason.CLOSED, EndedBy.DOWNSTREAM)
        assert record.up_bytes > 200_003 < record.down_bytes


@pytest.mark.parametrize(
    ("answer", "ends", "expected", "reason"),
    [
        (b"", "closes", b"HTTP/1.1 502 ", Reason.BAD_RESPONSE),
        (b"", "resets", b"HTTP/1.1 502 ", Reason.RESET),
        (b"HTTP/1.1 200 OK\r\nX:", "closes", b"HTTP/1.1 502 ", Reason.BAD_RESPONSE),
        (b"hello\r\n\r\n", "waits", b"HTTP/1.1 502 ", Reason.BAD_RESPONSE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n|abc", "closes", b"abc<reset>", Reason.BAD_RESPONSE),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n|1\r\nax\r\n",
            "waits",
            b"<reset>",
            Reason.BAD_RESPONSE,
        ),
    ],
)
async def test_a_server_that_breaks_off(answer: bytes, ends: str, expected: bytes, reason: Reason) -> None:
    async with client(Origin(answers=[answer], ends=ends)) as (here, asks):
        await asks.ask(b"GET /")
        said = await asks.rest()
        assert said.startswith(expected) or said.endswith(expected)
        assert said.endswith(b"<reset>") == expected.endswith(b"<reset>")
        record = await here.events.record()
        assert (record.reason, record.ended_by) == (reason, EndedBy.UPSTREAM)


@pytest.mark.parametrize("resets", [True, False])
async def test_a_client_that_breaks_off_amid_its_request(resets: bool) -> None:
    origin = Origin(body=10)
    async with client(origin) as (here, asks):
        await asks.ask(b"POST /", b"Transfer-Encoding: chunked", body=b"5\r\nhe")
        await trio.sleep(0.1)
        if resets:
            asks.stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            asks.stream.socket.close()
        else:
            await asks.stream.send_eof()
            assert (await asks.answer())[0].startswith(b"HTTP/1.1 400 ")
        record = await here.events.record()
        assert (record.reason, record.ended_by) == (
            Reason.RESET if resets else Reason.BAD_REQUEST,
            EndedBy.DOWNSTREAM,
        )
        await until(lambda: bool(origin.ended or origin.ended_early))
    assert origin.ended != ["fin"], "a request that was cut off must not look complete"


@pytest.mark.parametrize("chunk", [b"0x5\r\nhello\r\n", b"5\r\nhelloX\r\n", b"5\nhello\n"])
async def test_a_body_that_breaks_the_rules_goes_no_further(chunk: bytes) -> None:
    origin = Origin(body=10)
    async with client(origin) as (here, asks):
        await asks.ask(b"POST /", b"Transfer-Encoding: chunked", body=b"1\r\na\r\n")
        await trio.sleep(0.1)
        await asks.stream.send_all(chunk)
        assert (await asks.answer())[0].startswith(b"HTTP/1.1 400 ")
        assert (await here.events.record()).reason is Reason.BAD_REQUEST
        await asks.stream.aclose()
    assert b"hello" not in origin.received[0]
    async with client(Origin()) as (_, asks):
        await asks.ask(b"POST /", b"Transfer-Encoding: chunked", body=chunk)
        assert (await asks.answer())[0].startswith(b"HTTP/1.1 400 ")


async def test_a_client_may_end_behind_its_request() -> None:
    async with client(Origin()) as (_, asks):
        await asks.ask(b"GET /")
        await asks.stream.send_eof()
        assert (await asks.answer())[1] == b"ok"
        assert await asks.rest() == b""


async def test_much_goes_both_ways_through_slow_readers() -> None:
    size = 3_000_000

    async def slow(stream: trio.SocketStream) -> None:
        said = 0
        while said < size:
            said += len(await stream.receive_some(65536))
            await trio.lowlevel.checkpoint()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(size // 1000):
            await stream.send_all(b"3e8\r\n" + b"y" * 1000 + b"\r\n")
        await stream.send_all(b"0\r\n\r\n")

    async with client(slow) as (here, asks):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial_ask(asks, b"POST /", b"Content-Length: %d" % size, body=b"x" * size))
        await trio.sleep(0.3)
        said = bytearray()
        while not said.endswith(b"\r\n0\r\n\r\n"):
            said += await asks.stream.receive_some(100_000)
        assert said.count(b"y" * 1000) == size // 1000
        assert (await here.events.record()).reason is Reason.CLOSED


def partial_ask(asks: Client, *args: bytes, body: bytes) -> Callable[[], Awaitable[None]]:
    return lambda: asks.ask(*args, body=body)


async def test_a_request_that_comes_back_is_refused() -> None:
    async with client(Origin()) as (here, asks):
        await asks.ask(b"GET /", b"Via: 1.1 somebody, 1.1 " + OWN)
        assert (await asks.answer())[0].startswith(b"HTTP/1.1 508 ")
        assert (await here.events.record()).reason is Reason.LOOP
    assert OWN.startswith(VIA + b"-")


async def test_kept_connections_end_with_their_time_and_with_a_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking_module, "KEPT_FOR", 0.2)
    async with client(Origin()) as (here, asks):
        await asks.ask(b"GET /")
        assert (await asks.answer())[1] == b"ok"
        assert await asks.rest() == b"", "its time is over"
        assert len(here.events.records) == 1
    monkeypatch.setattr(asking_module, "KEPT_FOR", 60.0)
    async with client(Origin()) as (here, asks):
        await asks.ask(b"GET /")
        assert (await asks.answer())[1] == b"ok"
        with trio.fail_after(2):
            assert await here.worker.drain(10) == 0
        assert await asks.rest() == b""


async def test_a_server_that_is_silent_for_too_long() -> None:
    async def silent(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            pass

    async with client(silent, asking(Mode.HTTP, timeouts=Timeouts(idle=0.3))) as (here, asks):
        await asks.ask(b"GET /")
        head, body = await asks.answer()
        assert head.startswith(b"HTTP/1.1 504 ")
        assert b"did not answer in time" in body
        assert await asks.rest() == b""
        record = await here.events.record()
        assert (record.reason, record.ended_by) == (Reason.IDLE, EndedBy.TIMEOUT)


async def test_a_request_without_an_answer_is_not_cut_off_by_a_drain() -> None:
    async def slow(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await trio.sleep(0.3)
        await stream.send_all(OK)

    async with client(slow) as (here, asks):
        await asks.ask(b"GET /")
        await trio.sleep(0.1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.worker.drain, 10)
            head, body = await asks.answer()
            assert b"\r\nConnection: close\r\n" in head, "no further request is served"
            assert body == b"ok"
            assert await asks.rest() == b""
