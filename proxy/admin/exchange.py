"""HTTP/1.1 with one client, over h11: requests in, answers out, and limits on everything the client may take.

Nothing here knows what is asked for. What a client may send: a head of at most 16 KiB, a body of at most 4 KiB, each
within seconds; how fast it must read: an answer within seconds, too.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import h11
import trio

LARGEST_HEAD = 16 * 1024
LARGEST_BODY = 4 * 1024
HEAD_PATIENCE = 10.0  # seconds from a head's first byte to its last, and for a body
SEND_PATIENCE = 10.0  # for an answer, or one event of a stream, to be taken
KEPT_OPEN = 120.0  # between two requests; scrapers come every 15 to 60 seconds
_PIECE = 16 * 1024
_LINGER = 0.5
_VERSIONS = frozenset({b"1.0", b"1.1"})

Headers: TypeAlias = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks: names of headers are in lower case, ``path`` and ``query`` are as they came."""

    method: str
    path: str
    query: str
    headers: dict[str, str]  # of those that came twice, the last
    body: bytes
    peer: str  # the client's IP; "" over a unix socket


@dataclass(frozen=True, slots=True)
class Answer:
    """What it gets: a body, or a ``stream`` of pieces until one of the two has enough."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Headers = field(default_factory=Headers)
    stream: AsyncGenerator[bytes, None] | None = None
    over: Callable[[], None] = lambda: None  # called when the stream has ended, or has not even begun


Respond: TypeAlias = Callable[[Request], Awaitable[Answer]]


class BadRequest(Exception):
    """The client does not keep to the rules: what to tell it, if it can be told."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Exchange:
    """One connection. ``idle`` while it waits for a whole request: then it may be closed without harm.

    ``streams`` once its answer has no end: it will be busy for long, and rightly so.
    """

    def __init__(self, stream: trio.SocketStream, peer: str, refuse: Callable[[int, str], Answer]) -> None:
        """``refuse`` words the answer to somebody who breaks the rules."""
        self.idle = True
        self.streams = False
        self._stream = stream
        self._peer = peer
        self._refuse = refuse
        self._head_only = False  # the request that came last wants no body
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST_HEAD)

    async def serve(self, respond: Respond) -> None:
        """Answer request after request until the client leaves, breaks the rules, or is too slow."""
        http = self._http
        while True:
            try:
                request = await self._request()
            except h11.RemoteProtocolError as error:
                await self._complain(BadRequest(error.error_status_hint, "this is not HTTP"))
                return
            except BadRequest as error:
                await self._complain(error)
                return
            if request is None:
                return
            await self._send(await respond(request))
            if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                return
            http.start_next_cycle()

    async def _request(self) -> Request | None:
        """The next request; None once there is none."""
        self.idle, self._head_only = True, False
        head = await self._head()
        if head is None:
            return None
        self._head_only = head.method == b"HEAD"
        if head.http_version not in _VERSIONS:
            raise BadRequest(505, "this speaks HTTP/1.1")
        with trio.move_on_after(HEAD_PATIENCE):
            body = await self._body()
            self.idle = False
            target = head.target.decode("latin-1")
            path, _, query = target.partition("?")
            if not path.startswith("/"):
                raise BadRequest(400, "the target is not a path")
            names = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
            return Request(head.method.decode("latin-1"), path, query, names, body, self._peer)
        raise BadRequest(408, "the body did not come in time")

    async def _head(self) -> h11.Request | None:
        """The head of the next request: its first byte may take long, the rest may not."""
        begun = False
        with trio.move_on_after(KEPT_OPEN) as patience:
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    if self._http.trailing_data[0] and not begun:
                        begun, patience.deadline = True, trio.current_time() + HEAD_PATIENCE
                    await self._read()
                elif isinstance(event, h11.Request):
                    if _size(event) > LARGEST_HEAD:  # h11 looks only while it is not complete
                        raise BadRequest(431, f"no head has more than {LARGEST_HEAD} bytes")
                    return event
                else:
                    return None  # it is gone
        return None

    async def _body(self) -> bytes:
        body = bytearray()
        while True:
            if self._http.they_are_waiting_for_100_continue:
                await self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                await self._read()
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > LARGEST_BODY:
                    raise BadRequest(413, f"no request has more than {LARGEST_BODY} bytes")
            elif isinstance(event, h11.EndOfMessage):
                return bytes(body)
            else:
                raise BadRequest(400, "the request ends in the middle")

    async def _read(self) -> None:
        self._http.receive_data(await self._stream.receive_some(_PIECE))

    async def _send(self, answer: Answer) -> None:
        headers: Headers = [("content-type", answer.content_type), *_ALWAYS, *answer.headers]
        headers.append(
            ("content-length", str(len(answer.body))) if answer.stream is None else ("connection", "close")
        )
        head = self._http.send(h11.Response(status_code=answer.status, headers=headers))
        assert head is not None
        if answer.stream is None:
            body = b"" if self._head_only else self._http.send(h11.Data(answer.body)) or b""
            end = self._http.send(h11.EndOfMessage()) or b""
            await self._write(head + body + end)
            return
        self.streams = True
        try:
            await self._write(head)
            if not self._head_only:
                async with contextlib.aclosing(answer.stream) as pieces:
                    async for piece in pieces:
                        await self._write(self._http.send(h11.Data(piece)))
        finally:
            answer.over()
        await self._write(self._http.send(h11.EndOfMessage()))

    async def _write(self, data: bytes | None) -> None:
        with trio.move_on_after(SEND_PATIENCE) as patience:
            await self._stream.send_all(data or b"")
        if patience.cancelled_caught:
            raise trio.BrokenResourceError("it does not read")

    async def _complain(self, error: BadRequest) -> None:
        """Say what is wrong, if the client can still be told, and let it hear that before the connection ends."""
        if self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        answer = self._refuse(error.status, str(error))
        headers: Headers = [("content-type", answer.content_type), *_ALWAYS, ("connection", "close")]
        headers.append(("content-length", str(len(answer.body))))
        data = self._http.send(h11.Response(status_code=answer.status, headers=headers)) or b""
        if not self._head_only:
            data += self._http.send(h11.Data(answer.body)) or b""
        await self._write(data + (self._http.send(h11.EndOfMessage()) or b""))
        with contextlib.suppress(OSError):
            self._stream.socket.shutdown(socket.SHUT_WR)
        with trio.move_on_after(_LINGER):  # what is still on its way would turn our answer into a reset
            for _ in range(64):
                if not await self._stream.receive_some(_PIECE):
                    return


def _size(head: h11.Request) -> int:
    """Bytes of a request's head, as it came but for blanks."""
    lines = sum(len(name) + len(value) + 4 for name, value in head.headers.raw_items())
    return len(head.method) + len(head.target) + 12 + lines + 2


_ALWAYS: Headers = [
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
]
