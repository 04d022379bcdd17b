"""Small upstreams that remember, for each connection, exactly which bytes came, when, and from whom."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Self, TypeAlias

from proxy.lab.namespaces import Namespace

Address: TypeAlias = tuple[str, int]

TCP_INFO, TCP_FASTOPEN, TCP_FASTOPEN_KEY, TCP_DEFER_ACCEPT = 11, 23, 33, 9
TCPI_OPT_SYN_DATA, TCPI_OPT_TFO_CHILD = 32, 128
CHUNK = 262_144


class Conversation:
    """One accepted connection. Times are `time.monotonic()`.

    `chunks` are the received pieces with their times, `received` all of them joined. `ended` says how it went:
    "" while it goes on, then "eof", "reset" (by the client), "reset-by-us", "closed" (by `Server.close`).
    """

    def __init__(self, sock: socket.socket, peer: Address) -> None:
        self.socket = sock
        self.peer = peer
        self.accepted_at = time.monotonic()
        self.chunks: list[tuple[float, bytes]] = []
        self.received = bytearray()
        self.sent = 0
        self.ended = ""
        self._abandoned = threading.Event()
        options = sock.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 8)[5]
        self.fast_opened = bool(options & TCPI_OPT_TFO_CHILD)
        self.had_syn_data = bool(options & TCPI_OPT_SYN_DATA)

    def receive(self, limit: int = CHUNK) -> bytes:
        """The next bytes; b"" at the end, however it came."""
        try:
            data = self.socket.recv(limit)
        except OSError:
            self.ended = self.ended or "reset"
            return b""
        if data:
            self.chunks.append((time.monotonic(), data))
            self.received += data
        else:
            self.ended = self.ended or "eof"
        return data

    def receive_all(self) -> None:
        """Read until the client ends."""
        while self.receive():
            pass

    def send(self, data: bytes) -> None:
        """Send all of it; what a client that has gone no longer wants is lost."""
        with contextlib.suppress(OSError):
            self.socket.sendall(data)
            self.sent += len(data)

    def pause(self, seconds: float) -> None:
        """Think for a while, unless the server closes."""
        self._abandoned.wait(seconds)

    def finish(self) -> None:
        """End our direction (FIN)."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End both with a RST."""
        self.ended = self.ended or "reset-by-us"
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def abandon(self) -> None:
        """Wake whoever reads, because the server closes."""
        self.ended = self.ended or "closed"
        self._abandoned.set()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


Behaviour: TypeAlias = Callable[[Conversation], None]


class Server:
    """A listening socket in a namespace and a thread for each conversation. Made by `wan.Wan.serve`.

    `fast_open` is the TCP_FASTOPEN queue length (None: the listener does not do Fast Open), `key` its
    TCP_FASTOPEN_KEY, `defer_accept` TCP_DEFER_ACCEPT in seconds.
    """

    def __init__(  # noqa: PLR0913  (socket options, one each)
        self,
        namespace: Namespace,
        address: Address,
        behaviour: Behaviour,
        *,
        fast_open: int | None = None,
        key: bytes | None = None,
        defer_accept: int = 0,
        backlog: int = 1024,
    ) -> None:
        self.conversations: list[Conversation] = []
        self._behaviour = behaviour
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.listener = namespace.socket(family)
        try:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listener.bind(address)
            if fast_open is not None:
                self.listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, fast_open)
            if key is not None:
                self.set_keys(key)
            if defer_accept:
                self.listener.setsockopt(socket.IPPROTO_TCP, TCP_DEFER_ACCEPT, defer_accept)
            self.listener.listen(backlog)
        except OSError:
            self.listener.close()
            raise
        self.address: Address = self.listener.getsockname()[:2]
        self._acceptor = threading.Thread(
            target=self._accept, name=f"lab-server-{self.address[0]}", daemon=True
        )
        self._acceptor.start()

    def set_keys(self, *keys: bytes) -> None:
        """Fast Open keys of 16 bytes, newest first, at most two: a cookie is good while its key is named."""
        self.listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_KEY, b"".join(keys))

    @property
    def received(self) -> list[bytes]:
        """What each connection brought so far, in the order of their acceptance."""
        return [bytes(conversation.received) for conversation in self.conversations]

    def wait(self, count: int, *, ended: bool = True, timeout: float = 10.0) -> list[Conversation]:
        """Wait until `count` conversations have ended (or, with ended=False, begun). Raises TimeoutError.

        Returns all of them.
        """

        def reached() -> bool:
            return sum(1 for one in self.conversations if one.ended or not ended) >= count

        with self._changed:
            if not self._changed.wait_for(reached, timeout):
                raise TimeoutError(f"{len(self.conversations)} conversations of {count} at {self.address}")
            return list(self.conversations)

    def close(self) -> None:
        """Close the listener and all that is open, and wait for the threads."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self.listener.close()
        for conversation in self.conversations:
            conversation.abandon()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, peer = self.listener.accept()
            except OSError:
                return
            conversation = Conversation(sock, peer[:2])
            thread = threading.Thread(target=self._converse, args=(conversation,), daemon=True)
            with self._changed:
                self.conversations.append(conversation)
                self._changed.notify_all()
            self._threads = [old for old in self._threads if old.is_alive()] + [thread]
            thread.start()

    def _converse(self, conversation: Conversation) -> None:
        try:
            self._behaviour(conversation)
        finally:
            conversation.socket.close()
            with self._changed:
                conversation.ended = conversation.ended or "eof"
                self._changed.notify_all()
