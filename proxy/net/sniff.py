"""Read what a downstream says first: where it wants to go, and the bytes that may travel in the SYN."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar, cast

import trio

from proxy.core.reader import Parser, Reader, Reading

MOST_EARLY_DATA = 65536
_FAREWELL = 1.0  # how long a client may go on talking that has been told no
_MOST_UNHEARD = 1024 * 1024

T = TypeVar("T")


class EarlyData(NamedTuple):
    """First bytes of a downstream; ``ended`` when its FIN came already, ``waited`` in seconds."""

    data: bytes
    ended: bool
    waited: float


NOTHING_YET = EarlyData(b"", ended=False, waited=0.0)
# One for each session: made in C.
_early_data = cast(
    "Callable[[tuple[bytes, bool, float]], EarlyData]",
    partial(tuple.__new__, EarlyData),  # pyright: ignore[reportUnknownMemberType]  # of any tuple
)


def early_data_now(sock: socket.socket) -> EarlyData:
    """What the client has said already, or `NOTHING_YET`; raises OSError when it hung up rudely."""
    try:
        data = sock.recv(MOST_EARLY_DATA)
    except BlockingIOError:
        return NOTHING_YET
    return _early_data((data, not data, 0.0))


async def early_data(sock: socket.socket, patience: float) -> EarlyData:
    """What the client says within ``patience`` seconds (one read's worth); raises OSError as above."""
    started = trio.current_time()
    with trio.move_on_after(patience):
        await trio.lowlevel.wait_readable(sock)
    early = early_data_now(sock)
    return early._replace(waited=trio.current_time() - started)


class HungUp(Exception):
    """The downstream ended before it had said all that was needed."""


def has_something(sock: socket.socket) -> bool:
    """Whether bytes, an end or an error wait to be read."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


async def wait_for_either(one: socket.socket, other: socket.socket) -> None:
    """Until one of two sockets is readable."""
    async with trio.open_nursery() as nursery:

        async def wait(sock: socket.socket) -> None:
            await trio.lowlevel.wait_readable(sock)
            nursery.cancel_scope.cancel()

        nursery.start_soon(wait, one)
        nursery.start_soon(wait, other)


class Incoming:
    """What a downstream says, taken apart by one parser after the other.

    ``data`` has been said and belongs to no message yet; ``consumed`` counts the bytes of those that were read.
    """

    __slots__ = ("_reading", "consumed", "data", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.data = b""
        self.consumed = 0
        self._reading: Reading[object] | None = None  # a message of which more has to come

    def read_now(
        self, parser: Callable[[Reader], Parser[T]], limit: int, *, to_the_end: bool = True
    ) -> T | None:
        """The next message; None: more of it has to come, and asked again with this ``parser`` it goes on there.

        Reads until there is nothing left, or just until a read comes back short. Raises what the parser does,
        `HungUp`, and OSError; then ``data`` is as if no message was read.
        """
        reading, parsed = cast("Reading[T] | None", self._reading), None
        try:
            if reading is None:
                reading = Reading(parser, limit)
                parsed = reading.feed(self.data)
            while parsed is None:
                try:
                    data = self.sock.recv(MOST_EARLY_DATA)
                except BlockingIOError:
                    break
                if not data:
                    raise HungUp
                parsed = reading.feed(data)
                if not to_the_end and len(data) < MOST_EARLY_DATA:
                    break
        except BaseException:
            self._reading = None
            if reading is not None:
                self.data = bytes(reading.reader.data)
            raise
        if parsed is None:
            self._reading = cast("Reading[object]", reading)
            return None
        self._reading = None
        self.data = bytes(reading.reader.data[parsed.consumed :])
        self.consumed += parsed.consumed
        return parsed.value

    @property
    def is_amid_a_message(self) -> bool:
        """Whether more of one has to come."""
        return self._reading is not None

    @property
    def so_far(self) -> bytes:
        """What has come of that message."""
        return bytes(self._reading.reader.data) if self._reading is not None else b""

    def said_anew(self) -> bytes | None:
        """What was said since the last message, up to one read's worth; None: nothing yet. Raises OSError.

        ``b""`` where the client has ended. It stays ``data``.
        """
        if not self.data:
            try:
                self.data = self.sock.recv(MOST_EARLY_DATA)
            except BlockingIOError:
                return None
        return self.data

    def understood(self) -> None:
        """All ``data`` was a message that need not be read."""
        self.consumed += len(self.data)
        self.data = b""

    async def read(self, parser: Callable[[Reader], Parser[T]], limit: int) -> T:
        """The same, waited for as long as the client takes: bound it from outside."""
        try:
            while (value := self.read_now(parser, limit)) is None:
                await trio.lowlevel.wait_readable(self.sock)
        finally:
            self.give_up()
        return value

    def give_up(self) -> None:
        """The message on its way is not waited for any longer: what is there of it is ``data`` again."""
        if self._reading is not None:
            self.data = bytes(self._reading.reader.data)
            self._reading = None


def say(sock: socket.socket, reply: bytes) -> None:
    """Tell a client something short. Raises OSError; a client that reads nothing is one that broke."""
    if reply and sock.send(reply, socket.MSG_NOSIGNAL) < len(reply):
        raise BlockingIOError


async def farewell(sock: socket.socket, reply: bytes) -> None:
    """Tell a client no, and close when it has heard: a close with bytes unread would reset the reply away."""
    try:
        say(sock, reply)
        sock.shutdown(socket.SHUT_WR)
        heard = 0
        with trio.move_on_after(_FAREWELL):
            while heard < _MOST_UNHEARD:
                await trio.lowlevel.wait_readable(sock)
                data = sock.recv(MOST_EARLY_DATA)
                if not data:
                    break
                heard += len(data)
    except OSError:
        return
    finally:
        sock.close()
