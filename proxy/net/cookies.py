"""Read the kernel's cookie cache: generic netlink family ``tcp_metrics``, unprivileged, one call of some 20 µs.

The cache belongs to a network namespace, and an open `CookieCache` to the one of the thread that opened it.
It can be read and not written: nothing but a handshake puts a cookie in, nothing we may do takes one out.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Self, TypeAlias

from proxy.core import tcp_metrics
from proxy.core.tcp_metrics import IP, Cookie, Message

__all__ = ["Cookie", "CookieCache", "dump", "lookup"]

_GENERIC_NETLINK = 16  # NETLINK_GENERIC
_FAMILY = "tcp_metrics"
_PATIENCE = struct.pack(
    "ll", 1, 0
)  # the kernel answers before send() returns; a sandbox may not answer at all
_DATAGRAM = 65536
_NOT_THERE = frozenset({errno.ESRCH, errno.ENOENT})
_Question: TypeAlias = Callable[[int, int], bytes]  # family and sequence number to a request


class CookieCache:
    """An open line to the kernel. Where something fails the answer is empty and `problem` says why, in words."""

    def __init__(self) -> None:
        self.problem = ""  # of the last question; "" also where there simply is no entry
        self._socket: socket.socket | None = None
        self._family: int | None = None
        self._sequence = 0

    def lookup(self, host: str, source: str = "") -> list[Cookie]:
        """The entry for a numeric IP and our own ``source``, by default the one the kernel would dial from.

        A list of none or one. Ports do not matter: the cache knows addresses only.
        """
        address = _numeric(host)
        if address is None:
            self.problem = f"{host!r} is not a numeric IP"
            return []
        own = _numeric(source) if source else _source_towards(address)
        return list(
            self._ask(
                lambda family, sequence: tcp_metrics.ask_one(family, sequence, address, own), many=False
            )
        )

    def dump(self) -> Iterator[Cookie]:
        """Every entry of this network namespace, in no order (20,000 take 70 ms in all)."""
        return self._ask(tcp_metrics.ask_all, many=True)

    def close(self) -> None:
        """Give the socket back; the next question opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, question: _Question, *, many: bool) -> Iterator[Cookie]:
        self.problem = ""
        try:
            yield from self._answers(question, many=many)
        except OSError as error:
            self.close()
            self.problem = f"the kernel's cookie cache cannot be read: {error.strerror or error}"

    def _answers(self, question: _Question, *, many: bool) -> Iterator[Cookie]:
        sock = self._open()
        if self._family is None:
            self._family = self._find_family(sock)
        for message in self._exchange(sock, question(self._family, self._sequence + 1), many=many):
            cookie = tcp_metrics.read_cookie(message)
            if cookie is not None:
                yield cookie

    def _open(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _GENERIC_NETLINK)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _PATIENCE)
        return self._socket

    def _find_family(self, sock: socket.socket) -> int:
        for message in self._exchange(sock, tcp_metrics.ask_family(_FAMILY, self._sequence + 1), many=False):
            family = tcp_metrics.read_family(message)
            if family is not None:
                return family
        raise OSError(errno.EOPNOTSUPP, f"this kernel has no netlink family {_FAMILY}")

    def _exchange(self, sock: socket.socket, request: bytes, *, many: bool) -> Iterator[Message]:
        """The messages that answer a request which carries the next sequence number."""
        self._sequence += 1
        sequence = self._sequence
        sock.send(request)
        while True:
            for message in tcp_metrics.split(_received(sock)):
                if message.sequence != sequence:
                    continue  # of a dump that was not read to its end
                if message.kind in {tcp_metrics.ERROR, tcp_metrics.DONE}:
                    code = tcp_metrics.read_error(message)
                    if code and code not in _NOT_THERE:
                        raise OSError(code, os.strerror(code))
                    return
                yield message
                if not many:
                    return


def lookup(host: str, source: str = "") -> list[Cookie]:
    """`CookieCache.lookup`, asked once."""
    with CookieCache() as cache:
        return cache.lookup(host, source)


def dump() -> Iterator[Cookie]:
    """`CookieCache.dump`, asked once."""
    with CookieCache() as cache:
        yield from cache.dump()


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(_DATAGRAM)
    except BlockingIOError as error:  # SO_RCVTIMEO has run out
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from error


def _numeric(host: str) -> IP | None:
    """The address, as the cache knows it: an IPv4 address dialled through an IPv6 socket is an IPv4 address there."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _source_towards(address: IP) -> IP | None:
    """Our own address on the way there, found without a packet; None where there is no way."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as unsaid:
        unsaid.connect((str(address), 9))
        return _numeric(unsaid.getsockname()[0])
    return None
