"""Ways to come in: what a client says to a listener of each mode before its own bytes, and what it waits for."""

from __future__ import annotations

import socket

from proxy.lab.servers import Address

WAYS = ("forward", "socks4", "socks4a", "socks5", "connect")


def enter(way: str, proxy: Address, to: Address, timeout: float = 20.0) -> socket.socket:
    """Connect to ``proxy`` and ask for ``to``; return when the client has been told that it may speak."""
    sock = socket.create_connection(proxy, timeout=timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ask_for(sock, way, to)
    return sock


def ask_for(sock: socket.socket, way: str, to: Address) -> None:
    """Say where to, step by step, and read the reply; raises AssertionError where it is another one than "granted"."""
    host, port = to
    number = port.to_bytes(2, "big")
    match way:
        case "socks4":
            sock.sendall(b"\x04\x01" + number + socket.inet_aton(host) + b"\0")
            assert sock.recv(8)[:2] == b"\x00\x5a"
        case "socks4a":
            sock.sendall(b"\x04\x01" + number + b"\0\0\0\1" + b"\0" + host.encode() + b"\0")
            assert sock.recv(8)[:2] == b"\x00\x5a"
        case "socks5":
            sock.sendall(b"\x05\x01\x00")
            assert sock.recv(2) == b"\x05\x00"
            sock.sendall(b"\x05\x01\x00\x01" + socket.inet_aton(host) + number)
            assert sock.recv(10)[:2] == b"\x05\x00"
        case "connect":
            sock.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            reply = b""
            while not reply.endswith(b"\r\n\r\n"):
                byte = sock.recv(1)  # what is behind it is the server's
                assert byte, reply
                reply += byte
            assert reply.startswith(b"HTTP/1.1 200 "), reply
        case _:
            assert way == "forward"
