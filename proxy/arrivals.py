"""What the far side of tunnels remembers: the openings that have come, and the sessions that may yet be taken over."""

from __future__ import annotations

from collections.abc import Callable
from time import time as wall_clock  # noqa: TID251  # near sides have no other clock in common with us

from proxy.core.outcomes import Reason
from proxy.core.tunnel import Rejected, Sealed
from proxy.net.tentative import Tentative
from proxy.nonce_memory import NoMemory, NonceMemory, open_memory


class Arrivals:
    """Of one worker."""

    __slots__ = ("_memory", "tentative")

    def __init__(self) -> None:
        self._memory: NonceMemory | None = None
        self.tentative: dict[bytes, Tentative] = {}  # by nonce

    def open(self, state: str | None, warn: Callable[[str], None]) -> None:
        """Remember from now on, in a file beside ``state``; ``warn`` is told why that cannot be."""
        if self._memory is not None:
            return
        now = wall_clock()
        try:
            fd = open_memory(state, now)
        except NoMemory as problem:
            warn(str(problem))
            fd = open_memory(None, now)
        self._memory = NonceMemory(fd)

    def claim(self, sealed: Sealed) -> Tentative | None:
        """The session that an opening goes on with; None: it starts one. Raises `Rejected`."""
        assert self._memory is not None
        nonce, time = sealed.ticket.nonce, sealed.ticket.time
        if self._memory.claim(nonce, time, sealed.attempt, b"").fresh:
            return None
        tentative = self.tentative.get(nonce)
        if tentative is None or tentative.settled:
            raise Rejected(Reason.REPLAYED, "its session is settled, or over")
        return tentative

    def close(self) -> None:
        """Look no more."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None
