"""Sessions of every kind, on loopback, for the anomaly law to be tried on."""

from __future__ import annotations

import os
import random
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace

import trio

from proxy.core import tunnel
from proxy.core.address import Authority, Endpoint
from proxy.core.clusters import Balance, Via
from proxy.core.destinations import Destinations
from proxy.core.networks import parse_network
from proxy.core.pace import NEAR
from proxy.core.snapshot import (
    DIRECT,
    Cluster,
    Connect,
    FarSide,
    FastOpen,
    Listener,
    Mode,
    ProxyHeader,
    Reply,
    SendHeader,
    Snapshot,
    Timeouts,
)  # fmt: skip
from proxy.core.users import Secret, Users
from proxy.service.worker import Worker
from tests.faults.law import Client, Scenario
from tests.serving import HERE, echo, one_listener, serving, upstream

GET = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"
BULK = random.Random(5).randbytes(1_200_000)
ANYWHERE = Destinations(deny=())
SOON = Timeouts(first_bytes=0.05, handshake=0.2, idle=0.7, half_closed=0.3)
QUICK = Connect(timeout=0.15, retries=1)

Serve = Callable[[trio.SocketStream], Awaitable[None]]


async def exactly(stream: trio.SocketStream, size: int) -> bytes:
    said = b""
    while len(said) < size and (data := await stream.receive_some(size - len(said))):
        said += data
    return said


async def until(stream: trio.SocketStream, end: bytes) -> bytes:
    said = b""
    while not said.endswith(end) and (data := await stream.receive_some()):
        said += data
    return said if said.endswith(end) else b""


async def rest(stream: trio.SocketStream) -> bytes:
    return b"".join([data async for data in stream])


# --- clients


async def asks(stream: trio.SocketStream) -> None:
    await stream.send_all(GET)
    assert await exactly(stream, len(GET)) == GET
    await stream.send_all(b"more")
    assert await exactly(stream, 4) == b"more"
    await stream.send_eof()
    assert await rest(stream) == b""


async def moves_much(stream: trio.SocketStream) -> None:
    async def speak() -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await stream.send_all(BULK)
            await stream.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(speak)
        assert await rest(stream) == BULK


async def listens(stream: trio.SocketStream) -> None:
    assert await exactly(stream, 9) == b"220 ready"
    await stream.send_all(b"QUIT")
    assert await rest(stream) == b""


async def breaks_off(stream: trio.SocketStream) -> None:
    await stream.send_all(GET)
    assert await exactly(stream, 10)
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def is_broken_off(stream: trio.SocketStream) -> None:
    await stream.send_all(GET)
    await rest(stream)


async def says_nothing_for_long(stream: trio.SocketStream) -> None:
    await trio.sleep(0.1)


def socks5(to: Callable[[], Endpoint], login: bytes = b"") -> Client:
    async def client(stream: trio.SocketStream) -> None:
        if login:
            await stream.send_all(b"\5\1\2")
            assert await exactly(stream, 2) == b"\5\2"
            await stream.send_all(login)
            assert await exactly(stream, 2) == b"\1\0"
        else:
            await stream.send_all(b"\5\1\0")
            assert await exactly(stream, 2) == b"\5\0"
        await stream.send_all(b"\5\1\0\1\x7f\0\0\1" + to().port.to_bytes(2, "big"))
        assert (await exactly(stream, 10))[:2] == b"\5\0"
        await asks(stream)

    return client


def connects(to: Callable[[], Endpoint]) -> Client:
    async def client(stream: trio.SocketStream) -> None:
        await stream.send_all(f"CONNECT {to()} HTTP/1.1\r\nHost: {to()}\r\n\r\n".encode())
        assert b" 200 " in await exactly(stream, len(b"HTTP/1.1 200 Connection established\r\n\r\n"))
        await asks(stream)

    return client


def posts(to: Callable[[], Endpoint]) -> Client:
    async def client(stream: trio.SocketStream) -> None:
        head = f"POST http://{to()}/ HTTP/1.1\r\nHost: {to()}\r\nContent-Length: 4\r\n\r\n"
        await stream.send_all(head.encode())
        await stream.send_all(b"body")
        assert await until(stream, b"body")

    return client


# --- servers


async def greets(stream: trio.SocketStream) -> None:
    await stream.send_all(b"220 ready")
    await stream.receive_some()


async def resets(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    with suppress(OSError):
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def answers_much_and_resets(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    with trio.move_on_after(0.02):
        await stream.send_all(bytes(8_000_000))
    with suppress(OSError):
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def speaks_socks(stream: trio.SocketStream) -> None:
    await exactly(stream, 3)
    await stream.send_all(b"\5\0")
    request = await exactly(stream, 10)
    if len(request) < 10:
        return
    port = int.from_bytes(request[8:], "big")
    async with await trio.open_tcp_stream("127.0.0.1", port) as onward, trio.open_nursery() as nursery:
        await stream.send_all(b"\5\0\0\1\0\0\0\0\0\0")

        async def back() -> None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                async for data in onward:
                    await stream.send_all(data)
                await stream.send_eof()

        nursery.start_soon(back)
        try:
            async for data in stream:
                await onward.send_all(data)
            await onward.send_eof()
        except trio.BrokenResourceError:
            nursery.cancel_scope.cancel()


async def socks_server(stream: trio.SocketStream) -> None:
    try:
        await speaks_socks(stream)
    except* trio.BrokenResourceError:
        pass


async def greets_and_echoes(stream: trio.SocketStream) -> None:
    """A PROXY header v1, and then an echo."""
    head = b""
    while not head.endswith(b"\n") and (byte := await stream.receive_some(1)):
        head += byte
    await echo(stream)


async def answers_http(stream: trio.SocketStream) -> None:
    """A web server for requests with a body of four bytes, which are its answer."""
    said = await until(stream, b"body")
    if said:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")


# --- what is served


def forward(
    serve: Serve, *, timeouts: Timeouts = SOON, **settings: object
) -> Callable[[AsyncExitStack], Awaitable[Snapshot]]:
    async def made(stack: AsyncExitStack) -> Snapshot:
        cluster = await stack.enter_async_context(upstream(serve, connect=QUICK, **settings))
        return one_listener(cluster, timeouts=timeouts)

    return made


class Asked:
    """Listeners that ask, and the server their clients ask for."""

    def __init__(self, mode: Mode, serve: Serve = echo, **settings: object) -> None:
        self._mode, self._serve, self._settings = mode, serve, settings
        self._endpoint: Endpoint | None = None

    def endpoint(self) -> Endpoint:
        assert self._endpoint is not None
        return self._endpoint

    async def made(self, stack: AsyncExitStack) -> Snapshot:
        cluster = await stack.enter_async_context(upstream(self._serve))
        self._endpoint = cluster.only[0]
        listener = Listener("a", HERE, self._mode, replace(DIRECT, connect=QUICK), timeouts=SOON)
        listener = replace(listener, **self._settings)  # type: ignore[arg-type]  # a listener's settings
        return Snapshot((listener,), {}, destinations=ANYWHERE)


async def pool(stack: AsyncExitStack) -> Snapshot:
    """Two endpoints, one of which refuses."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        gone = Endpoint("127.0.0.1", free.getsockname()[1])
    cluster = await stack.enter_async_context(upstream(echo))
    both = replace(
        cluster, endpoints=(gone, *cluster.endpoints), balance=Balance.LEAST_CONNECTIONS, connect=QUICK
    )
    return one_listener(both, timeouts=SOON)


async def named(stack: AsyncExitStack) -> Snapshot:
    cluster = await stack.enter_async_context(upstream(echo))
    name = Authority("localhost", cluster.only[0].port)
    return one_listener(replace(cluster, endpoints=(name,), connect=QUICK), timeouts=SOON)


async def unix(stack: AsyncExitStack) -> Snapshot:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind("")  # the kernel finds an abstract name
    sock.listen()
    listener = trio.socket.from_stdlib_socket(sock)
    nursery = await stack.enter_async_context(trio.open_nursery())

    async def handle(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await echo(stream)

    nursery.start_soon(trio.serve_listeners, handle, [trio.SocketListener(listener)])
    stack.callback(nursery.cancel_scope.cancel)
    name = listener.getsockname()
    path = Endpoint("@" + name[1:].decode(), 0)
    return one_listener(Cluster("c", (path,), warm_up=False, connect=QUICK), timeouts=SOON)


async def unreachable(stack: AsyncExitStack) -> Snapshot:
    """A listener whose queue is full: SYNs are not answered."""
    full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    for _ in range(4):
        caller = stack.enter_context(socket.socket())
        caller.setblocking(False)
        with suppress(BlockingIOError):
            caller.connect(full.getsockname())
    endpoint = Endpoint("127.0.0.1", full.getsockname()[1])
    cluster = Cluster("c", (endpoint,), warm_up=False, connect=QUICK, hedge=0.03, fast_open=FastOpen.ALWAYS)
    return one_listener(cluster, timeouts=SOON)


async def chained(stack: AsyncExitStack) -> Snapshot:
    cluster = await stack.enter_async_context(upstream(echo))
    gateway = await stack.enter_async_context(upstream(socks_server))
    through = replace(cluster, via=Via("socks", gateway.only[0]), connect=QUICK)
    return one_listener(through, timeouts=SOON)


KEY = bytes(range(16))


async def tunnelled(stack: AsyncExitStack) -> Snapshot:
    """Through a tunnel, whose far side is here, too."""
    server = await stack.enter_async_context(upstream(echo))
    far = await stack.enter_async_context(serving(far_side()))
    there = Endpoint(*far.sockets["a"][0].getsockname()[:2])
    through = replace(server, via=Via("tunnel", there, keys=(KEY,)), connect=QUICK)
    return one_listener(through, timeouts=SOON)


def far_side() -> Snapshot:
    listener = Listener(
        "a", HERE, Mode.TUNNEL, replace(DIRECT, connect=QUICK), far_side=FarSide((KEY,)), timeouts=SOON
    )
    return Snapshot((listener,), {}, destinations=ANYWHERE)


class Arriving:
    """The far side of a tunnel, and the server that its clients ask for."""

    def __init__(self) -> None:
        self._server: Endpoint | None = None

    async def made(self, stack: AsyncExitStack) -> Snapshot:
        self._server = (await stack.enter_async_context(upstream(echo))).only[0]
        return far_side()

    async def client(self, stream: trio.SocketStream) -> None:
        assert self._server is not None
        ticket = tunnel.Ticket(
            os.urandom(16), time.time(), self._server, Endpoint("192.0.2.1", 1), Endpoint("192.0.2.2", 2)
        )
        await stream.send_all(tunnel.seal(KEY, ticket, 1, GET, final=False) + GET)
        assert await exactly(stream, 1 + len(GET)) == tunnel.ACCEPTED + GET
        await stream.send_all(tunnel.COMMITTED)
        await asks(stream)


def near(worker: Worker) -> None:
    for cluster in worker.snapshot.clusters.values():
        worker._shared.standings.get(cluster.only[0]).learn_rtt(NEAR / 5)


def quarantined(worker: Worker) -> None:
    """Fast Open does not work here: time for spares."""
    worker.spares.unavailable()


SOCKS, LOGIN = Asked(Mode.SOCKS), Asked(Mode.MIXED, users=Users({"alice": Secret(b"sesame")}))
CONNECT, POST = Asked(Mode.HTTP), Asked(Mode.HTTP, answers_http)
ARRIVING = Arriving()
EAGER = Asked(Mode.SOCKS, reply=Reply.OPTIMISTIC)
HEADED = Asked(Mode.HTTP, proxy_header=ProxyHeader.ACCEPT, trust=(parse_network("127.0.0.0/8"),))


async def headed(stream: trio.SocketStream) -> None:
    await stream.send_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
    await connects(HEADED.endpoint)(stream)


SCENARIOS = {
    one.name: one
    for one in (
        Scenario("forward", forward(echo), asks),
        Scenario("fast open", forward(echo, fast_open=FastOpen.ALWAYS, hedge=0.03), asks),
        Scenario("near", forward(echo), asks, near),
        Scenario("bulk", forward(echo), moves_much),
        Scenario("server first", forward(greets), listens),
        Scenario("client resets", forward(echo), breaks_off),
        Scenario("upstream resets", forward(resets), is_broken_off, served=False),
        Scenario("upstream resets under load", forward(answers_much_and_resets), is_broken_off, served=False),
        Scenario("client says nothing", forward(echo), says_nothing_for_long),
        Scenario("two endpoints", pool, asks),
        Scenario("a name", named, asks),
        Scenario("unix", unix, asks),
        Scenario("no answer", unreachable, is_broken_off, served=False),
        Scenario("through socks", chained, asks),
        Scenario("through a tunnel", tunnelled, asks),
        Scenario("out of a tunnel", ARRIVING.made, ARRIVING.client),
        Scenario("PROXY header out", forward(greets_and_echoes, proxy_header=SendHeader.V1), asks),
        Scenario("PROXY header in", HEADED.made, headed),
        Scenario("spares", forward(echo, preconnect=2, fast_open=FastOpen.OFF), asks, quarantined),
        Scenario("socks", SOCKS.made, socks5(SOCKS.endpoint)),
        Scenario("socks, optimistic", EAGER.made, socks5(EAGER.endpoint)),
        Scenario("login", LOGIN.made, socks5(LOGIN.endpoint, b"\1\5alice\6sesame")),
        Scenario("CONNECT", CONNECT.made, connects(CONNECT.endpoint)),
        Scenario("POST", POST.made, posts(POST.endpoint)),
    )
}
