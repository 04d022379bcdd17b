"""What is where: paths, the methods they take, and what answers them."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs

import msgspec

from proxy.admin import doors, views
from proxy.admin.assets import Assets
from proxy.admin.events import Events
from proxy.admin.exchange import Answer, BadRequest, Request
from proxy.admin.house import House
from proxy.admin.metrics import Metrics
from proxy.admin.portrait import Portrait
from proxy.core.snapshot import Admin

API = "/api/v1/"
MOST = 10_000  # rows of a list
_TEXT = "text/plain; charset=utf-8"
_READS = frozenset({"GET", "HEAD"})
_encode = msgspec.json.Encoder().encode


class Site:
    """Everything the admin answers to."""

    def __init__(self, house: House, admin: Callable[[], Admin], portrait: Portrait) -> None:
        """``admin`` tells what is configured now: a reload may bring another token."""
        self._house, self._admin, self._portrait = house, admin, portrait
        self._events = Events(portrait)
        self._metrics = Metrics(house, portrait)
        self._page = Assets()

    async def respond(self, request: Request) -> Answer:
        """The answer; whatever is wrong with the request is an answer, too."""
        try:
            answer = await self._route(request)
        except BadRequest as error:
            answer = problem(error.status, str(error))
        self._metrics.answered(answer.status)
        return answer

    async def _route(self, request: Request) -> Answer:
        path = request.path
        if path in {"/livez", "/readyz", "/metrics"}:
            self._only(request, _READS, private=False)
            return await self._health(request)
        if not path.startswith("/api/"):
            self._only(request, _READS, private=False)
            return self._page.answer(path)
        name = path.removeprefix(API)
        if name in {"reload", "drain", "loglevel"}:
            self._only(request, frozenset({"POST"}), private=True)
            return await self._order(name, request)
        self._only(request, _READS, private=True)
        return await self._look(name, request)

    async def _health(self, request: Request) -> Answer:
        if request.path == "/metrics":
            accept = request.headers.get("accept", "")
            body, content_type = await self._metrics.expose(
                open_metrics="application/openmetrics-text" in accept
            )
            return Answer(200, body, content_type)
        state = self._house.state
        if request.path == "/livez" or state == "ready":
            return Answer(200, b"ok\n" if request.path == "/livez" else b"ready\n", _TEXT)
        return Answer(503, state.encode() + b"\n", _TEXT)

    async def _look(self, name: str, request: Request) -> Answer:
        portrait = self._portrait
        match name:
            case "status":
                return _json(portrait.status())
            case "listeners":
                return _json(portrait.listeners())
            case "clusters":
                return _json(portrait.clusters())
            case "endpoints":
                await portrait.cookies.refresh()
                return _json(portrait.endpoints(_limit(request, 200)))
            case "sessions":
                return _json(portrait.sessions(_limit(request, 100)))
            case "config":
                return _json(portrait.config())
            case "events":
                return self._events.answer(request.method == "HEAD")
            case _:
                raise BadRequest(404, "there is nothing here; docs/admin.md has a list")

    async def _order(self, name: str, request: Request) -> Answer:
        house = self._house
        match name:
            case "reload":
                result = await house.reload()
                return _json(result, 200 if result.ok else 422)
            case "drain":
                house.drain()
            case _:
                try:
                    wanted = msgspec.json.decode(request.body, type=views.Level)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    raise BadRequest(400, 'write {"level": "debug"}, or "info", "warning", "error"') from None
                house.set_level(wanted.level)
        return _json(views.Done(state=house.state, log_level=house.log_level))

    def _only(self, request: Request, methods: frozenset[str], *, private: bool) -> None:
        if request.method not in methods:
            raise BadRequest(405, f"only {' and '.join(sorted(methods))} here")
        doors.check(self._admin(), request, order="POST" in methods, private=private)


def problem(status: int, why: str) -> Answer:
    """An error as it is told."""
    headers = [("www-authenticate", 'Bearer realm="tfo-proxy"')] if status == 401 else []
    return Answer(status, _encode(views.Problem(error=why)), headers=headers)


def _json(view: msgspec.Struct, status: int = 200) -> Answer:
    return Answer(status, _encode(view))


def _limit(request: Request, usual: int) -> int:
    """``?limit=``: how many rows."""
    for text in parse_qs(request.query).get("limit", ()):
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise BadRequest(400, "limit is a number")
        return min(int(text), MOST)
    return usual
