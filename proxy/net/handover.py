"""Hand a connection to another process of ours: a unix socket with an abstract name, and SCM_RIGHTS (unix(7)).

Either side asks the kernel who the other one is (SO_PEERCRED), so nobody else's process can take or give a connection
by choosing a name. One message a connection, and nothing is waited for.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

import trio

MOST = 128 * 1024  # bytes of a message
_PATIENCE = 1.0  # seconds until one of ours has said what it came for
_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid

Taken = Callable[[bytes, socket.socket], None]
"""Given a message and the connection that came with it, which is the taker's from then on."""


class Desk:
    """Where connections may be handed to this process. ``name`` is 14 bytes, and nobody else's."""

    __slots__ = ("_sock", "name")

    def __init__(self) -> None:
        self.name = b"tfo" + secrets.token_urlsafe(8).encode()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            self._sock.bind(b"\0" + self.name)
            self._sock.listen(64)
        except BaseException:
            self._sock.close()
            raise

    def close(self) -> None:
        """Nobody may bring anything any more."""
        self._sock.close()

    async def serve(self, taken: Taken) -> None:
        """Take what is handed over, until cancelled; then the desk is closed."""
        with self._sock:
            while True:
                await trio.lowlevel.wait_readable(self._sock)
                with suppress(OSError):
                    giver, _ = self._sock.accept()
                    with giver:
                        giver.setblocking(False)
                        if _is_ours(giver):
                            await _take(giver, taken)


async def _take(giver: socket.socket, taken: Taken) -> None:
    with trio.move_on_after(_PATIENCE):
        await trio.lowlevel.wait_readable(giver)
        message, fds, flags, _ = socket.recv_fds(giver, MOST, 1)
        if len(fds) == 1 and not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            sock = socket.socket(fileno=fds[0])
            sock.setblocking(False)
            taken(message, sock)
            return
        for fd in fds:
            os.close(fd)


def hand_over(name: bytes, message: bytes, sock: socket.socket) -> None:
    """Give ``sock`` to the process that has this desk, which gets a copy. Never waits; raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as giver:
        giver.connect(b"\0" + name)
        if not _is_ours(giver):
            raise PermissionError
        socket.send_fds(giver, [message], [sock.fileno()])


def _is_ours(sock: socket.socket) -> bool:
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(raw)[1] == os.geteuid())
