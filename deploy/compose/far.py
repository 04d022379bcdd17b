"""A server far away, for the compose example: it takes SYN data, and every packet that it sends is 100 ms late.

The kernels of laptops and CI machines often have no netem, so the delay is made here: what this network namespace
sends is routed into a TUN device, waits, and goes on from there. Needs CAP_NET_ADMIN and /dev/net/tun; it is a prop of
the example, nothing of the proxy.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import os
import select
import socket
import struct
import sys
import threading
import time
from pathlib import Path

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x1, 0x1000  # linux/if_tun.h
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1  # linux/sockios.h
RTM_NEWROUTE, RTM_NEWRULE = 24, 32  # linux/rtnetlink.h
REQUEST, TABLE, PRIORITY = 0x1 | 0x4 | 0x400, 100, 100
FRA_IIFNAME, FRA_PRIORITY, FRA_TABLE, RTA_OIF, RTA_TABLE = 3, 6, 15, 4, 15


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def ask(conversation: socket.socket, kind: int, body: bytes) -> None:
    conversation.send(struct.pack("=IHHII", 16 + len(body), kind, REQUEST, 1, 0) + body)
    (error,) = struct.unpack_from("=i", conversation.recv(4096), 16)
    if error:
        raise OSError(-error, os.strerror(-error))


def slow_down(delay: float) -> None:
    """Have all that this namespace sends wait ``delay`` seconds."""
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"late", IFF_TUN | IFF_NO_PI))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"late", IFF_UP))
    index = struct.pack("=I", socket.if_nametoindex("late"))
    table = struct.pack("=I", TABLE)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as conversation:
        header = struct.pack("=8BI", socket.AF_INET, 0, 0, 0, TABLE, 4, 253, 1, 0)  # static, link, unicast
        ask(conversation, RTM_NEWROUTE, header + attribute(RTA_TABLE, table) + attribute(RTA_OIF, index))
        header = struct.pack(
            "=8BI", socket.AF_INET, 0, 0, 0, TABLE, 0, 0, 1, 0
        )  # to that table, what begins here
        ask(conversation, RTM_NEWRULE, header + attribute(FRA_IIFNAME, b"lo\0")
            + attribute(FRA_PRIORITY, struct.pack("=I", PRIORITY)) + attribute(FRA_TABLE, table))  # fmt: skip
    threading.Thread(target=carry, args=(tun, delay), daemon=True).start()


def carry(tun: int, delay: float) -> None:
    late: collections.deque[tuple[float, bytes]] = collections.deque()
    while True:
        timeout = max(0.0, late[0][0] - time.monotonic()) if late else None
        if select.select([tun], [], [], timeout)[0]:
            late.append((time.monotonic() + delay, os.read(tun, 65536)))
        while late and late[0][0] <= time.monotonic():
            with contextlib.suppress(OSError):
                os.write(tun, late.popleft()[1])


def answer(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        connection.settimeout(10)
        while b"\r\n\r\n" not in connection.recv(65536):
            pass
        body = b"hello from far away\n"
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )


def main() -> None:
    slow_down(float(os.environ.get("DELAY", "0.1")))
    if (
        not int(Path("/proc/sys/net/ipv4/tcp_fastopen").read_text()) & 2
        and os.environ.get("FAST_OPEN", "on") == "on"
    ):
        sys.exit("far: net.ipv4.tcp_fastopen lacks its server bit (2); see `sysctls` in compose.yaml")
    with socket.create_server(("", 80)) as listener:
        if os.environ.get("FAST_OPEN", "on") == "on":
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 64)
        while True:
            threading.Thread(target=answer, args=listener.accept()[:1], daemon=True).start()


main()
