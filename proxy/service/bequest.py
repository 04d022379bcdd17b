"""What was counted goes on from program to program: an upgrade is no reason to forget what has been saved.

Counters are shared memory, so the successor adds up those of the program before it with its own, also while that one
still ends its sessions. Sums by endpoint are handed over once, as they stood then. Counters of programs that have
ended become one, in memory of this process's own: nothing is open for their sake.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

import msgspec
import trio

from proxy.core.account import Account
from proxy.core.address import Endpoint
from proxy.core.ledger import Ledger
from proxy.service.upgrade import NOTHING, Passed
from proxy.telemetry.region import LAYOUT, SIZE, Region
from proxy.telemetry.sums import fold

_VARIABLE = "TFO_PROXY_COUNTED"
_LARGEST = 64 * 1024 * 1024  # bytes of the message; ten thousand endpoints are some 6 MiB
_ENDED = ""  # in place of a program's name
_LOOK = 1.0  # seconds between two looks at who has ended


class _Program(msgspec.Struct, frozen=True):
    name: str
    regions: list[int]  # descriptors


class _Sum(msgspec.Struct, frozen=True):
    listener: str
    cluster: str
    endpoint: Endpoint | None
    account: Account


class _Message(msgspec.Struct, frozen=True):
    layout: int
    since: float
    programs: list[_Program]
    sums: list[_Sum]


class Bequest:
    """What came before this program; mostly nothing."""

    def __init__(self, since: float, problem: str = "") -> None:
        self.since = since  # by a clock that all programs of one machine share
        self.problem = problem  # why counting began anew, where it should not have
        self._programs: list[tuple[str, list[Region]]] = []
        self._ended: list[Region] = []  # one at most
        self._sums: list[_Sum] = []

    @classmethod
    def read(cls, fd: int) -> Self:
        """As `passed_on` has told it. Raises OSError, ValueError."""
        message = msgspec.msgpack.decode(_read(fd), type=_Message)
        if message.layout != LAYOUT:
            raise ValueError("it counted otherwise")
        made = cls(message.since)
        made._programs = [(one.name, [_region(fd) for fd in one.regions]) for one in message.programs]
        made._sums = message.sums
        return made

    @property
    def regions(self) -> list[Region]:
        """The counters of earlier programs."""
        return [*self._ended, *(region for _, regions in self._programs for region in regions)]

    def add_to(self, ledger: Ledger) -> None:
        """The sums by endpoint; once."""
        for one in self._sums:
            ledger.merge((one.listener, one.cluster, one.endpoint), one.account)
        self._sums = []

    async def tidy_up(self) -> None:
        """Until the last program before this one has ended."""
        while self._programs and self.tidy():  # noqa: ASYNC110  # a stranger's end is no event of ours
            await trio.sleep(_LOOK)

    def tidy(self) -> bool:
        """Make one of the counters of programs that have ended; False where they do not fit."""
        running: list[tuple[str, list[Region]]] = []
        ended: list[Region] = []
        for name, regions in self._programs:  # asked once each: one that ends just now is not counted twice
            if _runs(name):
                running.append((name, regions))
            else:
                ended += regions
        if not ended:
            return True
        whole, several = Region(former=True), [*self._ended, *ended]
        if not fold(several, whole):
            whole.close()
            return False
        self._programs, self._ended = running, [whole]
        for region in several:
            region.close()
        return True

    @contextmanager
    def passed_on(self, regions: Sequence[Region], ledger: Ledger) -> Iterator[Passed]:
        """For a successor, while it is started: what came before, and what this program has counted."""
        with ExitStack() as undo:
            try:
                passed = self._message(regions, ledger, undo)
            except OSError:
                passed = NOTHING
            yield passed

    def _message(self, regions: Sequence[Region], ledger: Ledger, undo: ExitStack) -> Passed:
        self.tidy()
        programs = list(self._programs)
        if self._ended:
            programs.append((_ENDED, self._to_be_shared(self._ended, undo)))
        programs.append((_name(os.getpid()), [region for region in regions if region.fd >= 0]))
        told = [_Program(name, [region.fd for region in found]) for name, found in programs]
        sums = [_Sum(*key, account) for key, account in ledger.everything()]
        raw = msgspec.msgpack.encode(_Message(LAYOUT, self.since, told, sums))
        fd = os.memfd_create("tfo-proxy counted", os.MFD_CLOEXEC)
        undo.callback(os.close, fd)
        _write(fd, raw)
        return Passed({_VARIABLE: str(fd)}, [fd, *(one for program in told for one in program.regions)])

    def _to_be_shared(self, ended: list[Region], undo: ExitStack) -> list[Region]:
        shared = Region.create()
        undo.callback(shared.close)
        fold(ended, shared)  # it fits, as it is one's contents
        return [shared]


def inherited(environ: MutableMapping[str, str] = os.environ) -> Bequest:
    """What a predecessor has counted. To be asked once, within trio: the variable is taken away."""
    now, number = trio.current_time(), environ.pop(_VARIABLE, "")
    if not number:
        return Bequest(now)
    try:
        return Bequest.read(int(number))
    except (OSError, ValueError) as error:  # msgspec's are such
        return Bequest(now, f"what the program before has counted cannot be taken over: {error}")


def _region(fd: int) -> Region:
    os.set_inheritable(fd, False)
    if os.fstat(fd).st_size != SIZE:
        raise ValueError(f"descriptor {fd} holds no counters")
    return Region(fd, former=True)


def _read(fd: int) -> bytes:
    try:
        size = os.fstat(fd).st_size
        if size > _LARGEST:
            raise ValueError("it is too long")
        return os.pread(fd, size, 0)
    finally:
        with suppress(OSError):
            os.close(fd)


def _write(fd: int, raw: bytes) -> None:
    rest = memoryview(raw)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _name(pid: int) -> str:
    """A process: its number, and when it began (proc(5), field 22), as numbers come up again."""
    state, *rest = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    if state in "XZ":
        raise ProcessLookupError(f"{pid} has ended, though nobody has asked how")
    return f"{pid}.{rest[18]}"


def _runs(name: str) -> bool:
    with suppress(OSError, IndexError, ValueError):
        return name != _ENDED and _name(int(name.partition(".")[0])) == name
    return False
