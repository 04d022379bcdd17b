"""What one process has learned: standings, patience, the account; and how it outlives the process.

The state file is written now and then and at the end, in a thread, because a disk may be slow. Nothing that is wrong
with it is more than a line in the log.
"""

from __future__ import annotations

from time import time as wall_clock  # noqa: TID251  # sentences must survive a restart, which no other clock does

import trio

from proxy.core.ledger import Ledger
from proxy.core.patience import Patience
from proxy.core.standings import Standings
from proxy.service import state
from proxy.telemetry.events import Events

SAVE_EVERY = 60.0
MOST_PATIENCES = 4096  # the oldest are forgotten first


class Memory:
    """Shared by all sessions of a process. ``path``: the state file, or None to keep it in memory only."""

    def __init__(self, path: str | None, events: Events, standings: Standings | None = None) -> None:
        self.standings = Standings() if standings is None else standings
        self.ledger = Ledger()
        self._patience: dict[tuple[str, str], Patience] = {}
        self._recalled: dict[tuple[str, str], state.ListenerHabits] = {}
        self._path = path
        self._events = events
        self._complaint: str | None = None

    def patience(self, listener: str, cluster: str, ports: set[int]) -> Patience:
        """Who speaks first on this listener with this cluster; ``ports`` are where its endpoints listen."""
        key = listener, cluster
        patience = self._patience.get(key)
        if patience is None:
            if len(self._patience) >= MOST_PATIENCES:
                self._patience.pop(next(iter(self._patience)))
            patience = self._patience[key] = Patience(ports)
            recalled = self._recalled.get(key)
            if recalled is not None:
                patience.recall(recalled.habits)
        return patience

    def patiences(self) -> list[tuple[tuple[str, str], Patience]]:
        """All of them, by listener and cluster."""
        return list(self._patience.items())

    def load(self, now: float) -> None:
        """Recall what an earlier process has saved, if that makes sense."""
        if self._path is None:
            return
        learned = state.load(self._path)
        if isinstance(learned, state.Damaged):
            self._events.warn("state_not_read", why=learned.reason)
            return
        count = self.standings.recall(learned.standings, now, wall_clock())
        self._recalled = {(habits.listener, habits.cluster): habits for habits in learned.patience}
        self._events.say("state_read", path=self._path, endpoints=count)

    async def save_now_and_then(self) -> None:
        """Save every minute until cancelled."""
        while True:
            await trio.sleep(SAVE_EVERY)
            if self._path is None:
                continue
            learned = self._learned(trio.current_time())  # here, where nobody changes it meanwhile
            await trio.to_thread.run_sync(self._write, learned)

    def move(self, path: str | None) -> None:
        """Save there from now on."""
        if path != self._path:
            self._path, self._complaint = path, None

    def save(self, now: float) -> None:
        """Save; says so once when that fails, and again only when the reason changes."""
        self._write(self._learned(now))

    def _learned(self, now: float) -> state.Learned:
        habits = [
            state.ListenerHabits(listener, cluster, patience.habits())
            for (listener, cluster), patience in list(self._patience.items())
        ]
        return state.Learned(self.standings.remember(now, wall_clock()), habits)

    def _write(self, learned: state.Learned) -> None:
        if self._path is None:
            return
        complaint = state.save(self._path, learned)
        if complaint is not None and complaint != self._complaint:
            self._events.warn("state_not_saved", why=complaint)
        self._complaint = complaint
