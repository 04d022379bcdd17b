"""Which openings of tunnels have come already: a table in memory that several processes may share.

Time is cut into slices, and each slice has an area of its own, found by the time that an opening was sealed at, so all
attempts of one session fall into the same. An area is an open hash table (linear probing, nothing is ever deleted), and
is cleared as a whole when a new slice needs it, which is long after the last opening of the old one has become too old
to be believed. A full area refuses what is new: nothing is forgotten early.

Whoever shares the memory must hold a lock around `Nonces.claim`. All integers are in network order.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from proxy.core.outcomes import Reason
from proxy.core.tunnel import Rejected

AREAS = 8
SLICE = 30  # seconds
LONGEST_WINDOW = 90.0  # (AREAS - 2) * SLICE / 2: an area is cleared when its openings are older than that
SLOTS = 65536  # of an area
OWNER = 14  # bytes for whoever has the session

_MAGIC = b"tfononc2"
_HEADER = Struct("!8sIIdQd")  # magic, areas, slots, since when, which file, closed when (seconds since 1970)
_AREA = Struct("!QQ")  # slice, how many slots are taken
_SLOT = 32  # nonce (16), taken (1), attempt (1), owner (14)


class Claim(NamedTuple):
    """``fresh``: the opening starts a session. Else it goes on with one that ``owner`` has."""

    fresh: bool
    owner: bytes = b""


class Nonces:
    """The table. ``memory`` has `size` bytes, and was prepared once by `prepare`."""

    __slots__ = ("_memory", "_slots", "since")

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        header: tuple[bytes, int, int, float, int, float] = _HEADER.unpack_from(memory)
        self._slots, self.since = header[2:4]

    @staticmethod
    def size(slots: int = SLOTS) -> int:
        """Bytes of a table."""
        return _HEADER.size + AREAS * (_AREA.size + slots * _SLOT)

    @staticmethod
    def fits(memory: memoryview, slots: int = SLOTS) -> bool:
        """Whether this is a table of ours."""
        if len(memory) != Nonces.size(slots):
            return False
        magic, areas, found, *_ = _HEADER.unpack_from(memory)
        return (magic, areas, found) == (_MAGIC, AREAS, slots)

    @staticmethod
    def prepare(memory: memoryview, now: float, slots: int = SLOTS) -> None:
        """Make an empty table of zeros. What was sealed before ``now`` is refused: it may have been heard already."""
        for number in range(AREAS):
            _AREA.pack_into(memory, _HEADER.size + number * _AREA.size, 0, 0)
        _HEADER.pack_into(memory, 0, _MAGIC, AREAS, slots, 0.0, 0, 0.0)
        Nonces.renew(memory, now)

    @staticmethod
    def renew(memory: memoryview, now: float) -> None:
        """Refuse what was sealed before ``now``: some of it may have been heard and is not in here."""
        magic, areas, slots, _, *rest = _HEADER.unpack_from(memory)
        _HEADER.pack_into(memory, 0, magic, areas, slots, int(now * 1000) / 1000, *rest)  # as openings say it

    @staticmethod
    def stamp(memory: memoryview) -> tuple[int, float]:
        """Which file it was last open in, and when it was closed; 0.0: it was not."""
        stamp: tuple[int, float] = _HEADER.unpack_from(memory)[4:]
        return stamp

    @staticmethod
    def set_stamp(memory: memoryview, file: int, closed: float) -> None:
        """What `stamp` is to say."""
        _HEADER.pack_into(memory, 0, *_HEADER.unpack_from(memory)[:4], file, closed)

    def claim(self, nonce: bytes, sealed: float, attempt: int, owner: bytes) -> Claim:
        """Take in an opening that has been verified; raises `Rejected` where it has come before, or none fits."""
        if sealed < self.since:
            raise Rejected(Reason.OLD_CLOCK, "it was sealed before this proxy began to remember")
        at = self._area(int(sealed // SLICE))
        header = _HEADER.size + at * _AREA.size
        slot, known = self._find(at, nonce)
        memory = self._memory
        if known:
            if attempt <= memory[slot + 17]:
                raise Rejected(Reason.REPLAYED, f"attempt {attempt} has come before")
            memory[slot + 17] = attempt
            return Claim(False, bytes(memory[slot + 18 : slot + _SLOT]).rstrip(b"\0"))
        number, taken = _AREA.unpack_from(memory, header)
        if taken >= self._slots * 3 // 4:
            raise Rejected(
                Reason.NONCES_FULL, f"{taken} sessions within {SLICE} seconds are all that can be remembered"
            )
        memory[slot : slot + _SLOT] = nonce + bytes([1, attempt]) + owner.ljust(OWNER, b"\0")
        _AREA.pack_into(memory, header, number, taken + 1)
        return Claim(True)

    def _area(self, number: int) -> int:
        """The area of a slice, cleared if it was another's."""
        at = number % AREAS
        header = _HEADER.size + at * _AREA.size
        found, _ = _AREA.unpack_from(self._memory, header)
        if found > number:
            raise Rejected(Reason.OLD_CLOCK, "the clock has gone back further than is remembered")
        if found < number:
            start = self._start(at)
            self._memory[start : start + self._slots * _SLOT] = bytes(self._slots * _SLOT)
            _AREA.pack_into(self._memory, header, number, 0)
        return at

    def _find(self, at: int, nonce: bytes) -> tuple[int, bool]:
        """The slot that holds the nonce, or the free one where it belongs."""
        start, memory = self._start(at), self._memory
        slot = int.from_bytes(nonce[:8], "big") % self._slots
        while True:  # a quarter of the slots is always free
            place = start + slot * _SLOT
            if not memory[place + 16]:
                return place, False
            if bytes(memory[place : place + 16]) == nonce:
                return place, True
            slot = (slot + 1) % self._slots

    def _start(self, at: int) -> int:
        return _HEADER.size + AREAS * _AREA.size + at * self._slots * _SLOT
