"""The ends of the line as the forwarder reads and writes them."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Protocol

PACKET_OUTGOING = 4


class Port(Protocol):
    """One end of the line."""

    def fileno(self) -> int: ...
    def read(self) -> bytes | None:
        """The next packet, b"" for one that is none of our business, None when there is none."""

    def write(self, data: bytes) -> None: ...


class TunPort:
    """A TUN device."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def read(self) -> bytes | None:
        try:
            return os.read(self._fd, 65535)
        except OSError:
            return None

    def write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(self._fd, data)


class PacketPort:
    """A packet socket on the far end of a veth pair."""

    def __init__(self, fd: int, interface: str, hardware_address: str) -> None:
        self._socket = socket.socket(fileno=fd)
        self._interface, self._destination = interface, bytes.fromhex(hardware_address)

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> bytes | None:
        try:
            data, address = self._socket.recvfrom(65535)
        except OSError:
            return None
        return b"" if address[2] == PACKET_OUTGOING else data

    def write(self, data: bytes) -> None:
        protocol = 0x0800 if data[0] >> 4 == 4 else 0x86DD
        with contextlib.suppress(OSError):
            self._socket.sendto(data, (self._interface, protocol, 0, 0, self._destination))


def open_port(kind: str, end: Mapping[str, object]) -> Port:
    """A port from its description on the wire."""
    match end:
        case {"fd": int(fd), "interface": str(interface), "hardware_address": str(address)}:
            return TunPort(fd) if kind == "tun" else PacketPort(fd, interface, address)
        case _:
            raise ValueError(f"no such end of a wire: {end!r}")


def is_unicast(data: bytes) -> bool:
    """Whether this is an IP packet to a single host."""
    version = data[0] >> 4 if data else 0
    return (version == 4 and data[16] < 224) or (version == 6 and data[24] != 0xFF)
