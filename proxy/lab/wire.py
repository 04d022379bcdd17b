"""The two ends of the line. With root (and /dev/net/tun) two TUN devices; otherwise two veth pairs whose far
ends meet in a third namespace and are read with packet sockets. Both hand over bare IP packets.

The forwarder process gets the file descriptors. See tuntap.rst of the kernel's documentation, packet(7).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from dataclasses import dataclass
from typing import Literal

from proxy.lab.namespaces import Namespace
from proxy.lab.rtnetlink import rtnetlink

Kind = Literal["tun", "veth"]

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
SIOCGIFHWADDR, SIOCETHTOOL = 0x8927, 0x8946
# ethtool "set" commands: transmit checksums, scatter-gather, TSO, GSO, GRO. Only with all of them off does a
# forwarder see packets as they would be on a real wire.
OFFLOADS = (0x17, 0x19, 0x1F, 0x24, 0x2C)
ETH_P_ALL = 3
LINK = "wan0"


@dataclass(frozen=True, slots=True)
class End:
    """One end as the forwarder uses it: a file descriptor and, for a packet socket, where to send to."""

    fd: int
    interface: str = ""
    hardware_address: str = ""


@dataclass(frozen=True, slots=True)
class Wire:
    """Both ends, client's first. `link` is the device's name inside each namespace."""

    kind: Kind
    ends: tuple[End, End]
    link: str = LINK

    def close(self) -> None:
        """Close our copies of the file descriptors."""
        for end in self.ends:
            os.close(end.fd)


def string(client: Namespace, server: Namespace, kind: Kind | None = None) -> Wire:
    """Put a device named `LINK` into both namespaces and return their other ends.

    Without a kind it is TUN where we may. Raises OSError.
    """
    if kind != "veth":
        try:
            return Wire("tun", (End(client.call(_open_tun)), End(server.call(_open_tun))))
        except OSError:
            if kind == "tun":
                raise
    middle = Namespace.create("line")
    try:
        return Wire("veth", (_veth(client, middle, "up"), _veth(server, middle, "down")))
    finally:
        middle.close()


def _open_tun() -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", LINK.encode(), IFF_TUN | IFF_NO_PI))
    except OSError:
        os.close(fd)
        raise
    return fd


def _veth(side: Namespace, middle: Namespace, far: str) -> End:
    def near() -> str:
        with rtnetlink() as netlink:
            netlink.add_veth(LINK, far, peer_namespace=middle.fd)
            netlink.bring_up(LINK, noarp=True)
        _turn_offloads_off(LINK)
        return _hardware_address(LINK)

    def opposite() -> int:
        with rtnetlink() as netlink:
            netlink.bring_up(far, noarp=True)
        _turn_offloads_off(far)
        sock = socket.socket(
            socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(ETH_P_ALL)
        )
        sock.bind((far, ETH_P_ALL))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        return sock.detach()

    hardware_address = side.call(near)
    return End(middle.call(opposite), far, hardware_address)


def _hardware_address(link: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        reply = fcntl.ioctl(sock, SIOCGIFHWADDR, struct.pack("16s24x", link.encode()))
    return reply[18:24].hex()


def _turn_offloads_off(link: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for command in OFFLOADS:
            value = ctypes.create_string_buffer(struct.pack("=II", command, 0), 8)
            request = struct.pack("16sP16x", link.encode(), ctypes.addressof(value))
            fcntl.ioctl(sock, SIOCETHTOOL, request)
