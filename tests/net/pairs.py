"""Two connected TCP sockets on loopback, non-blocking."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def pair(
    *, small: bool = False, family: int = socket.AF_INET
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Ours and the peer's end. With `small` the kernels hold little of what ours sends."""
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with socket.create_server((host, 0), family=family) as listener:
        if small:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        ours = socket.create_connection(listener.getsockname()[:2])
        if small:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        peer, _ = listener.accept()
    ours.setblocking(False)
    peer.settimeout(30)
    try:
        yield ours, peer
    finally:
        ours.close()
        peer.close()


def reset(sock: socket.socket) -> None:
    """Close with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def read_all(sock: socket.socket) -> bytes:
    """What the peer sends until it ends."""
    got = bytearray()
    while data := sock.recv(1 << 18):
        got += data
    return bytes(got)
