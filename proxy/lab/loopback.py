"""What crosses a namespace's loopback: between a client and the proxy beside it are packets, too."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from proxy.lab.namespaces import Namespace
from proxy.lab.packets import Packet, decode

ETH_P_ALL = 3
PACKET_OUTGOING = 4  # of the two times a packet is seen on loopback, the one when it leaves
SO_TIMESTAMPNS = 35
ROOM = 4 << 20
SNAP = 65536
_TIMESPEC = struct.Struct("@ll")


@dataclass(frozen=True, slots=True)
class Heard:
    """One packet and when it was sent, by ``time.monotonic()``."""

    at: float
    packet: Packet


class Loopback:
    """Listens on a namespace's ``lo`` from now on. Packets wait in the kernel until they are taken.

    Raises OSError where packet sockets are not allowed, `take` where ``lo`` is down.
    """

    def __init__(self, namespace: Namespace) -> None:
        with namespace.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
                self._socket.bind(("lo", ETH_P_ALL))
            except OSError:
                self._socket.close()
                raise

    def take(self) -> list[Heard]:
        """The TCP packets since it began, or since they were last taken, in order."""
        epoch = time.time() - time.monotonic()
        return sorted(self._read(epoch), key=lambda heard: heard.at)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, epoch: float) -> Iterator[Heard]:
        with suppress(BlockingIOError):
            while True:
                data, ancillary, _, address = self._socket.recvmsg(SNAP, 64)
                stamps = [value for level, kind, value in ancillary if (level, kind) == (1, SO_TIMESTAMPNS)]
                packet = decode(data)
                if address[2] != PACKET_OUTGOING or not stamps or packet is None or not packet.is_tcp:
                    continue
                seconds, nanoseconds = _TIMESPEC.unpack_from(stamps[0])
                yield Heard(seconds + nanoseconds / 1e9 - epoch, packet)
