"""The memory in which a worker counts, and how it is laid out.

Each worker has a `Region` of its own and is the only one to write there. A region describes itself: its directory says
which series begin at which slot, so that it outlives the worker, and a worker that replaces another takes over its
region and counts on: no counter ever goes backwards. A slot is eight bytes, aligned, an unsigned integer or a double:
a reader sees the value from before an addition or after it, nothing in between.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Self
from zlib import crc32

from proxy.core.account import FIRST_BYTE_BOUNDS
from proxy.core.evidence import Evidence

SIZE = 1 << 20  # bytes; only what is touched is really there
_DIRECTORY = 128 << 10  # of these, where the series are described
_USED_BYTES, _USED_SLOTS = 1, 2  # slots of the header
NOWHERE = 7  # a slot that nobody reads, for what there was no room for
_HEADER = 64
_ENTRY = struct.Struct("=HHI")  # length of the labels, kind, first slot
_MOST_SLOTS = (SIZE - _HEADER - _DIRECTORY) // 8

DURATION_BOUNDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)


class Block(IntEnum):
    """What a number of neighbouring slots is about; the labels that tell one such block from another."""

    LISTENER = 1  # listener
    WAY = 2  # listener, cluster
    ENDING = 3  # listener, cluster, ended by, during, reason
    REFUSED = 4  # listener, reason
    PROCESS = 5  # none: one block for each process


class OfListener(IntEnum):
    """The slots of a listener. ``OPEN`` is no counter: it is how many sessions there are now."""

    CONNECTIONS = 0
    OPEN = 1


class OfWay(IntEnum):
    """The slots of sessions between one listener and one cluster; histograms are their sum, then their buckets."""

    SESSIONS = 0
    UP_BYTES = 1
    DOWN_BYTES = 2
    ROUND_TRIPS_SAVED = 3
    SECONDS_SAVED = 4  # double
    SECONDS_LOST = 5  # double
    HEDGES = 6
    REDIALS = 7
    REPEATED_BYTES = 8
    DUPLICATES = 9
    ON_SPARES = 10
    DEAD_SPARES = 11
    FAILED = 12  # never reached a server
    WAITS = 13  # for first bytes, that were longer than nothing
    WAIT_SECONDS = 14  # double
    WAIT_TIMEOUTS = 15  # waits in which no byte came
    ROUND_TRIPS_SAVED_BY_SPARES = 16
    SECONDS_SAVED_BY_SPARES = 17  # double
    EVIDENCE = 18  # one for each `Evidence`
    DURATION = 18 + len(Evidence)
    FIRST_BYTE_FAST = DURATION + len(DURATION_BOUNDS) + 2
    FIRST_BYTE_PLAIN = FIRST_BYTE_FAST + len(FIRST_BYTE_BOUNDS) + 2
    FIRST_BYTE_SPARE = FIRST_BYTE_PLAIN + len(FIRST_BYTE_BOUNDS) + 2


class OfProcess(IntEnum):
    """The slots of a process. ``LONGEST_STALL`` is no counter: of several processes the longest counts."""

    LOG_LINES_LOST = 0
    LOOP_STALLS = 1
    STALLED_SECONDS = 2  # double
    LONGEST_STALL = 3  # double


SLOTS = {
    Block.LISTENER: 2,
    Block.WAY: OfWay.FIRST_BYTE_SPARE + len(FIRST_BYTE_BOUNDS) + 2,
    Block.ENDING: 1,
    Block.REFUSED: 1,
    Block.PROCESS: len(OfProcess),
}
DOUBLES = frozenset(
    {
        OfWay.SECONDS_SAVED,
        OfWay.SECONDS_LOST,
        OfWay.WAIT_SECONDS,
        OfWay.SECONDS_SAVED_BY_SPARES,
        OfWay.DURATION,
        OfWay.FIRST_BYTE_FAST,
        OfWay.FIRST_BYTE_PLAIN,
        OfWay.FIRST_BYTE_SPARE,
    }
)


DOUBLES_OF_PROCESS = frozenset({OfProcess.STALLED_SECONDS, OfProcess.LONGEST_STALL})


_KINDS = (Block, OfListener, OfWay, OfProcess)
LAYOUT = crc32(
    repr(
        (
            [(one.name, int(one)) for kind in _KINDS for one in kind],
            sorted((int(block), int(slots)) for block, slots in SLOTS.items()),
            sorted(map(int, DOUBLES)),
            sorted(map(int, DOUBLES_OF_PROCESS)),
            [str(evidence) for evidence in Evidence],
            (SIZE, _DIRECTORY, DURATION_BOUNDS, FIRST_BYTE_BOUNDS),
        )
    ).encode()
)
"""Another number where what stands in a slot may be something else: two programs that agree count alike."""


class Region:
    """The memory of one worker: a header, the directory, the slots."""

    def __init__(self, fd: int = -1, *, former: bool = False) -> None:
        """Of a memfd that `create` has made, in whatever process; without one, for this process alone.

        ``former``: of another program, so that what it says of open sessions is not about ours.
        """
        self.fd, self.former = fd, former
        self._memory = mmap.mmap(fd, SIZE)
        view = memoryview(self._memory)
        self.integers = view.cast("Q")
        self.doubles = view.cast("d")

    @classmethod
    def create(cls, name: str = "tfo-proxy counters") -> Self:
        """One that can be handed to another process: pass on ``fd``."""
        fd = os.memfd_create(name, os.MFD_CLOEXEC)
        os.ftruncate(fd, SIZE)
        return cls(fd)

    def add(self, block: Block, labels: Sequence[str]) -> int | None:
        """Make room for a block, and return its first slot; None where there is none left. For the owner only."""
        text = "\0".join(labels).encode(errors="replace")
        used, slots = self.integers[_USED_BYTES], self.integers[_USED_SLOTS]
        size = (_ENTRY.size + len(text) + 7) & ~7
        if used + size > _DIRECTORY or slots + SLOTS[block] > _MOST_SLOTS or len(text) > 0xFFFF:
            return None
        start = (_HEADER + _DIRECTORY) // 8 + slots
        offset = _HEADER + used
        self._memory[offset : offset + _ENTRY.size] = _ENTRY.pack(len(text), block, start)
        self._memory[offset + _ENTRY.size : offset + _ENTRY.size + len(text)] = text
        self.integers[_USED_SLOTS] = slots + SLOTS[block]
        self.integers[_USED_BYTES] = used + size  # last: from now on it can be seen
        return start

    def blocks(self) -> Iterator[tuple[Block, tuple[str, ...], int]]:
        """What there is: the block, its labels, its first slot."""
        offset, end = _HEADER, _HEADER + self.integers[_USED_BYTES]
        while offset < end:
            length, block, start = _ENTRY.unpack_from(self._memory, offset)
            text = self._memory[offset + _ENTRY.size : offset + _ENTRY.size + length]
            yield Block(block), tuple(text.decode().split("\0")), start
            offset += (_ENTRY.size + length + 7) & ~7

    def close(self) -> None:
        """Give the memory back."""
        self.integers.release()
        self.doubles.release()
        self._memory.close()
        if self.fd >= 0:
            os.close(self.fd)
