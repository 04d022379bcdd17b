"""Whether a client is who it says: passwords, looked at slowly where somebody guesses them."""

from __future__ import annotations

import trio

from proxy.core.address import Endpoint
from proxy.core.limits import client_of
from proxy.core.lockout import Lockout
from proxy.core.request import Credentials
from proxy.core.users import Users

_PATIENCE = 3.0  # seconds for which an answer is put off, rather than given unseen
_HASHING = trio.CapacityLimiter(2)  # passwords checked against a hash at a time


async def wrong(
    users: Users | None, credentials: Credentials, source: Endpoint | None, lockout: Lockout, patience: float
) -> str:
    """What is wrong with them, looked at no sooner than whoever has guessed before may have it; nothing: ``""``.

    ``source`` is where they come from (None: a unix socket), ``patience`` how many seconds they may be put off.
    """
    client = client_of(source.host) if source is not None else b""
    pause = lockout.turn(client, credentials.user, trio.current_time(), min(_PATIENCE, patience))
    if pause is None:
        return "too many wrong passwords before this one, which was not looked at"
    if pause:
        await trio.sleep(pause)
    if users is None or not await _are_right(users, credentials):
        lockout.failed(client, credentials.user, trio.current_time())
        return "wrong password"
    return ""


async def _are_right(users: Users, credentials: Credentials) -> bool:
    if users.known(credentials):
        return True
    if not users.slow:
        return False
    return await trio.to_thread.run_sync(users.check, credentials, limiter=_HASHING)
