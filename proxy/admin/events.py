"""Server-sent events (WHATWG HTML, section 9.2): the views of the API whenever they have changed, once a second.

Whoever reads slowly misses what was in between, not more: an event is made when there is room to send it, so nothing
is ever queued. Who takes nothing at all for `exchange.SEND_PATIENCE` is dropped.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

import msgspec
import trio

from proxy.admin.exchange import Answer, BadRequest
from proxy.admin.portrait import Portrait

EVERY = 1.0  # seconds
MOST_READERS = 32
_ENDPOINTS, _SESSIONS = 500, 100  # rows
_TYPE = "text/event-stream"
_encode = msgspec.json.Encoder().encode


class Events:
    """The readers of ``/api/v1/events``. What one of them is sent is made once for all of them."""

    def __init__(self, portrait: Portrait) -> None:
        self._portrait = portrait
        self._readers = 0
        self._made_at = -EVERY
        self._made: dict[str, bytes] = {}
        self._views: dict[str, Callable[[], msgspec.Struct]] = {
            "status": portrait.status,
            "listeners": portrait.listeners,
            "clusters": portrait.clusters,
            "endpoints": lambda: portrait.endpoints(_ENDPOINTS),
            "sessions": lambda: portrait.sessions(_SESSIONS),
        }

    def answer(self, head_only: bool) -> Answer:
        """The stream; raises `BadRequest` where too many read already."""
        if self._readers >= MOST_READERS and not head_only:
            raise BadRequest(503, "too many read this already; ask again later, or poll")
        if head_only:
            return Answer(200, content_type=_TYPE, stream=self._stream())
        self._readers += 1
        return Answer(200, content_type=_TYPE, stream=self._stream(), over=self._left)

    def _left(self) -> None:
        self._readers -= 1

    async def _stream(self) -> AsyncGenerator[bytes, None]:
        yield b"retry: 2000\n\n"
        sent: dict[str, bytes] = {}
        while True:
            made = await self._make()
            news = [event for name, event in made.items() if sent.get(name) is not event]
            sent = dict(made)
            yield b"".join(news) or b":\n\n"
            await trio.sleep(EVERY)

    async def _make(self) -> dict[str, bytes]:
        """All events as they are now; the same object as before where nothing has changed."""
        now = trio.current_time()
        if now - self._made_at >= EVERY * 0.9:
            self._made_at = now
            await self._portrait.cookies.refresh()
            for name, view in self._views.items():
                event = b"event: %s\ndata: %s\n\n" % (name.encode(), _encode(view()))
                if self._made.get(name) != event:
                    self._made[name] = event
        return self._made
