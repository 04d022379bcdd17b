"""The admin's listening sockets and connections: whatever happens here, it happens to the admin only."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from time import time as wall_clock  # noqa: TID251  # times of day for people

import trio

from proxy.admin.exchange import Exchange
from proxy.admin.house import House
from proxy.admin.portrait import Portrait
from proxy.admin.site import Site, problem
from proxy.core.record import Peer
from proxy.core.snapshot import Admin
from proxy.net import accept
from proxy.telemetry.events import Events

NAME = "admin"
MOST = 256  # connections; the longest idle one makes room for the next
_SEND_BUFFER = 256 * 1024  # bytes that the kernel keeps for one who does not read
_LOOK_EVERY = 5.0  # seconds between two looks at the counters for the ring of minutes
_AGAIN_AFTER = 1.0
_PAUSE = 1.0  # of the log about troubles


async def serve(
    house: House, sockets: AsyncIterator[socket.socket], admin: Callable[[], Admin], events: Events
) -> None:
    """Answer until cancelled. Never raises for anything that a client does.

    ``sockets`` brings listening ones, at the start and whenever there is a new one; one that is to be served no longer
    is closed by its owner. ``admin`` tells what is configured now, as a reload may bring another token.
    """
    try:
        portrait = Portrait(house, wall_clock)
        connections = _Connections(Site(house, admin, portrait), events)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_look, portrait, events)
            async for sock in sockets:
                nursery.start_soon(connections.accept, nursery, sock)
    except Exception as fault:  # noqa: BLE001  # the proxy can do without us
        events.background_fault(NAME, fault)


async def _look(portrait: Portrait, events: Events) -> None:
    while True:
        try:
            portrait.look()
        except Exception as fault:  # noqa: BLE001  # the page can do without a minute
            events.background_fault("minutes", fault)
        await trio.sleep(_LOOK_EVERY)


class _Connections:
    """Those that are open, the oldest first."""

    def __init__(self, site: Site, events: Events) -> None:
        self._site, self._events = site, events
        self._open: dict[Exchange, trio.CancelScope] = {}
        self._said_at = -_PAUSE

    async def accept(self, nursery: trio.Nursery, sock: socket.socket) -> None:
        """Take connections from one listening socket for ever."""

        def begin(connection: socket.socket, peer: Peer) -> None:
            nursery.start_soon(self._serve, connection, peer)

        while sock.fileno() >= 0:
            try:
                await accept.accept_forever(sock, begin, self._trouble)
            except Exception as fault:  # noqa: BLE001  # as above
                self._fault(fault)
            await trio.sleep(_AGAIN_AFTER)

    async def _serve(self, connection: socket.socket, peer: Peer) -> None:
        """One connection, whatever comes over it."""
        try:
            gone = trio.BrokenResourceError, trio.ClosedResourceError, OSError
            # Trio wants the standard library's own kind of socket, whatever the accept loop makes.
            with socket.socket(fileno=connection.detach()) as sock, contextlib.suppress(*gone):
                if not self._make_room():
                    return
                sock.setblocking(False)
                if not isinstance(peer, str | bytes):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
                stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
                exchange = Exchange(stream, _host(peer), problem)
                with trio.CancelScope() as scope:
                    self._open[exchange] = scope
                    try:
                        await exchange.serve(self._site.respond)
                    finally:
                        del self._open[exchange]
        except Exception as fault:  # noqa: BLE001  # a mistake of ours in one answer must not be the end of all
            self._fault(fault)

    def _make_room(self) -> bool:
        """Whether one more may stay: the oldest idle one goes for it, else the oldest that reads no answer."""
        if len(self._open) < MOST:
            return True
        staying = {
            one: scope for one, scope in self._open.items() if not (one.streams or scope.cancel_called)
        }
        for exchange in (*(one for one in staying if one.idle), *staying):
            staying[exchange].cancel()
            return True
        return False

    def _trouble(self, error: OSError) -> None:
        if self._may_say():
            self._events.accept_trouble(NAME, error)

    def _fault(self, fault: Exception) -> None:
        if self._may_say():
            self._events.background_fault(NAME, fault)

    def _may_say(self) -> bool:
        now = trio.current_time()
        if now - self._said_at < _PAUSE:
            return False
        self._said_at = now
        return True


def _host(peer: Peer) -> str:
    """The client's IP, without a zone; nothing for a unix socket."""
    return "" if isinstance(peer, str | bytes) else peer[0].partition("%")[0]
