"""Messages between the supervisor and one of its workers, descriptors included, over a pair of unix sockets.

A message is eight bytes of header (length, number of descriptors) and a body. Descriptors travel with the bytes that
they were sent with (unix(7), SCM_RIGHTS), so they are there when the body is.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import trio

LARGEST = 256 * 1024 * 1024  # bytes of a body; what is longer was not sent by us
MOST_DESCRIPTORS = 200  # of one message; the kernel takes 253 (SCM_MAX_FD)
_HEADER = struct.Struct("=II")
_PIECE = 256 * 1024


class Broken(Exception):
    """The other side is gone, or speaks nonsense."""


class Message(NamedTuple):
    """A body, and descriptors that belong to the receiver."""

    body: bytes
    descriptors: list[int]


class Channel:
    """One end. Only one task may send at a time, and only one receive."""

    def __init__(self, sock: socket.socket) -> None:
        """``sock`` is a connected unix stream socket; it becomes the channel's."""
        sock.setblocking(False)
        self._sock = trio.socket.from_stdlib_socket(sock)
        self._rest = bytearray()
        self._descriptors: deque[int] = deque()

    async def send(self, body: bytes, descriptors: Sequence[int] = ()) -> None:
        """Raises `Broken`. Cancelled half-way, the channel is of no more use."""
        if len(body) > LARGEST or len(descriptors) > MOST_DESCRIPTORS:
            raise ValueError("too much for one message")
        rest = memoryview(_HEADER.pack(len(body), len(descriptors)) + body)
        rights = (
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        )
        try:
            while rest:
                rest = rest[await self._sock.sendmsg([rest], rights) :]
                rights = []
        except (OSError, trio.ClosedResourceError) as error:
            raise Broken(str(error)) from error

    async def receive(self) -> Message:
        """The next message; raises `Broken` where there is none any more."""
        await self._fill(_HEADER.size)
        size, count = _HEADER.unpack_from(self._rest)
        if size > LARGEST or count > MOST_DESCRIPTORS:
            raise Broken("that is no message")
        await self._fill(_HEADER.size + size)
        body = bytes(memoryview(self._rest)[_HEADER.size : _HEADER.size + size])
        del self._rest[: _HEADER.size + size]
        if len(self._descriptors) < count:
            raise Broken("descriptors are missing")
        return Message(body, [self._descriptors.popleft() for _ in range(count)])

    def close(self) -> None:
        """Hang up; descriptors that nobody has taken are closed."""
        self._sock.close()
        while self._descriptors:
            os.close(self._descriptors.popleft())

    async def _fill(self, size: int) -> None:
        room = socket.CMSG_SPACE(MOST_DESCRIPTORS * array.array("i").itemsize)
        while len(self._rest) < size:
            try:
                data, rights, _, _ = await self._sock.recvmsg(_PIECE, room, socket.MSG_CMSG_CLOEXEC)
            except (OSError, trio.ClosedResourceError) as error:
                raise Broken(str(error)) from error
            for level, kind, raw in rights:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    found = array.array("i")
                    found.frombytes(raw[: len(raw) - len(raw) % found.itemsize])
                    self._descriptors.extend(found)
            if not data:
                raise Broken("the other side has hung up")
            self._rest += data
