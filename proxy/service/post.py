"""A listening socket at work, and for whom."""

from __future__ import annotations

from proxy.core.patience import Patience
from proxy.core.snapshot import Listener
from proxy.service.admission import Door
from proxy.sessions.arriving import ArrivingSession
from proxy.sessions.asking import AskingSession
from proxy.sessions.session import Session


class Post:
    """The listener that a socket serves, which a reload may change while its accept loop goes on."""

    __slots__ = ("door", "kind", "listener", "patience")

    def __init__(self, listener: Listener, patience: Patience, door: Door) -> None:
        self.follow(listener, patience, door)

    def follow(self, listener: Listener, patience: Patience, door: Door) -> None:
        """Work for ``listener`` from now on."""
        self.listener, self.patience, self.door = listener, patience, door
        self.kind: type[Session] = AskingSession if listener.asks else Session
        if listener.far_side is not None:
            self.kind = ArrivingSession

    def room(self) -> int:
        """As `accept.Gate` has it."""
        return self.door.room()

    def pause(self) -> float:
        """As `accept.Gate` has it."""
        return self.door.pause()

    def held(self) -> None:
        """As `accept.Gate` has it."""
        self.door.held()
