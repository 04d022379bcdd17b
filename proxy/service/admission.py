"""Who comes in: a listener's door, shut while too many are inside, or while there is nothing left to serve more with.

Where all together are too many, or come too fast, the next stay in the kernel's queue: they lose time and no
connection. Where one client has too much, his next connection is reset at once: he must not hold up the others. Both
are said once a second and listener at most, and the latter are counted.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from mmap import mmap
from time import monotonic  # noqa: TID251  # the clock that all workers share

from proxy.core import limits
from proxy.core.limits import Caps, Gate, Tally, Ticket
from proxy.core.outcomes import Reason
from proxy.core.record import Peer
from proxy.core.snapshot import Listener, ProxyHeader
from proxy.net import sockopt
from proxy.net.descriptors import budget
from proxy.telemetry.events import Events

FREE = Ticket()  # of all those who are not counted
_SHORTAGE_PAUSE = 0.05
_SAY_AGAIN = 1.0  # seconds


def own_tally() -> Tally:
    """A tally that is shared with nobody."""
    region = memoryview(mmap(-1, limits.size(1)))  # a page of it is memory when it is used
    limits.prepare(region, os.urandom(limits.KEY_SIZE))
    return Tally(region, used=False)


class Admission:
    """What the doors of one worker have in common. ``inside`` tells how many sessions there are."""

    def __init__(
        self,
        whole: Caps,
        tally: Tally | None,
        events: Events,
        inside: Callable[[], int],
        refused: Callable[[str, str], None],
    ) -> None:
        """``refused`` is told a listener's name and a `Reason` for each connection that was turned away."""
        self._whole = whole
        self._tally = tally or own_tally()
        self._doors: dict[str, Door] = {}
        self.events = events
        self.inside = inside
        self.refused = refused
        self.budget = budget()

    def door(self, listener: Listener) -> Door:
        """The door of ``listener``, as it is configured now; those who are inside stay counted."""
        door = self._doors[listener.name] = Door(
            self, listener, Gate(listener.name, listener.limits, self._whole, self._tally)
        )
        return door

    def change(self, whole: Caps) -> None:
        """From now on ``whole`` caps all listeners together."""
        self._whole = whole
        for door in self._doors.values():
            door.gate.whole = whole
            door.limited = door.gate.limited


class Door:
    """One listener's."""

    __slots__ = (
        "_admission",
        "_ceiling",
        "_introduced",
        "_listener",
        "_most",
        "_refusals",
        "_say_after",
        "_why",
        "gate",
        "limited",
    )

    def __init__(self, admission: Admission, listener: Listener, gate: Gate) -> None:
        self._admission = admission
        self._listener = listener
        self._most, self._ceiling = admission.budget
        self._introduced = listener.proxy_header is not ProxyHeader.OFF  # who they are is known later
        self._refusals = 0
        self._say_after = 0.0
        self._why = ""
        self.gate = gate
        self.limited = gate.limited

    def room(self) -> int:
        """How many may come in before this is asked again; 0: nobody may."""
        free = self._most - self._admission.inside()
        if not self.limited:
            return max(free, 0)
        return 1 if free > 0 and self.gate.hold(monotonic()) is None else 0

    def pause(self) -> float:
        """Seconds for which nobody is to be accepted; 0: go on."""
        if self._admission.inside() >= self._most:
            self._why = ""
            return _SHORTAGE_PAUSE
        if not self.limited:
            return 0.0
        hold = self.gate.hold(monotonic())
        if hold is None:
            return 0.0
        self._why = hold.why
        return hold.pause

    def held(self) -> None:
        """Somebody waits while the door is shut."""
        now = monotonic()
        if now < self._say_after:
            return
        self._say_after = now + _SAY_AGAIN
        if self._why:
            self._admission.events.warn("held_back", listener=self._listener.name, why=self._why)
        else:
            self._admission.events.accept_trouble(self._listener.name, OSError(errno.EMFILE, ""))

    def enter(self, sock: socket.socket, peer: Peer) -> Ticket | None:
        """Let a connection in, or turn it away: then it is closed, and there is no ticket."""
        if sock.fileno() >= self._ceiling:
            self._turn_away(sock, peer, Reason.NO_DESCRIPTORS, "descriptors are running out")
            return None
        if not self.limited:
            return FREE
        now = monotonic()
        ticket = self.gate.enter(now)
        if not self._introduced and self.gate.by_client and isinstance(peer, tuple):
            why = self.gate.greet(ticket, peer[0], now)
            if why is not None:
                self.gate.leave(ticket)
                self._turn_away(sock, peer, Reason.LIMITED, why)
                return None
        return ticket

    def introduce(self, ticket: Ticket, host: str) -> str | None:
        """A PROXY header has told who a connection is of; why that one may not come in. It stays counted."""
        if ticket is FREE or not (self._introduced and self.gate.by_client):
            return None
        return self.gate.greet(ticket, host, monotonic())

    def leave(self, ticket: Ticket) -> None:
        """A session is over."""
        self.gate.leave(ticket)

    def _turn_away(self, sock: socket.socket, peer: Peer, reason: Reason, why: str) -> None:
        sockopt.reset_on_close(sock)
        sock.close()
        self._refusals += 1
        self._admission.refused(self._listener.name, reason)
        now = monotonic()
        if now >= self._say_after:
            self._say_after = now + _SAY_AGAIN
            client = peer[0] if isinstance(peer, tuple) else "unix"
            self._admission.events.warn(
                "turned_away", listener=self._listener.name, count=self._refusals, client=client, why=why
            )
            self._refusals = 0
