"""Wrong passwords, and how long their sender has to wait before the next one is looked at.

Who guesses gets slower and slower, and cannot make up for it by guessing on many connections at once: each look has its
turn. The count is kept for a client and a user's name, so that one program with an old password does not lock out
another on the same machine, and for a bounded number of them: whoever tries name after name shares one count.
"""

from __future__ import annotations

FORGIVEN = 3  # typing errors
FIRST_WAIT = 0.25  # seconds, and twice as long each time
LONGEST_WAIT = 30.0
FORGOTTEN_AFTER = 300.0  # seconds without another one
MOST_CLIENTS = 4096
_MOST_NAMES = 8  # of a client
_ANY_OTHER = ""


class _Count:
    __slots__ = ("failures", "last", "next_turn")

    def __init__(self) -> None:
        self.failures = 0
        self.last = 0.0
        self.next_turn = 0.0

    @property
    def wait(self) -> float:
        """Seconds between two looks."""
        over = self.failures - FORGIVEN
        return 0.0 if over < 0 else min(FIRST_WAIT * 2.0 ** min(over, 30), LONGEST_WAIT)


class Lockout:
    """What is remembered of wrong passwords; ``now`` is monotonic seconds."""

    __slots__ = ("_clients", "_most")

    def __init__(self, most: int = MOST_CLIENTS) -> None:
        self._clients: dict[bytes, dict[str, _Count]] = {}
        self._most = most

    def turn(self, client: bytes, user: str, now: float, patience: float) -> float | None:
        """Seconds until this password may be looked at; None: that would be more than ``patience``, so not at all."""
        count = self._find(client, user)
        if count is None:
            return 0.0
        if now - count.last >= FORGOTTEN_AFTER:
            count.failures = 0
        pause = max(count.next_turn - now, 0.0)
        if pause > patience:
            return None
        count.next_turn = now + pause + count.wait
        return pause

    def failed(self, client: bytes, user: str, now: float) -> None:
        """It was wrong."""
        names = self._clients.pop(client, None)
        if names is None:
            names = {}
            if len(self._clients) >= self._most:
                del self._clients[next(iter(self._clients))]
        self._clients[client] = names  # the last to fail is the last to be forgotten
        if user not in names and len(names) >= _MOST_NAMES:
            user = _ANY_OTHER
        count = names.setdefault(user, _Count())
        if now - count.last >= FORGOTTEN_AFTER:
            count.failures = 0
        count.failures += 1
        count.last = now
        count.next_turn = max(count.next_turn, now + count.wait)

    def __len__(self) -> int:
        return sum(len(names) for names in self._clients.values())

    def _find(self, client: bytes, user: str) -> _Count | None:
        names = self._clients.get(client)
        if names is None:
            return None
        return names.get(user) or (names.get(_ANY_OTHER) if len(names) >= _MOST_NAMES else None)
