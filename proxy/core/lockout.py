"""Wrong passwords, and how long their sender has to wait before the next one is looked at.

Who guesses gets slower and slower, and cannot make up for it by guessing on many connections at once: each look has its
turn. The count is kept for a client and a user's name, so that one program with an old password does not lock out
another on the same machine, and for a bounded number of them: whoever tries name after name shares one count.

A password that was wrong is remembered by its mark: the same one again is no new guess, and takes no second look. One
that was right from this client has no turn to wait for, however many others guess at its address, until `_MOST_BESIDE`
have: else it could be guessed at full speed. Memory: `MOST_CLIENTS` times some 2 KB.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

FIRST_WAIT = 0.25  # seconds, and twice as long each time
MOST_CLIENTS = 4096
_MOST_NAMES = 8  # of a client
_MOST_WRONG = 4  # passwords that are remembered of a name
_MOST_BESIDE = 100  # guesses for which a password that was right before has no turn to wait for
_ANY_OTHER = b""


@dataclass(frozen=True, slots=True)
class Login:
    """How guessing is slowed down; seconds."""

    attempts: int = 3  # different wrong passwords for which nobody has to wait
    longest_wait: float = 30.0
    window: float = 300.0  # without another one, until all is forgotten


class _Count:
    __slots__ = ("failures", "last", "next_turn", "wrong")

    def __init__(self) -> None:
        self.failures = 0
        self.last = 0.0
        self.next_turn = 0.0
        self.wrong: list[bytes] = []


class Lockout:
    """What is remembered of passwords; ``now`` is monotonic seconds, ``key`` is secret random bytes."""

    __slots__ = ("_clients", "_key", "_most", "_right", "rules")

    def __init__(self, rules: Login | None = None, key: bytes = b"", most: int = MOST_CLIENTS) -> None:
        self.rules = rules or Login()
        self._key = key
        self._clients: dict[bytes, dict[bytes, _Count]] = {}
        self._right: dict[tuple[bytes, bytes], bytes] = {}
        self._most = most

    def mark(self, users: int, user: str, password: str) -> bytes:
        """What is remembered in place of a password. ``users`` tells sets of users apart: it differs after a change."""
        text = f"{users}\0{user}\0{password}".encode(errors="surrogateescape")
        return hashlib.blake2b(text, key=self._key, digest_size=16).digest()

    def was_wrong(self, client: bytes, user: str, mark: bytes, now: float) -> bool:
        """Whether this very password was wrong from this client a while ago."""
        count = self._find(client, user)
        return count is not None and now - count.last < self.rules.window and mark in count.wrong

    def was_right(self, client: bytes, user: str, mark: bytes) -> bool:
        """Whether it was right from this client before, so that it may be looked at without a turn."""
        if self._right.get((client, _short(user))) != mark:
            return False
        count = self._find(client, user)
        return count is None or count.failures <= _MOST_BESIDE

    def turn(self, client: bytes, user: str, now: float, patience: float) -> float | None:
        """Seconds until this password may be looked at; None: that would be more than ``patience``, so not at all."""
        count = self._find(client, user)
        if count is None:
            return 0.0
        if now - count.last >= self.rules.window:
            count.failures = 0
        pause = max(count.next_turn - now, 0.0)
        if pause > patience:
            return None
        count.next_turn = now + pause + self._wait(count)
        return pause

    def failed(self, client: bytes, user: str, now: float, mark: bytes = b"") -> None:
        """It was wrong."""
        names = self._clients.pop(client, None)
        if names is None:
            names = {}
            if len(self._clients) >= self._most:
                del self._clients[next(iter(self._clients))]
        self._clients[client] = names  # the last to fail is the last to be forgotten
        name = _short(user)
        if name not in names and len(names) >= _MOST_NAMES:
            name = _ANY_OTHER
        count = names.setdefault(name, _Count())
        if now - count.last >= self.rules.window:
            count.failures = 0
            count.wrong.clear()
        count.failures += 1
        count.last = now
        if mark:
            count.wrong = [*count.wrong[1 - _MOST_WRONG :], mark]
        count.next_turn = max(count.next_turn, now + self._wait(count))

    def succeeded(self, client: bytes, user: str, mark: bytes) -> None:
        """It was right: what was wrong before is forgiven, but for passwords that are wrong still."""
        key = client, _short(user)
        self._right.pop(key, None)
        if len(self._right) >= self._most:
            del self._right[next(iter(self._right))]
        self._right[key] = mark
        count = self._find(client, user)
        if count is not None and count.failures <= _MOST_BESIDE:
            count.failures, count.next_turn = 0, 0.0

    def failures(self, client: bytes) -> int:
        """How many wrong ones are remembered of a client."""
        return sum(count.failures for count in self._clients.get(client, {}).values())

    def __len__(self) -> int:
        return sum(len(names) for names in self._clients.values())

    def _wait(self, count: _Count) -> float:
        """Seconds between two looks."""
        over = count.failures - self.rules.attempts
        return 0.0 if over < 0 else min(FIRST_WAIT * 2.0 ** min(over, 30), self.rules.longest_wait)

    def _find(self, client: bytes, user: str) -> _Count | None:
        names = self._clients.get(client)
        if names is None:
            return None
        return names.get(_short(user)) or (names.get(_ANY_OTHER) if len(names) >= _MOST_NAMES else None)


def _short(user: str) -> bytes:
    return hashlib.blake2b(user.encode(errors="surrogateescape"), digest_size=12).digest()
