"""Sessions that come back to the listener that accepted them, whatever rewrites their addresses on the way.

Such a loop opens session after session. Each has the first bytes of the one before, and none is answered. That alone
is no proof: many clients may ask a slow server the same. So where `FEW` sessions that are alike wait for an answer,
one of them is tested. It sends only a part of its first bytes, of random length, and the rest a moment later. A
session that arrives with exactly that part is the test's own dial come back: it is refused, and so is what comes again
with these bytes for `PROVEN_FOR` seconds, since a refused loop may be dialled anew at each of its levels.

A TLS hello holds 32 random bytes, so more than `_MOST_HELLOS` unanswered sessions with the same one are a loop anyway.

Sessions that are dialled before their client has said anything are alike where listener and destination are. They are
tested with what the client says later. Where nothing is ever said there is nothing to test: these are limited in
number, and refused where they come from an address that such a dial has. Where only the port is the same, as most
masquerading leaves it, that has to be so `_DEPTH` times in a row.

All of it is kept for open sessions only: some 300 bytes each.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from math import ceil
from typing import NamedTuple, Protocol

FEW = 16  # sessions alike without an answer: the next one is tested
MOST_SILENT = 1000  # sessions of a listener to a destination in which nothing has been said
PAUSE = 0.01  # seconds between the two parts of a test's first bytes
PROVEN_FOR = 10.0  # seconds
_MOST_TESTS, _MOST_PROVEN = 32, 256
_HEAD = 64  # first bytes by which sessions are alike
_START = 256  # of first bytes that are remembered as those of a loop
_CERTAIN = 8  # bytes of a part that are enough where something stands in front of them
_MOST_HELLOS = 64  # unanswered sessions with one random (RFC 8446, 4.1.2), whatever tests say
_DEPTH = 4  # dials in a row whose source ports come back: more than chance
_PROXY = (b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n")  # a header that each level may put in front


class Found(Exception):
    """A loop, or what cannot be told from one; the message is for the operator."""


class Counted(Hashable, Protocol):
    """A session, as far as it matters here."""

    @property
    def is_unanswered(self) -> bool:
        """Whether its upstream has not said anything."""
        ...

    @property
    def is_silent(self) -> bool:
        """Whether neither side has."""
        ...


class _Group:
    __slots__ = ("members", "test_at")

    def __init__(self) -> None:
        self.members: dict[Counted, None] = {}  # in the order of their coming
        self.test_at = FEW


class _Test(NamedTuple):
    who: Counted
    listener: str
    destination: Hashable
    part: bytes
    may_follow: bool  # it is known also behind other bytes, as behind a PROXY header
    proves: Hashable


class Loops:
    """The open sessions of one worker. ``draw`` gives a random number between two, both included."""

    __slots__ = ("_addresses", "_depths", "_draw", "_groups", "_own", "_proven", "_tests", "_where")

    def __init__(self, draw: Callable[[int, int], int]) -> None:
        self._draw = draw
        self._groups: dict[Hashable, _Group] = {}
        self._where: dict[Counted, tuple[Hashable, ...]] = {}
        self._tests: list[_Test] = []
        self._proven: dict[Hashable, float] = {}  # until when
        self._own: dict[
            tuple[Hashable, int], tuple[str, int]
        ] = {}  # local addresses of silent dials, and how deep
        self._addresses: dict[Counted, tuple[Hashable, int]] = {}
        self._depths: dict[Counted, int] = {}  # of those that are not connected yet

    @property
    def alert(self) -> bool:
        """Whether there is anything that `check` could find."""
        return bool(self._tests or self._proven)

    def enter(self, who: Counted, listener: str, destination: Hashable, early: bytes, now: float) -> int:
        """Count a session that is about to be dialled with two first bytes or more; how many of them it says first.

        Raises `Found`. ``now`` is monotonic seconds.
        """
        if self.alert:
            self.check(listener, destination, early, now)
        key = listener, b"PROXY" if early.startswith(_PROXY) else early[:_HEAD]
        self._where[who] = (key,)
        group = self._join(who, key)
        is_hello = early[:1] == b"\x16" and early[5:6] == b"\x01"
        if is_hello and len(group.members) > _MOST_HELLOS and _has_waiting(group, _MOST_HELLOS):
            raise Found(
                f"{_MOST_HELLOS} open sessions have the same TLS hello, whose random no client sends twice"
            )
        return self.test(who, listener, destination, early) if _is_due(group) else len(early)

    def enter_silent(
        self,
        who: Counted,
        listener: str,
        destination: Hashable,
        source: tuple[str, int] | None,
        most: int | None,
    ) -> bool:
        """Count a session that is about to be dialled without first bytes; whether it is to be tested. Raises `Found`.

        ``most``: how many of them may be silent, None: any number, and none is taken for a loop.
        """
        key = listener, destination, "silent"
        if source is not None and most is not None and self._own:
            # One equal port is chance: a client on this machine may have the port of a dial to another address.
            _, depth = self._own.get((key, source[1]), ("", 0))
            if depth >= _DEPTH:
                raise Found("it is a dial of this proxy that came back")
            self._depths[who] = depth + 1
        silent = self._groups.get(key)
        if silent is not None and most is not None and len(silent.members) >= most:
            for member in [member for member in silent.members if not member.is_silent]:
                del silent.members[member]
            if len(silent.members) >= most:
                why = f"{most} sessions of listener {listener} to {destination} are open in which nothing was said"
                raise Found(f"{why}; limits.per_destination of the listener allows more")
        other = listener, destination, "unanswered"
        self._where[who] = key, other
        self._join(who, key)
        return _is_due(self._join(who, other))

    def test(self, who: Counted, listener: str, destination: Hashable, first: bytes) -> int:
        """Test a session by ``first``, two bytes or more: how many of them go first, before the others.

        All, where it cannot be tested.
        """
        least = max((len(first) + 1) // 2, _header(first) + 1)  # a PROXY header is to come in one piece
        if least >= len(first):
            return len(first)
        part = self._draw(least, len(first) - 1)
        del self._tests[: len(self._tests) + 1 - _MOST_TESTS]
        # The end of bytes that repeat themselves is like their beginning: any client's would be taken for the part.
        may_follow = part >= _CERTAIN and not first.endswith(first[:part])
        self._tests.append(
            _Test(who, listener, destination, first[:part], may_follow, _proof(listener, destination, first))
        )
        return part

    def dialled(self, who: Counted, address: Callable[[], tuple[str, int]]) -> None:
        """A silent session is connected from ``address``, which is asked for where there are many."""
        key: Hashable = self._where.get(who, (None,))[0]
        group = self._groups.get(key)
        if group is None or len(group.members) < FEW:
            return
        host, port = address()
        own: tuple[Hashable, int] = key, port
        self._addresses[who] = own
        self._own[own] = host, self._depths.pop(who, 0)

    def leave(self, who: Counted) -> None:
        """The session is over; nothing happens where it was not counted."""
        for key in self._where.pop(who, ()):
            group = self._groups.get(key)
            if group is not None:
                group.members.pop(who, None)
                if not group.members:
                    del self._groups[key]
        if self._tests:
            self._tests = [test for test in self._tests if test.who is not who]
        self._depths.pop(who, None)
        if self._addresses and (own := self._addresses.pop(who, None)) is not None:
            self._own.pop(own, None)

    def check(self, listener: str, destination: Hashable, heard: bytes, now: float) -> None:
        """Whether what a session has said so far is exactly what a test said, or a loop just now; raises `Found`.

        Nothing: its client has ended. So ends what was dialled twice for a session that came back.
        """
        for test in self._tests:
            if test.listener != listener:
                continue
            # A longer read of bytes that repeat themselves begins with the part as well: that is a client.
            behind = test.may_follow and heard.endswith(test.part) and not heard.startswith(test.part)
            if behind or heard == test.part:
                self._proven[test.proves] = now + PROVEN_FOR
                self._proven[_proof(listener, test.destination, b"")] = now + PROVEN_FOR
                raise Found("it is a dial of this proxy that came back by way of others")
        for proof, until in list(self._proven.items()):
            if until > now and len(self._proven) <= _MOST_PROVEN:
                break  # they stand in the order of their finding
            del self._proven[proof]
        if _proof(listener, destination, heard) in self._proven:
            raise Found("what it said, or did not say, is what came back to this proxy a moment ago")

    def _join(self, who: Counted, key: Hashable) -> _Group:
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group()
        group.members[who] = None
        return group


def _proof(listener: str, destination: Hashable, first: bytes) -> Hashable:
    return listener, destination, len(first), first[:_START]


def _header(first: bytes) -> int:
    """Bytes of the PROXY header that ``first`` begins with."""
    if first.startswith(_PROXY[0]):
        return first.find(b"\n") + 1
    return 16 + int.from_bytes(first[14:16], "big") if first.startswith(_PROXY[1]) else 0


def _is_due(group: _Group) -> bool:
    """Whether so many wait for an answer that the last one is to be tested."""
    if len(group.members) <= group.test_at or not _has_waiting(group, group.test_at):
        return False
    group.test_at = max(group.test_at + FEW // 2, ceil(group.test_at * 1.25))
    return True


def _has_waiting(group: _Group, number: int) -> bool:
    """Whether more than so many wait for an answer; those that do not are taken out on the way."""
    for member in list(group.members):
        if not member.is_unanswered:
            del group.members[member]
        else:
            number -= 1
            if number < 0:
                return True
    return False
