"""Read what a downstream says first, because those bytes may travel in the SYN."""

from __future__ import annotations

import socket
from typing import NamedTuple

import trio

MOST_EARLY_DATA = 65536


class EarlyData(NamedTuple):
    """First bytes of a downstream; ``ended`` when its FIN came already, ``waited`` in seconds."""

    data: bytes
    ended: bool
    waited: float


async def early_data(sock: socket.socket, patience: float) -> EarlyData:
    """What the client says within ``patience`` seconds (one read's worth); raises OSError when it hung up rudely."""
    try:
        data = sock.recv(MOST_EARLY_DATA)
    except BlockingIOError:
        if patience <= 0:
            return EarlyData(b"", ended=False, waited=0.0)
    else:
        return EarlyData(data, ended=not data, waited=0.0)
    started = trio.current_time()
    with trio.move_on_after(patience):
        await trio.lowlevel.wait_readable(sock)
    waited = trio.current_time() - started
    try:
        data = sock.recv(MOST_EARLY_DATA)
    except BlockingIOError:
        return EarlyData(b"", ended=False, waited=waited)
    return EarlyData(data, ended=not data, waited=waited)
