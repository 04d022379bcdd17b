"""A connection's socket without the standard library's Python layer: a session makes and closes two.

`socket.socket` is a Python class around the interpreter's own ``_socket.socket``. Making one, asking for its family and
closing it takes several Python calls each; here they are the interpreter's own. What is left out is the count of files
that `makefile` hands out, so `makefile` must not be used.
"""

from __future__ import annotations

import _socket
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, Self, cast

from proxy.core.record import Peer

_STREAM = int(socket.SOCK_STREAM)


class Connection(socket.socket):
    """A socket like any other, made in half the time."""

    __slots__ = ()

    if not TYPE_CHECKING:
        __init__ = _socket.socket.__init__  # all four arguments have to be given
        close = _socket.socket.close
        family = _socket.socket.family  # a plain number

    def __enter__(self) -> Self:
        """As of any socket."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def dup(self) -> Self:
        """Another descriptor of the same socket."""
        other = type(self)(self.family, self.type, self.proto, socket.dup(self.fileno()))
        other.settimeout(self.gettimeout())
        return other


class _Listening(Protocol):
    """What `socket.socket.accept` itself calls."""

    def _accept(self) -> tuple[int, Peer]: ...


def taker(listening: socket.socket) -> Callable[[], tuple[Connection, Peer]]:
    """What to call for one connection, non-blocking, and its peer's address; it raises what accept(2) does."""
    family = int(listening.family)
    accept = cast(_Listening, listening)._accept  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    def take() -> tuple[Connection, Peer]:
        fd, peer = accept()
        try:
            connection = Connection(family, _STREAM, 0, fd)
        except OSError:
            socket.close(fd)
            raise
        connection.setblocking(False)
        return connection, peer

    return take
