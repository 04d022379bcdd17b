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


NOTHING_YET = EarlyData(b"", ended=False, waited=0.0)


def early_data_now(sock: socket.socket) -> EarlyData:
    """What the client has said already, or `NOTHING_YET`; raises OSError when it hung up rudely."""
    try:
        data = sock.recv(MOST_EARLY_DATA)
    except BlockingIOError:
        return NOTHING_YET
    return EarlyData(data, not data, 0.0)


async def early_data(sock: socket.socket, patience: float) -> EarlyData:
    """What the client says within ``patience`` seconds (one read's worth); raises OSError as above."""
    started = trio.current_time()
    with trio.move_on_after(patience):
        await trio.lowlevel.wait_readable(sock)
    early = early_data_now(sock)
    return early._replace(waited=trio.current_time() - started)
