"""What the far side of tunnels remembers: the openings that have come, and the sessions that may yet be taken over."""

from __future__ import annotations

import socket
from collections.abc import Callable
from time import time as wall_clock  # noqa: TID251  # near sides have no other clock in common with us

import trio

from proxy.core.outcomes import Reason
from proxy.core.tunnel import Rejected, Sealed
from proxy.net import handover
from proxy.net.handover import Desk
from proxy.net.tentative import Tentative
from proxy.sessions.nonce_memory import NoMemory, NonceMemory, open_memory

_NONCE = 16


class Arrivals:
    """Of one worker. ``table`` is a descriptor that `nonce_memory.open_memory` gave, which all workers share."""

    __slots__ = ("_desk", "_memory", "_opened", "_table", "tentative")

    def __init__(self, table: int | None = None) -> None:
        self._table = table
        self._memory: NonceMemory | None = None
        self._desk: Desk | None = None
        self._opened = trio.Event()
        self.tentative: dict[bytes, Tentative] = {}  # by nonce

    def open(self, state: str | None, warn: Callable[[str], None]) -> None:
        """Remember from now on: in ``table``, or a file beside ``state``; ``warn`` is told why that cannot be."""
        if self._memory is not None:
            return
        now, table = wall_clock(), self._table
        if table is None:
            try:
                table = open_memory(state, now)
            except NoMemory as problem:
                warn(str(problem))
                table = open_memory(None, now)
        self._memory = NonceMemory(table)
        try:
            self._desk = Desk()
        except OSError as problem:
            warn(f"attempts that reach another worker cannot be handed over: {problem.strerror}")
        self._opened.set()

    async def serve(self) -> None:
        """Take attempts from other workers, until cancelled; after that no opening is believed any more."""
        try:
            await self._opened.wait()
            if self._desk is not None:
                await self._desk.serve(self._taken)
            await trio.sleep_forever()
        except Exception:  # it is begun again
            raise
        except BaseException:
            self.close()
            raise

    def claim(self, sealed: Sealed, sock: socket.socket, said: bytes) -> bool:
        """Whether an opening starts a session; else it goes on with one, to which a copy of ``sock`` was given.

        ``said`` are bytes that have come behind it. Raises `Rejected`.
        """
        if self._memory is None:
            raise Rejected(Reason.REPLAYED, "this proxy is ending, and remembers nothing any more")
        nonce, name = sealed.ticket.nonce, self._desk.name if self._desk is not None else b""
        claim = self._memory.claim(nonce, sealed.ticket.time, sealed.attempt, name)
        if claim.fresh:
            return True
        try:
            if claim.owner not in {name, b""}:
                handover.hand_over(claim.owner, bytes([sealed.final]) + nonce + said, sock)
                return False
            tentative = self.tentative.get(nonce)
            if tentative is not None and not tentative.settled:
                tentative.succeed(sock.dup(), said, final=sealed.final)
                return False
        except OSError as problem:
            raise Rejected(Reason.REPLAYED, f"its session cannot be reached: {problem.strerror}") from None
        raise Rejected(Reason.REPLAYED, "its session is settled, or over")

    def _taken(self, message: bytes, sock: socket.socket) -> None:
        """An attempt that came to another worker, which believes it."""
        tentative = self.tentative.get(message[1 : 1 + _NONCE])
        if tentative is None or tentative.settled:
            sock.close()
        else:
            tentative.succeed(sock, message[1 + _NONCE :], final=bool(message[0]))

    def close(self) -> None:
        """Look no more."""
        if self._desk is not None:
            self._desk.close()
        if self._memory is not None:
            self._memory.close()
            self._memory = None
