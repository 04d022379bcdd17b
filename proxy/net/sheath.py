"""TLS 1.3 around a connection, behind a socket's face, so that whoever relays need not know of it.

A `Sheathed` reads and writes as a non-blocking socket does: BlockingIOError where it would have to wait, a short read
where everything that has come was read. What it cannot do is splice(2). An end without TLS's own word for it
(close_notify, RFC 8446 section 6.1) is a reset: somebody may have cut off what was said.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import NoReturn

import trio

from proxy.core.clusters import Tls

_CHUNK = 65536


class BadTls(Exception):
    """Files that do not do, or a handshake that failed; the message says why."""


def context(tls: Tls, *, far: bool) -> ssl.SSLContext:
    """What the near or the far side needs; files that have changed are read again. Raises `BadTls`."""
    files = [path for path in (tls.ca, tls.cert, tls.key) if path is not None]
    try:
        return _context(tls, far, tuple(_stamps(files)))
    except OSError as error:  # and SSLError
        what = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        raise BadTls(f"{error.filename or ', '.join(files)}: {what}") from None


def _stamps(files: Iterable[str]) -> Iterable[tuple[int, int]]:
    for path in files:
        found = os.stat(path)
        yield found.st_mtime_ns, found.st_ino


@lru_cache(64)
def _context(tls: Tls, far: bool, _stamps: tuple[tuple[int, int], ...]) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if far else ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    if far:
        made.num_tickets = 0  # nobody comes back for them
    if tls.cert is not None:
        made.load_cert_chain(tls.cert, tls.key, password=_no_password)
    if tls.ca is not None:
        made.load_verify_locations(tls.ca)
        made.verify_mode = ssl.CERT_REQUIRED
    elif not far:
        made.load_default_certs()
    return made


def _no_password() -> NoReturn:
    raise ValueError("the private key wants a password")


class Sheath:
    """One side of TLS, which has no socket yet. ``name`` is what the far side must be called; None: this is it."""

    __slots__ = ("incoming", "outgoing", "tls")

    def __init__(self, made: ssl.SSLContext, name: str | None = None) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = made.wrap_bio(self.incoming, self.outgoing, server_side=name is None, server_hostname=name)

    def hello(self) -> bytes:
        """What the near side says first."""
        with suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()


class Sheathed(socket.socket):
    """A connection with TLS around it; takes ``sock`` over."""

    def __init__(self, sock: socket.socket, sheath: Sheath) -> None:
        family = int(sock.family)
        self._resets = self._end_said = False
        super().__init__(family, socket.SOCK_STREAM, 0, sock.detach())
        self.setblocking(False)
        with suppress(OSError):  # a unix socket
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sheath = sheath
        self._plain = bytearray()  # read, and only looked at so far
        self._pending = b""  # sealed, and not yet taken by the kernel
        self._owed = 0  # bytes in there that whoever sends them has not been told of
        self._ended = False  # the other side has said that it ends
        self._room = select.poll()
        self._room.register(self, select.POLLOUT)

    async def shake_hands(self, hello: bytes = b"") -> None:
        """The handshake, from the rest of our ``hello`` on. Raises `BadTls`, and OSError. Bound it from outside."""
        self._pending = hello
        while True:
            try:
                self._sheath.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush_all()
                await self._hear_more()
            except ssl.SSLError as error:
                with suppress(OSError):
                    await self._flush_all()  # the alert that says why
                raise BadTls(f"TLS: {getattr(error, 'verify_message', '') or error.reason}") from None
            else:
                await self._flush_all()
                return

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """As of any socket; with ``MSG_PEEK`` or without."""
        if len(self._plain) < size:
            try:
                self._plain += self._read(size - len(self._plain))
            except BlockingIOError:
                if not self._plain:
                    raise
        found = bytes(self._plain[:size])
        if not flags & socket.MSG_PEEK:
            del self._plain[:size]
        return found

    def recv_into(self, buffer: bytearray | memoryview, nbytes: int = 0, flags: int = 0, /) -> int:  # type: ignore[override]  # it is given nothing else
        """As of any socket."""
        found = self.recv(nbytes or len(buffer), flags)
        buffer[: len(found)] = found
        return len(found)

    def send(self, data: bytes | memoryview, flags: int = 0, /) -> int:  # type: ignore[override]  # noqa: ARG002
        """As of any socket. What was refused (BlockingIOError) must be offered again, with more behind it or not."""
        self._flush()
        if self._has_more():
            raise BlockingIOError
        taken, self._owed = self._owed, 0
        if taken:
            return taken
        chunk = data[:_CHUNK]
        if not chunk:
            return 0
        self._seal(chunk)
        self._flush()
        if self._has_more():
            self._owed = len(chunk)
            raise BlockingIOError
        return len(chunk)

    def held(self) -> bytes:
        """What has come and was not asked for: no event will tell of it."""
        found, self._plain = bytes(self._plain), bytearray()
        with suppress(ssl.SSLError):
            while more := self._sheath.tls.read(_CHUNK):
                found += more
        return found

    def shutdown(self, how: int, /) -> None:
        """Say that nothing more comes, in TLS's words and in TCP's."""
        if how != socket.SHUT_RD:
            self._say_end()
        super().shutdown(how)

    def close(self) -> None:
        """As of any socket: in order, unless it was asked for a reset (``SO_LINGER``)."""
        if self.fileno() >= 0 and not self._resets:
            with suppress(OSError, ValueError):  # ValueError: there was no handshake
                self._say_end()
        super().close()

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:  # type: ignore[override]  # nothing else is asked for
        """As of any socket."""
        self._resets = self._resets or (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER)
        super().setsockopt(level, option, value)

    def _say_end(self) -> None:
        if not self._end_said:
            self._end_said = True
            with suppress(ssl.SSLError):  # it would like to hear the other side's end, too
                self._sheath.tls.unwrap()
            self._pending += self._sheath.outgoing.read()
            self._flush()

    def dup(self) -> socket.socket:  # type: ignore[override]  # what goes on with it knows no TLS
        """Another descriptor of the connection, for nothing but closing it."""
        return socket.socket(self.family, self.type, self.proto, socket.dup(self.fileno()))

    def _read(self, size: int) -> bytes:
        """All there is, up to ``size`` bytes; raises BlockingIOError where that is nothing, ConnectionResetError."""
        found = bytearray()
        while len(found) < size and not self._ended:
            try:
                more = self._sheath.tls.read(size - len(found))
                self._ended = not more
                found += more
            except ssl.SSLZeroReturnError:
                self._ended = True
            except ssl.SSLWantReadError:
                self._forward_own_words()
                try:
                    raw = super().recv(_CHUNK)
                except BlockingIOError:
                    if not found:
                        raise
                    break
                if not raw:
                    raise ConnectionResetError(errno.ECONNRESET, "cut off") from None
                self._sheath.incoming.write(raw)
            except ssl.SSLError as error:
                raise ConnectionResetError(errno.ECONNRESET, f"TLS: {error.reason}") from None
        return bytes(found)

    def _forward_own_words(self) -> None:
        """What TLS itself has to say: key updates, alerts."""
        if self._sheath.outgoing.pending:
            self._pending += self._sheath.outgoing.read()
            with suppress(OSError):
                self._flush()

    def _seal(self, data: bytes | memoryview) -> None:
        try:
            self._sheath.tls.write(data)
        except ssl.SSLError as error:
            raise ConnectionResetError(errno.ECONNRESET, f"TLS: {error.reason}") from None
        self._pending += self._sheath.outgoing.read()

    def _flush(self) -> None:
        while self._pending:
            try:
                self._pending = self._pending[super().send(self._pending, socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                return

    def _has_more(self) -> bool:
        """Whether not all was taken, or nothing more would be: there must be room for the last word."""
        return bool(self._pending) or not self._room.poll(0)

    async def _flush_all(self) -> None:
        self._pending += self._sheath.outgoing.read()
        self._flush()
        while self._has_more():
            await trio.lowlevel.wait_writable(self)
            self._flush()

    async def _hear_more(self) -> None:
        while True:
            try:
                raw = super().recv(_CHUNK)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self)
                continue
            if not raw:
                raise ConnectionResetError(errno.ECONNRESET, "cut off")
            self._sheath.incoming.write(raw)
            return
