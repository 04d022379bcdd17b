"""Whether a client is who it says: passwords, looked at slowly where somebody guesses them.

Checking a password against a hash takes tens of milliseconds of a processor, so `AT_ONCE` are checked at a time and
`MOST_WAITING` may wait. Who waits is served in the order of what the client has failed at and has waiting already, so
that guesses from many connections, or by a network of many addresses, come after a first login from elsewhere. Where
too many wait, the last in that order is refused unseen.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress

import trio

from proxy.core.address import Endpoint
from proxy.core.limits import client_of
from proxy.core.lockout import Lockout
from proxy.core.request import Credentials
from proxy.core.users import Users

AT_ONCE = 2
MOST_WAITING = 64
_PATIENCE = 3.0  # seconds for which an answer is put off, rather than given unseen
_WRONG = "wrong password"
_UNSEEN = "too many wrong passwords before this one, which was not looked at"
_BUSY = "too many passwords are being checked; this one was not looked at"


async def wrong(
    users: Users | None, credentials: Credentials, source: Endpoint | None, lockout: Lockout, patience: float
) -> str:
    """What is wrong with them, looked at no sooner than whoever has guessed before may have it; nothing: ``""``.

    ``source`` is where they come from (None: a unix socket), ``patience`` how many seconds they may be put off.
    """
    client, user = client_of(source.host) if source is not None else b"", credentials.user
    mark = lockout.mark(hash(users), user, credentials.password)
    if users is not None and lockout.was_right(client, user, mark) and users.known(credentials):
        return ""
    if lockout.was_wrong(client, user, mark, trio.current_time()):
        return _WRONG
    pause = lockout.turn(client, user, trio.current_time(), min(_PATIENCE, patience))
    if pause is None:
        return _UNSEEN
    if pause:
        await trio.sleep(pause)
        if lockout.was_wrong(client, user, mark, trio.current_time()):
            return _WRONG  # the same was looked at meanwhile
    right = False if users is None else users.known(credentials)
    if not right and users is not None and users.slow:
        looked = await _checks.run(client, lockout.failures(client), mark, lambda: users.check(credentials))
        if looked is None:
            return _BUSY
        right = looked
    if right:
        lockout.succeeded(client, user, mark)
        return ""
    if not lockout.was_wrong(client, user, mark, trio.current_time()):
        lockout.failed(client, user, trio.current_time(), mark)
    return _WRONG


class _Place:
    """Somebody who waits to be checked."""

    __slots__ = ("client", "is_dropped", "rank", "turn")

    def __init__(self, client: bytes, rank: tuple[int, int]) -> None:
        self.client = client
        self.rank = rank
        self.turn = trio.Event()
        self.is_dropped = False


class _Checks:
    """The queue of those that are to be checked against a hash."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._running: list[bytes] = []
        self._waiting: list[_Place] = []
        self._looked: dict[bytes, list[trio.Event | bool | None]] = {}

    async def run(self, client: bytes, failures: int, mark: bytes, check: Callable[[], bool]) -> bool | None:
        """What ``check`` says, which is run in a thread; None: too many are before it, and it was not.

        Those with the same ``mark`` are checked together.
        """
        shared = self._looked.get(mark)
        if shared is not None and isinstance(done := shared[0], trio.Event):
            await done.wait()
            result = shared[1]
            return result if isinstance(result, bool) else None
        done = trio.Event()
        mine = self._looked[mark] = [done, None]
        try:
            if not await self._take_place(client, failures):
                return None
            try:
                mine[1] = await trio.to_thread.run_sync(check)
            finally:
                self._leave(client)
        finally:
            del self._looked[mark]
            done.set()
        return bool(mine[1])

    async def _take_place(self, client: bytes, failures: int) -> bool:
        if len(self._running) < AT_ONCE:
            self._running.append(client)
            return True
        others = [*self._running, *(place.client for place in self._waiting)]
        same = others.count(client)
        near = sum(_network(other) == _network(client) for other in others)
        place = _Place(client, (failures + 4 * same + near, next(self._numbers)))
        self._waiting.append(place)
        if len(self._waiting) > MOST_WAITING:
            last = max(self._waiting, key=lambda one: one.rank)
            self._waiting.remove(last)
            last.is_dropped = True
            last.turn.set()
        try:
            await place.turn.wait()
        except BaseException:
            if place.turn.is_set() and not place.is_dropped:
                self._leave(client)
            with suppress(ValueError):
                self._waiting.remove(place)
            raise
        return not place.is_dropped

    def _leave(self, client: bytes) -> None:
        self._running.remove(client)
        if self._waiting:
            first = min(self._waiting, key=lambda one: one.rank)
            self._waiting.remove(first)
            self._running.append(first.client)
            first.turn.set()


def _network(client: bytes) -> bytes:
    """The /24 of an IPv4 address, the /48 of an IPv6 one."""
    return client.rpartition(b".")[0] or client[:6]


_checks = _Checks()
