"""Which endpoints the kernel has a cookie for, read anew every few seconds and only while somebody asks."""

from __future__ import annotations

import time

import trio

from proxy.admin import views
from proxy.core.address import Endpoint
from proxy.net.cookies import Cookie, CookieCache

_EVERY = (
    5.0  # seconds between two looks at the cache, or more where it is so large that a look takes its time
)
_SHARE = 200  # a look takes at most this part of the time
_NONE = views.Cookie(known=False, size=0, age=None)


class Cookies:
    """A picture of the kernel's cache, by IP: it knows no ports. ``problem``: why there is none, in words."""

    def __init__(self) -> None:
        self.problem = ""
        self._cookies: dict[str, views.Cookie] = {}
        self._taken = 0.0
        self._again_at = -1.0

    def of(self, endpoint: Endpoint) -> views.Cookie:
        """What there is for an endpoint, as far as the last look has shown."""
        cookie = self._cookies.get(endpoint.host)
        if cookie is None or cookie.age is None:
            return cookie or _NONE
        since = trio.current_time() - self._taken
        return views.Cookie(known=cookie.known, size=cookie.size, age=cookie.age + since)

    async def refresh(self) -> None:
        """Look again, if it is time to."""
        now = trio.current_time()
        if now < self._again_at:
            return
        self._again_at = now + _EVERY
        started = time.perf_counter()
        self._cookies, self.problem = await trio.to_thread.run_sync(_read)
        self._taken = trio.current_time()
        self._again_at = self._taken + max(_EVERY, _SHARE * (time.perf_counter() - started))


def _read() -> tuple[dict[str, views.Cookie], str]:
    with CookieCache() as cache:
        entries = list(cache.dump())
        return {entry.address: _view(entry) for entry in sorted(entries, key=_best_last)}, cache.problem


def _best_last(entry: Cookie) -> bool:
    """There may be entries for several addresses of our own."""
    return entry.has_cookie


def _view(entry: Cookie) -> views.Cookie:
    return views.Cookie(known=entry.has_cookie, size=entry.cookie_size, age=entry.age)
