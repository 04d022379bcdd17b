from __future__ import annotations

import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

from proxy.admin import events, exchange, views
from tests.admin.house import SmallHouse, a_record, admin_of, ask
from tests.serving import Recorder

NAMES = {
    "status": views.Status,
    "listeners": views.Listeners,
    "clusters": views.Clusters,
    "endpoints": views.Endpoints,
    "sessions": views.Sessions,
}
REQUEST = b"GET /api/v1/events HTTP/1.0\r\nHost: localhost\r\n\r\n"


@asynccontextmanager
async def reader(where: str) -> AsyncIterator[trio.SocketStream]:
    host, _, port = where.rpartition(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(REQUEST)
        yield stream


async def next_events(stream: trio.SocketStream, until: str) -> dict[str, str]:
    """Events by name, the last of each, until one named ``until`` has come."""
    found: dict[str, str] = {}
    data = b""
    with trio.fail_after(30):
        while until not in found or not data.endswith(b"\n\n"):
            data += await stream.receive_some(65536)
            for event in data.decode().split("\n\n"):
                lines = event.split("\n")
                if lines[0].startswith("event: ") and len(lines) == 2:
                    found[lines[0].removeprefix("event: ")] = lines[1].removeprefix("data: ")
    return found


async def test_everything_at_first_then_what_has_changed() -> None:
    house = SmallHouse()
    house.had(a_record())
    async with admin_of(house) as where, reader(where) as stream:
        first = await next_events(stream, "sessions")
        assert first.keys() == NAMES.keys()
        for name, view in NAMES.items():
            msgspec.json.decode(first[name], type=view)
        house.had(a_record(2))
        second = await next_events(stream, "endpoints")
        assert json.loads(second["status"])["total"]["sessions"] == 2
        quiet = await next_events(stream, "status")
        assert "listeners" not in quiet


async def test_too_many_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_READERS", 2)
    async with admin_of(SmallHouse()) as where:
        async with reader(where) as one, reader(where) as other:
            await next_events(one, "status")
            await next_events(other, "status")
            assert (await ask(where, "/api/v1/events")).status == 503
        with trio.fail_after(30):
            answer = b"503"
            while b"503" in answer:  # that those two have gone is noticed with the next event for them
                async with reader(where) as third:
                    answer = await third.receive_some(1000)
        assert b" 200 " in answer


async def test_readers_that_come_at_once_are_no_more_than_those_that_come_in_turn() -> None:
    answers: list[bytes] = []

    async def one(where: str) -> None:
        async with reader(where) as stream:
            answers.append(await stream.receive_some(12))
            await trio.sleep_forever()

    async with admin_of(SmallHouse()) as where, trio.open_nursery() as nursery:
        for _ in range(2 * events.MOST_READERS):
            nursery.start_soon(one, where)
        with trio.fail_after(30):
            while len(answers) < 2 * events.MOST_READERS:  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert answers.count(b"HTTP/1.1 200") == events.MOST_READERS
        nursery.cancel_scope.cancel()


async def test_a_place_is_given_back_by_one_that_leaves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_READERS", 1)
    async with admin_of(SmallHouse()) as where:
        for _ in range(20):
            async with reader(where) as stream:
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with trio.fail_after(30):
            answer = b""
            while b" 200 " not in answer:
                async with reader(where) as stream:
                    answer = await stream.receive_some(1000)


async def test_who_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "SEND_PATIENCE", 0.5)
    monkeypatch.setattr(events, "EVERY", 0.01)
    house, said = SmallHouse(), Recorder()
    for number in range(400):
        house.had(a_record(number, detail="x" * 500))
    async with admin_of(house, events=said) as where, reader(where), reader(where) as reads:
        for _ in range(30):
            house.had(a_record(detail="x" * 500))
            await next_events(reads, "status")
        assert (await ask(where, "/livez")).status == 200
    assert not said.faults
