"""Sessions whose first connection is doubted: silence after a fast open, and plain dials beside one.

They need a kernel that takes fast opens, so they run in a network namespace of their own, on its loopback.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import replace

import trio

from proxy.core.address import Endpoint
from proxy.core.snapshot import Cluster, Connect, FastOpen, Snapshot, Timeouts
from proxy.lab.clients import ask
from proxy.lab.namespaces import Namespace
from proxy.lab.rtnetlink import rtnetlink
from proxy.lab.servers import TCP_INFO, TCPI_OPT_SYN_DATA, TCPI_OPT_TFO_CHILD
from tests.faults.law import Scenario
from tests.faults.scenarios import QUICK, SOON, Serve, asks, breaks_off, greets, is_broken_off, listens
from tests.serving import echo, one_listener

HEDGE = 0.02
AT_ONCE, IDLE_AT_ONCE = Connect(timeout=0.05), replace(SOON, idle=0.15)


@contextmanager
def loopback_of_its_own() -> Iterator[None]:
    """Where fast opens are taken; the calling thread is there for a while."""
    namespace = Namespace.create("faults")
    try:
        with namespace.entered(), rtnetlink() as netlink:
            netlink.bring_up("lo")
            namespace.sysctl("net.ipv4.tcp_fastopen", 3)
            yield
    finally:
        namespace.close()


def was_fast(stream: trio.SocketStream) -> bool:
    """Whether its client's SYN brought data, or a cookie, that was taken."""
    info = stream.socket.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 8)
    return bool(info[5] & (TCPI_OPT_SYN_DATA | TCPI_OPT_TFO_CHILD))


async def hears(stream: trio.SocketStream) -> None:
    with suppress(trio.BrokenResourceError):
        async for _ in stream:
            pass


def by_opening(fast: Serve, plain: Serve) -> Serve:
    async def serve(stream: trio.SocketStream) -> None:
        await (fast if was_fast(stream) else plain)(stream)

    return serve


async def thinks(stream: trio.SocketStream) -> None:
    await trio.sleep(3 * HEDGE)
    await echo(stream)


def fast_forward(
    make: Callable[[], Serve], connect: Connect = QUICK, timeouts: Timeouts = SOON
) -> Callable[[AsyncExitStack], Awaitable[Snapshot]]:
    async def made(stack: AsyncExitStack) -> Snapshot:
        serve = make()

        async def handle(stream: trio.SocketStream) -> None:
            with suppress(trio.BrokenResourceError):
                await serve(stream)

        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        listener.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 64)
        address = listener.socket.getsockname()
        ask(address, b"", expect=0)  # the cookie
        await (await listener.accept()).aclose()  # which nobody shall count
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(trio.serve_listeners, handle, [listener])
        stack.callback(nursery.cancel_scope.cancel)
        cluster = Cluster(
            "c", (Endpoint(*address),), warm_up=False, connect=connect, hedge=HEDGE, fast_open=FastOpen.ALWAYS
        )
        return one_listener(cluster, timeouts=timeouts)

    return made


async def refuses(stack: AsyncExitStack) -> Snapshot:
    """Nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        gone = Endpoint(*free.getsockname())
    cluster = Cluster("c", (gone,), warm_up=False, connect=QUICK, hedge=HEDGE, fast_open=FastOpen.ALWAYS)
    return one_listener(cluster, timeouts=SOON)


# A server that ends a connection shows that it can be heard, and is not doubted at once any more.
LEARNS = {"silence after SYN data", "silence, and the client leaves", "silence instead of a banner"}
SECOND_THOUGHTS = tuple(
    Scenario(name, made, client, served=served, alone=True, again=name not in LEARNS)
    for name, made, client, served in (
        ("SYN data answered", fast_forward(lambda: echo), asks, True),
        ("silence after SYN data", fast_forward(lambda: by_opening(hears, echo)), asks, True),
        ("silence, and the client leaves", fast_forward(lambda: by_opening(hears, echo)), breaks_off, True),
        ("a slow answer beside a rival", fast_forward(lambda: thinks), asks, True),
        ("silence instead of a banner", fast_forward(lambda: by_opening(hears, greets)), listens, True),
        ("silence on both", fast_forward(lambda: hears, AT_ONCE, IDLE_AT_ONCE), is_broken_off, False),
        ("refused", refuses, is_broken_off, False),
    )
)
