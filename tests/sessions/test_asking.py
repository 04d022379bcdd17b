"""Sessions that ask, on loopback; what they do on a real path is told by tests/wire."""

from __future__ import annotations

import base64
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from proxy.core.address import Endpoint
from proxy.core.destinations import Destinations
from proxy.core.networks import NAMED, parse_network
from proxy.core.outcomes import EndedBy, Reason, Stage
from proxy.core.request import Credentials
from proxy.core.snapshot import DIRECT, Cluster, Listener, Mode, ProxyHeader, Reply, Snapshot, Timeouts
from proxy.core.users import Secret, Users
from tests.serving import HERE, Serving, echo, serving, upstream

ALICE = Users({"alice": Secret(b"sesame")})
ANYWHERE = Destinations(deny=())


def asking(mode: Mode = Mode.MIXED, destinations: Destinations = ANYWHERE, **settings: object) -> Snapshot:
    listener = Listener("a", HERE, mode, DIRECT, timeouts=Timeouts(handshake=60))
    return Snapshot((replace(listener, **settings),), {}, destinations=destinations)  # type: ignore[arg-type]


def target(cluster: Cluster) -> Endpoint:
    endpoint = cluster.endpoints[0]
    assert isinstance(endpoint, Endpoint)
    return endpoint


def connect5(to: Endpoint, hello: bytes = b"\5\1\0") -> bytes:
    return hello + b"\5\1\0\1\x7f\0\0\1" + to.port.to_bytes(2, "big")


async def read(stream: trio.SocketStream, size: int = 1 << 20) -> bytes:
    """So many bytes, or all there are."""
    said = b""
    with trio.fail_after(30):
        while len(said) < size and (data := await stream.receive_some(size - len(said))):
            said += data
    return said


@asynccontextmanager
async def at(snapshot: Snapshot) -> AsyncIterator[tuple[Serving, Cluster]]:
    async with upstream(echo) as cluster, serving(snapshot) as here:
        yield here, cluster


async def test_a_socks_client_is_connected() -> None:
    async with at(asking()) as (here, cluster), await here.connect() as stream:
        await stream.send_all(connect5(target(cluster)))
        assert await read(stream, 12) == b"\5\0" + b"\5\0\0\1\0\0\0\0\0\0"
        await stream.send_all(b"hello")
        assert await read(stream, 5) == b"hello"
        await stream.send_eof()
        record = await here.events.record()
        assert (record.mode, record.authority, record.cluster) == ("socks5", target(cluster), "direct")
        assert (record.reply, record.up_bytes, record.down_bytes) == ("dialed", 5, 5)
        assert 0 < record.asked < 60


async def test_what_comes_behind_the_request_is_not_lost() -> None:
    async with at(asking()) as (here, cluster), await here.connect() as stream:
        for byte in connect5(target(cluster)) + b"hello":
            await stream.send_all(bytes([byte]))
        assert (await read(stream, 17))[-5:] == b"hello"


async def test_the_reply_comes_first_where_the_endpoint_is_known() -> None:
    async with at(asking()) as (here, cluster):
        for number in (1, 2, 3):
            async with await here.connect() as stream:
                await stream.send_all(connect5(target(cluster)))
                await read(stream, 12)
                await stream.send_all(b"hello")
                assert await read(stream, 5) == b"hello"
            record = await here.events.record(number)
            assert record.reply in ({"dialed"} if number == 1 else {"dialed", "optimistic"})


async def test_optimistic_promises_at_once_and_breaks_it_with_a_reset() -> None:
    async with serving(asking(reply=Reply.OPTIMISTIC)) as here, await here.connect() as stream:
        await stream.send_all(connect5(Endpoint("127.0.0.1", 1)))
        assert await read(stream, 12) == b"\5\0" + b"\5\0\0\1\0\0\0\0\0\0"
        with pytest.raises(trio.BrokenResourceError):
            await read(stream, 1)
        record = await here.events.record()
        assert (record.reason, record.during, record.ended_by) == (
            Reason.REFUSED,
            Stage.DIAL,
            EndedBy.UPSTREAM,
        )
        assert "had been told" in record.detail


async def test_a_refused_dial_is_told_as_what_it_is() -> None:
    async with serving(asking()) as here:
        async with await here.connect() as stream:
            await stream.send_all(connect5(Endpoint("127.0.0.1", 1)))
            assert (await read(stream))[2:4] == b"\5\5"
        async with await here.connect() as stream:
            await stream.send_all(b"GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await read(stream)).startswith(b"HTTP/1.1 502 ")


async def test_what_direct_denies() -> None:
    async with serving(asking(destinations=Destinations())) as here:
        for number, host in enumerate(
            ("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "0.0.0.0"), 1
        ):
            async with await here.connect() as stream:
                await stream.send_all(f"CONNECT {host}:80 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                assert (await read(stream)).startswith(b"HTTP/1.1 403 ")
            assert (await here.events.record(number)).reason is Reason.DENIED


@pytest.mark.parametrize(("password", "good"), [("sesame", True), ("Sesame", False)])
async def test_users_say_who_they_are(password: str, good: bool) -> None:
    async with at(asking(users=ALICE)) as (here, cluster):
        to = target(cluster)
        async with await here.connect() as stream:
            login = b"\5\1\2\1\5alice\6" + password.encode()
            await stream.send_all(connect5(to, login))
            said = await read(stream, 14 if good else 1000)
            assert said[:4] == (b"\5\2\1\0" if good else b"\5\2\1\1")
        async with await here.connect() as stream:
            basic = base64.b64encode(f"alice:{password}".encode()).decode()
            head = f"CONNECT {to} HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic {basic}\r\n\r\n"
            await stream.send_all(head.encode())
            assert (await read(stream, 39))[9:12] == (b"200" if good else b"407")
        record = await here.events.record(2)
        assert record.user == ("alice" if good else None)
        assert (record.reason is Reason.NOT_AUTHENTICATED) is not good


async def test_a_client_that_says_nothing_or_leaves() -> None:
    async with serving(asking(timeouts=Timeouts(handshake=1.5))) as here:
        async with await here.connect() as stream:
            assert await read_to_the_end(stream) == b""
        async with await here.connect() as stream:
            await stream.send_all(b"\5\1")
            await stream.send_eof()
            await read_to_the_end(stream)
        assert (await here.events.record(1)).reason is Reason.HANDSHAKE_TIMEOUT
        assert (await here.events.record(1)).ended_by is EndedBy.TIMEOUT
        assert (await here.events.record(2)).reason is Reason.NO_REQUEST


async def read_to_the_end(stream: trio.SocketStream) -> bytes:
    try:
        return await read(stream)
    except trio.BrokenResourceError:
        return b""


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_header_is_believed_from_whom_it_may_come(trusted: bool) -> None:
    trust = NAMED["loopback"] if trusted else (parse_network("10.0.0.0/8"),)
    async with upstream(echo) as cluster:
        snapshot = asking(Mode.FORWARD, cluster=cluster, proxy_header=ProxyHeader.ACCEPT, trust=trust)
        async with serving(snapshot) as here:
            async with await here.connect() as stream:
                await stream.send_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nhello")
                await stream.send_eof()
                said = await read(stream)
            record = await here.events.record()
            assert (said == b"hello") is trusted
            assert (record.client == "192.0.2.1:1") is trusted


async def test_a_server_that_speaks_first_behind_an_optional_header() -> None:
    async def speaks(stream: trio.SocketStream) -> None:
        await stream.send_all(b"220 hi")

    async with upstream(speaks) as cluster:
        trust = NAMED["loopback"]
        snapshot = asking(
            Mode.FORWARD, cluster=cluster, proxy_header=ProxyHeader.ACCEPT, trust=trust,
            timeouts=Timeouts(handshake=0.3),
        )  # fmt: skip
        async with serving(snapshot) as here, await here.connect() as stream:
            assert await read(stream) == b"220 hi"


async def test_who_is_not_allowed_gets_nothing() -> None:
    allow = (parse_network("10.0.0.0/8"),)
    async with at(asking(allow=allow)) as (here, cluster):
        with pytest.raises((trio.BrokenResourceError, OSError)):  # which one is a matter of moments
            async with await here.connect() as stream:
                await stream.send_all(connect5(target(cluster)))
                await read(stream, 1)
        assert (await here.events.record()).reason is Reason.NOT_ALLOWED


async def test_many_clients_that_ask_for_the_same_hash_wait_for_two_at_a_time() -> None:
    slow = Users({"alice": Secret(b"x" * 32, b"saltsalt", (16, 8, 1))})
    assert not slow.known(Credentials("alice", "x"))
    async with serving(asking(users=slow)) as here:
        for number in range(5):
            async with await here.connect() as stream:
                await stream.send_all(b"\5\1\2\1\5alice\1x")
                assert await read_to_the_end(stream) == b"\5\2\1\1"
            assert (await here.events.record(number + 1)).reason is Reason.NOT_AUTHENTICATED


@pytest.mark.parametrize(
    ("mode", "said"), [(Mode.SOCKS, b"\5"), (Mode.MIXED, b"CONN"), (Mode.HTTP, b""), (Mode.SNI, b"\x16\3")]
)
async def test_who_has_not_said_all_yet_has_no_task(mode: Mode, said: bytes) -> None:
    async with at(asking(mode, timeouts=Timeouts(handshake=1.5))) as (here, _):
        streams = [await here.connect() for _ in range(3)]
        for stream in streams:
            await stream.send_all(said)
        with trio.fail_after(30):
            while len(here.worker.sessions) < 3:  # noqa: ASYNC110  # nobody tells
                await trio.sleep(0.001)
        await trio.sleep(0.02)
        assert not here.worker._nursery.child_tasks
        assert len(list(here.worker._shared.unheard)) == 3
        for number, stream in enumerate(streams, 1):
            assert await read_to_the_end(stream) == b""
            await stream.aclose()
            record = await here.events.record(number)
            assert record.reason is Reason.HANDSHAKE_TIMEOUT
            assert 1.48 < record.duration < 60
        assert not list(here.worker._shared.unheard)


async def test_who_is_asked_while_everything_ends() -> None:
    async with at(asking()) as (here, _):
        async with await here.connect() as stream:
            await stream.send_all(b"\5\1\0")
            assert await read(stream, 2) == b"\5\0"
            assert here.worker.cut_off() == 1
            with pytest.raises(trio.BrokenResourceError):
                await read(stream)
        record = await here.events.record()
        assert (record.ended_by, record.reason, record.during) == (
            EndedBy.OPERATOR, Reason.DRAIN, Stage.SNIFF,
        )  # fmt: skip


async def test_an_end_right_behind_the_first_bytes() -> None:
    """Told by one event, together with them."""
    async with at(asking()) as (here, cluster):
        async with await here.connect() as stream:
            await stream.send_all(b"\5\1\0")
            assert await read(stream, 2) == b"\5\0"
            await stream.send_all(b"\5\1\0")
            await stream.send_eof()
            await read_to_the_end(stream)  # long before the deadline
        assert (await here.events.record()).reason is Reason.NO_REQUEST
        async with await here.connect() as stream:
            await stream.send_all(connect5(target(cluster)) + b"hello")
            await stream.send_eof()
            assert (await read(stream))[-5:] == b"hello", "a half-close is passed on"
        assert (await here.events.record(2)).reason is Reason.CLOSED


async def test_urgent_bytes_in_the_middle_of_the_request() -> None:
    """A read stops short at their mark, though there is more (tcp(7))."""
    async with at(asking()) as (here, cluster), await here.connect() as stream:
        said = connect5(target(cluster))
        await stream.send_all(b"\5\1\0")
        assert await read(stream, 2) == b"\5\0"
        sock = stream.socket
        await sock.send(said[3:6])
        await sock.send(b"!", socket.MSG_OOB)
        await sock.send(said[6:])
        assert await read(stream, 10) == b"\5\0\0\1\0\0\0\0\0\0"


async def test_names_are_looked_up_in_a_task_and_known_ones_are_not() -> None:
    async with at(asking()) as (here, cluster):
        head = f"CONNECT localhost:{target(cluster).port} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        for _ in range(3):
            async with await here.connect() as stream:
                await stream.send_all(head)
                assert (await read(stream, 39)).startswith(b"HTTP/1.1 200 ")
                await stream.send_all(b"hello")
                assert await read(stream, 5) == b"hello"
        async with await here.connect() as stream:
            await stream.send_all(b"CONNECT nowhere.invalid:1 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await read(stream)).startswith(b"HTTP/1.1 502 ")
        assert (await here.events.record(4)).reason is Reason.NO_SUCH_HOST


async def test_who_is_allowed_to_be_forwarded_has_no_task() -> None:
    async with upstream(echo) as cluster:
        snapshot = asking(Mode.FORWARD, cluster=cluster, allow=NAMED["loopback"])
        async with serving(snapshot) as here:
            for number in (1, 2, 3):
                async with await here.connect() as stream:
                    await stream.send_all(b"hello")
                    assert await read(stream, 5) == b"hello"
                record = await here.events.record(number)
                assert (record.reason, record.up_bytes, record.down_bytes) == (Reason.CLOSED, 5, 5)
