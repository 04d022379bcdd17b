"""One request by hand: dial fast open or plain, send, wait for the first byte; with times and TCP_INFO.

This is the lab's own yardstick, deliberately naive: it believes the kernel, never hedges and never redials.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from dataclasses import dataclass

from proxy.lab.servers import TCP_INFO, TCPI_OPT_SYN_DATA, Address

MSG_FASTOPEN = 0x20000000


@dataclass(frozen=True, slots=True)
class Exchange:
    """How a request went. Times are seconds since the dial began, None where it did not come to that.

    `in_syn` is what sendto() took (None: EINPROGRESS, no cookie), `options` `client_fail` `total_retrans`
    `total_rto` and `rtt` (seconds) are those of TCP_INFO when the handshake ended, `error` is an errno or 0,
    `reply` all that came.
    """

    in_syn: int | None
    connected: float | None
    first_byte: float | None
    reply: bytes
    error: int
    options: int
    client_fail: int
    total_retrans: int
    total_rto: int
    rtt: float
    source: Address

    @property
    def syn_data_acked(self) -> bool:
        return bool(self.options & TCPI_OPT_SYN_DATA)

    @property
    def error_name(self) -> str:
        return errno.errorcode.get(self.error, "")


def ask(
    address: Address,
    request: bytes,
    *,
    fast_open: bool = True,
    expect: int = 1,
    timeout: float = 5.0,
    source: str | None = None,
) -> Exchange:
    """Dial in the calling thread's namespace, send the request, read at least `expect` bytes, close.

    With an empty request the server speaks first. Never raises for what the network does.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as sock:
        sock.setblocking(False)
        if source is not None:
            sock.bind((source, 0))
        return _Asking(sock, time.monotonic(), timeout).run(address, request, fast_open, expect)


class _Asking:
    def __init__(self, sock: socket.socket, started: float, timeout: float) -> None:
        self._socket, self._started, self._deadline = sock, started, started + timeout
        self._connected: float | None = None
        self._first_byte: float | None = None
        self._info = bytes(280)
        self._source: Address = ("", 0)

    def run(self, address: Address, request: bytes, fast_open: bool, expect: int) -> Exchange:
        in_syn: int | None = None
        reply, code = b"", 0
        try:
            in_syn = self._dial(address, request, fast_open)
            self._handshake()
            self._send(request[in_syn or 0 :])
            reply = self._receive(expect)
        except OSError as error:
            code = error.errno or errno.ETIMEDOUT
        info = self._info
        retrans, rtt = struct.unpack_from("=I", info, 100)[0], struct.unpack_from("=I", info, 68)[0] / 1e6
        (total_rto,) = struct.unpack_from("=H", info, 240)
        return Exchange(
            in_syn, self._connected, self._first_byte, reply, code,
            info[5], (info[7] >> 1) & 3, retrans, total_rto, rtt, self._source,
        )  # fmt: skip

    def _dial(self, address: Address, request: bytes, fast_open: bool) -> int | None:
        try:
            if fast_open:
                return self._socket.sendto(request, MSG_FASTOPEN | socket.MSG_NOSIGNAL, address)
            self._socket.connect(address)
        except BlockingIOError:
            pass
        return None

    def _handshake(self) -> None:
        try:
            self._wait(select.POLLOUT)
        finally:
            self._info = self._socket.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 280).ljust(280, b"\0")
            self._source = self._socket.getsockname()[:2]
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        self._connected = time.monotonic() - self._started

    def _send(self, data: bytes) -> None:
        while data:
            try:
                data = data[self._socket.send(data) :]
            except BlockingIOError:
                self._wait(select.POLLOUT)

    def _receive(self, expect: int) -> bytes:
        reply = b""
        while len(reply) < expect:
            self._wait(select.POLLIN)
            data = self._socket.recv(65536)
            if not data:
                break
            if self._first_byte is None:
                self._first_byte = time.monotonic() - self._started
            reply += data
        return reply

    def _wait(self, event: int) -> None:
        poll = select.poll()
        poll.register(self._socket, event)
        left = self._deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError(errno.ETIMEDOUT, "the lab's patience is over")
