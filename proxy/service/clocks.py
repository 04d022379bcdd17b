"""Which sessions have waited for too long. To be asked once a second: no timer is set or moved when bytes flow."""

from __future__ import annotations

import math

from proxy.core.outcomes import Reason
from proxy.sessions.session import Session

_STOOD_STILL = 3.0  # seconds that nobody has asked, after which it must have been the whole process


class Clocks:
    """One for each session that relays. ``now`` is trio's clock."""

    __slots__ = ("_asked", "_clocks")

    def __init__(self) -> None:
        self._clocks: dict[
            Session, tuple[int, float]
        ] = {}  # bytes moved so far, and since when it is so many
        self._asked = math.inf

    def stood_still(self, now: float) -> bool:
        """Whether this process was stopped, and what has come meanwhile is to be looked at before anybody is ended."""
        before, self._asked = self._asked, now
        return now - before > _STOOD_STILL

    def forget(self, session: Session) -> None:
        """It is over."""
        self._clocks.pop(session, None)

    def overdue(self, session: Session, now: float) -> Reason | None:
        """Why it is to be ended now. One that lasts has its upstream watched for vanishing."""
        relay = session.relay
        timeouts = session.listener.timeouts
        if relay is None:
            return None  # sniff and dial have their own, finer clocks
        if timeouts.lifetime is not None and now - session.record.began >= timeouts.lifetime:
            return Reason.LIFETIME
        session.look_after(now)
        moved = relay.up.moved + relay.down.moved
        known = self._clocks.get(session)
        if known is None:
            session.keep_alive()
        if known is None or known[0] != moved:
            self._clocks[session] = (moved, now)
            return None
        quiet = now - known[1]
        ended = relay.up.eof or relay.down.eof
        if ended and timeouts.half_closed is not None and quiet >= timeouts.half_closed:
            return Reason.HALF_CLOSED
        if timeouts.idle is not None and quiet >= timeouts.idle:
            return Reason.IDLE
        return None
