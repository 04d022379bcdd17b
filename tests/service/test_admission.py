"""Doors of real listeners: who waits, who is turned away, and what is said of it."""

from __future__ import annotations

import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio

from proxy.core.address import Endpoint
from proxy.core.limits import NO_CAPS, Caps, Ticket
from proxy.core.networks import NAMED
from proxy.core.outcomes import Reason
from proxy.core.proxy_header import version1
from proxy.core.snapshot import ProxyHeader, Snapshot
from tests.serving import Serving, echo, one_listener, serving, upstream


@asynccontextmanager
async def limited(caps: Caps = NO_CAPS, whole: Caps = NO_CAPS, **listener: object) -> AsyncIterator[Serving]:
    async with upstream(echo) as cluster:
        plain = one_listener(cluster)
        door = replace(plain.listeners[0], limits=caps, **listener)  # type: ignore[arg-type]  # its settings
        async with serving(Snapshot((door,), plain.clusters, limits=whole)) as here:
            yield here


async def says(stream: trio.SocketStream, word: bytes = b"x") -> bytes:
    with trio.fail_after(30):
        await stream.send_all(word)
        return await stream.receive_some()


async def is_turned_away(here: Serving) -> bool:
    try:
        async with await here.connect() as stream:
            return not await says(stream)
    except (OSError, trio.BrokenResourceError):
        return True


async def ended(here: Serving, number: int = 0) -> None:
    with trio.fail_after(30):
        while len(here.worker.sessions) > number:  # noqa: ASYNC110
            await trio.sleep(0.005)


def warnings(here: Serving, event: str) -> list[dict[str, object]]:
    return [fields for said, fields in here.events.said if said == event]


@pytest.mark.parametrize("where", ["listener", "whole"])
async def test_too_many_connections_wait_and_are_served_in_turn(where: str) -> None:
    caps = Caps(connections=2)
    async with limited(
        caps if where == "listener" else NO_CAPS, caps if where == "whole" else NO_CAPS
    ) as here:
        first, second, third = [await here.connect() for _ in range(3)]
        assert await says(first) == await says(second) == b"x"
        await third.send_all(b"later")
        with trio.move_on_after(0.2) as waited:
            await third.receive_some()
        assert waited.cancelled_caught
        assert len(here.worker.sessions) == 2
        await first.aclose()
        with trio.fail_after(30):
            assert await third.receive_some() == b"later"
        await second.aclose()
        await third.aclose()
        await ended(here)
        (said,) = warnings(here, "held_back")
        assert said["listener"] == "a"
        assert str(said["why"]).startswith("limits.connections 2")


async def test_nothing_is_said_while_nobody_waits() -> None:
    async with limited(Caps(connections=1)) as here:
        async with await here.connect() as stream:
            await says(stream)
            await trio.sleep(0.3)
        await ended(here)
        assert not warnings(here, "held_back")


async def test_a_rate_spreads_connections_out() -> None:
    async with limited(Caps(accept_rate=20.0)) as here:
        started = trio.current_time()
        for _ in range(26):
            async with await here.connect() as stream:
                assert await says(stream) == b"x"
        assert trio.current_time() - started >= 0.25, "a burst of 20, and six more at 50 ms each"


@pytest.mark.parametrize(("caps", "allowed"), [(Caps(per_client=2), 2), (Caps(client_rate=0.01), 1)])
async def test_a_client_with_too_much_is_reset_and_others_are_served(caps: Caps, allowed: int) -> None:
    async with limited(caps) as here:
        began = trio.current_time()
        streams = [await here.connect() for _ in range(allowed)]
        for stream in streams:
            assert await says(stream) == b"x"
        for _ in range(3):
            assert await is_turned_away(here)
        with trio.socket.socket() as other:
            await other.bind(("127.0.0.2", 0))
            await other.connect(here.sockets["a"][0].getsockname())
            assert await says(trio.SocketStream(other)) == b"x"
        for stream in streams:
            await stream.aclose()
        await ended(here)
        said = warnings(here, "turned_away")
        assert (said[0]["client"], said[0]["count"]) == ("127.0.0.1", 1)
        assert len(said) <= 1 + (trio.current_time() - began), "the others within the same second"
        assert len(here.events.records) == allowed + 1


async def test_what_was_taken_is_given_back() -> None:
    async with limited(Caps(connections=3, per_client=2), Caps(connections=3, per_client=3)) as here:
        for _ in range(20):
            async with await here.connect() as stream:
                assert await says(stream) == b"x"
            await ended(here)
        assert not here.worker._tickets
        (door,) = here.worker._admission._doors.values()
        assert not any(door.gate._tally._mine)


async def test_unix_clients_are_nobody_in_particular(tmp_path: object) -> None:
    from proxy.core.snapshot import Bind

    async with limited(Caps(per_client=1), binds=(Bind(f"@tfo-proxy-admission-{id(tmp_path)}", 0),)) as here:
        path = here.sockets["a"][0].getsockname()
        for _ in range(3):
            with trio.socket.socket(socket.AF_UNIX) as sock:
                await sock.connect(path)
                await sock.send(b"x")
                with trio.fail_after(30):
                    assert await sock.recv(1) == b"x"


async def test_behind_another_proxy_the_client_is_whom_the_header_names() -> None:
    caps = Caps(per_client=1)
    settings: Any = {"proxy_header": ProxyHeader.REQUIRE, "trust": NAMED["loopback"]}
    async with limited(caps, **settings) as here:

        def header(host: str) -> bytes:
            return version1(Endpoint(host, 4711), Endpoint("198.51.100.1", 80))

        one, other, again = [await here.connect() for _ in range(3)]
        assert await says(one, header("192.0.2.1") + b"x") == b"x"
        assert await says(other, header("192.0.2.2") + b"x") == b"x"
        with pytest.raises(trio.BrokenResourceError):
            await says(again, header("192.0.2.1") + b"x")
            await says(again)
        record = await here.events.record()
        assert (record.reason, record.client) == (Reason.LIMITED, "192.0.2.1:4711")
        for stream in (one, other, again):
            await stream.aclose()
        await ended(here)
        (door,) = here.worker._admission._doors.values()
        assert not any(door.gate._tally._mine)


async def test_a_changed_cap_holds_at_once() -> None:
    async with limited(Caps(), Caps()) as here:
        first = await here.connect()
        await says(first)
        here.worker._admission.change(Caps(client_rate=0.01))
        for stream in (await here.connect(),):
            await says(stream)
            await stream.aclose()
        assert await is_turned_away(here)
        await first.aclose()
        await ended(here)


async def test_without_descriptors_to_spare_connections_wait() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with limited() as here:
        began = trio.current_time()
        (door,) = here.worker._admission._doors.values()
        door._most = 3
        streams = [await here.connect() for _ in range(6)]
        for stream in streams:
            await stream.send_all(b"x")
        await trio.sleep(0.3)
        assert len(here.worker.sessions) == 3
        assert 1 <= len(here.events.troubles) <= 1 + (trio.current_time() - began), "once a second"
        for stream in streams[:3]:
            assert await stream.receive_some() == b"x"
            await stream.aclose()
        for stream in streams[3:]:
            with trio.fail_after(30):
                assert await stream.receive_some() == b"x"
            await stream.aclose()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)


async def test_a_socket_whose_number_is_too_high_is_turned_away() -> None:
    async with limited() as here:
        (door,) = here.worker._admission._doors.values()
        door._ceiling = 1
        assert await is_turned_away(here)
        assert warnings(here, "turned_away")[0]["why"] == "descriptors are running out"
        assert not here.worker.sessions


def test_tickets_of_those_who_are_not_counted_are_one() -> None:
    from proxy.service.admission import FREE

    assert isinstance(FREE, Ticket)
    assert not FREE.cells
