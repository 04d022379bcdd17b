from __future__ import annotations

import random
import re
import socket
from contextlib import suppress

import pytest
import trio

from proxy.admin import exchange, server
from tests.admin.house import SmallHouse, admin_of, ask, raw
from tests.serving import Recorder

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
HOST = b"Host: localhost\r\n"


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (b"GET /livez HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", [200]),
        (b"GET /livez HTTP/1.0\r\n\r\n", [200]),
        (b"GET /livez HTTP/1.1\r\n\r\n", [400]),  # HTTP/1.1 without Host
        (b"GET /livez HTTP/1.1\r\n" + HOST + HOST + b"\r\n", [400]),
        (b"GET /livez HTTP/2.0\r\n" + HOST + b"\r\n", [505]),
        (b"GET /livez\r\n\r\n", [400]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500 + b"\r\n\r\n", [400]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 50, [505]),
        (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", [400]),
        (b"HEAD * HTTP/1.1\r\n" + HOST + b"\r\n", [400]),
        (b"HEAD /livez HTTP/1.1\r\n" + HOST + b"Content-Length: 9999\r\n\r\n" + b"x" * 9999, [413]),
        (b"CONNECT evil.example:443 HTTP/1.1\r\n" + HOST + b"\r\n", [400]),
        (b"GET http://localhost/livez HTTP/1.1\r\n" + HOST + b"\r\n", [400]),
        (b"GET /livez HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 40_000 + b"\r\n\r\n", [431]),
        (b"GET /livez HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 16_400 + b"\r\n\r\n", [431]),
        (b"GET /" + b"a" * 16_400 + b" HTTP/1.1\r\n" + HOST + b"\r\n", [431]),
        (b"GET /livez HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 2_800 + b"\r\n", [431]),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", [431]),
        (b"GET /livez HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 20_000 + b"\r\n", [431]),
        (b"GET /livez HTTP/1.1\r\n" + HOST + b"Bad\0Name: x\r\n\r\n", [400]),
        (b"GET /livez HTTP/1.1\r\n" + HOST + b" folded\r\n\r\n", [421]),
        (b"POST /api/v1/reload HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", [400]),
        (b"POST /api/v1/reload HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx", [400]),
        (b"POST /api/v1/reload HTTP/1.1\r\n" + HOST + b"Content-Length: 99999\r\n\r\n" + b"x" * 99999, [413]),
        (b"POST /api/v1/reload HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", [400]),
        (b"POST /api/v1/reload HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\nx", [400, 501]),
        (
            b"POST /api/v1/drain HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 1\r\n"
            b"Connection: close\r\n\r\nx",
            [100, 401],
        ),
        # What ended other servers' whole process.
        (
            b"GET /livez HTTP/1.1\r\n" + HOST + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"HTTP2-Settings: AAA\r\n\r\n",
            [200],
        ),
        (
            b"GET /livez HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n\xff\xff\xff\xff",
            [200],
        ),
        (
            b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\nGET /readyz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n",
            [200, 200],
        ),
    ],
)  # fmt: skip
async def test_what_clients_send(sent: bytes, statuses: list[int]) -> None:
    events = Recorder()
    async with admin_of(SmallHouse(), events=events) as where:
        got = [int(status) for status in STATUS.findall(await raw(where, sent))]
        assert got == statuses or (len(got) == 1 and got[0] in statuses), got
        assert (await ask(where, "/livez")).status == 200
    assert not events.faults


async def test_any_bytes() -> None:
    """Random ones, and good requests with bytes changed."""
    chance = random.Random(7)
    good = b"POST /api/v1/loglevel HTTP/1.1\r\n" + HOST + b'Content-Length: 17\r\n\r\n{"level":"debug"}'
    events = Recorder()
    async with admin_of(SmallHouse(), events=events) as where:
        async with trio.open_nursery() as nursery:
            limit = trio.CapacityLimiter(20)

            async def one(sent: bytes) -> None:
                async with limit:
                    host, _, port = where.rpartition(":")
                    async with await trio.open_tcp_stream(host, int(port)) as stream:
                        with trio.move_on_after(0.2):
                            try:
                                await stream.send_all(sent)
                                await stream.receive_some(10_000)
                            except trio.BrokenResourceError:
                                pass

            for number in range(400):
                data = bytearray(good if number % 2 else chance.randbytes(chance.randrange(1, 400)))
                for _ in range(chance.randrange(1, 6)):
                    data[chance.randrange(len(data))] = chance.randrange(256)
                nursery.start_soon(one, bytes(data[: chance.randrange(1, len(data) + 1)]))
        assert (await ask(where, "/livez")).status == 200
    assert not events.faults


async def test_one_connection_for_many_requests() -> None:
    request = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"
    async with admin_of(SmallHouse()) as where:
        host, _, port = where.rpartition(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            for _ in range(50):
                await stream.send_all(request)
                assert (await stream.receive_some(10_000)).startswith(b"HTTP/1.1 200")


async def test_a_head_byte_by_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slowly is fine until patience ends, however often a byte comes."""
    monkeypatch.setattr(exchange, "HEAD_PATIENCE", 60.0)
    async with admin_of(SmallHouse()) as where:
        host, _, port = where.rpartition(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            for byte in b"GET /livez HTTP/1.0\r\n\r\n":
                await stream.send_all(bytes([byte]))
            assert (await stream.receive_some(10_000)).startswith(b"HTTP/1.1 200")
        monkeypatch.setattr(exchange, "HEAD_PATIENCE", 0.5)
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            with trio.fail_after(30):
                try:
                    while True:
                        await stream.send_all(b"G")
                        with trio.move_on_after(0.05):
                            if not await stream.receive_some(1000):
                                break
                except trio.BrokenResourceError:
                    pass


async def test_a_body_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "HEAD_PATIENCE", 0.2)
    async with admin_of(SmallHouse()) as where:
        answer = await raw(where, b"POST /api/v1/reload HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nab")
    assert answer.startswith(b"HTTP/1.1 408")


async def test_who_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "SEND_PATIENCE", 0.3)
    monkeypatch.setattr(server, "_SEND_BUFFER", 4096)
    house = SmallHouse()
    events = Recorder()
    async with admin_of(house, events=events) as where:
        host, _, port = where.rpartition(":")
        sock = trio.socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await sock.connect((host, int(port)))
        async with trio.SocketStream(sock) as stream:
            with trio.move_on_after(0.2):
                await stream.send_all((b"GET / HTTP/1.1\r\n" + HOST + b"\r\n") * 20_000)
            await trio.sleep(1)
            with trio.fail_after(30):
                try:
                    while await stream.receive_some(1 << 20):
                        pass
                except trio.BrokenResourceError:
                    pass
        assert (await ask(where, "/livez")).status == 200
    assert not events.faults


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /livez HTTP/1.1\r\n",
        b"POST /api/v1/drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n",
        b"GET /style.css HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500,
    ],
    ids=["nothing", "half a head", "half a body", "no answer read"],
)
async def test_whoever_keeps_us_waiting_makes_room(monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    monkeypatch.setattr(server, "MOST", 20)
    monkeypatch.setattr(server, "_SEND_BUFFER", 4096)
    async with admin_of(SmallHouse()) as where:
        host, _, port = where.rpartition(":")
        idle = [await trio.open_tcp_stream(host, int(port)) for _ in range(100)]
        for stream in idle:
            with suppress(trio.BrokenResourceError), trio.move_on_after(0.01):
                await stream.send_all(said)
        for _ in range(5):
            assert (await ask(where, "/livez")).status == 200
        for stream in idle:
            await stream.aclose()
