"""How many connections, and how fast: in all, for a listener, and for each client.

Everything is counted in one fixed piece of memory (`Tally`), which several processes may share: as many clients as
the Internet has take no more of it than one does. A client is its IPv4 address, or its IPv6 /64, since that is the
least that a customer gets (RFC 6177). Rates are kept as the time at which a bucket will be full again (the generic cell
rate algorithm of ITU-T I.371), so there is nothing to refill.

Counts and times stand in cells found by a keyed hash, in two rows; what two clients share in one row they do not share
in the other (a count-min sketch), and nobody without the key can aim at somebody else's cells. A mistake can only be
that somebody seems to have more connections than he has.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

KEY_SIZE = 16
_HEADER = 64
_CELLS = 1 << 16
_ROWS = 2
_RATE, _COUNT = 8, 4  # bytes of a cell
_LONGEST_PAUSE = 1.0
_PAUSE = 0.02  # until somebody may have left
_NEVER_MIND = 1e-6  # seconds; what adding up fractions leaves
_V6_PREFIX = 8  # bytes of a client's network

Cells: TypeAlias = tuple[int, ...]
"""Where something is counted, a cell for each row."""


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that is allowed; rates are connections a second, and a second's worth may come at once."""

    connections: int | None = None
    per_client: int | None = None
    accept_rate: float | None = None
    client_rate: float | None = None

    @property
    def any(self) -> bool:
        """Whether anything is capped at all."""
        return self != NO_CAPS

    @property
    def by_client(self) -> bool:
        """Whether it matters who the client is."""
        return self.per_client is not None or self.client_rate is not None


NO_CAPS = Caps()


class Hold(NamedTuple):
    """Nobody may come in just now."""

    pause: float  # seconds until it is worth asking again
    why: str


class Ticket:
    """One connection that was let in, and where it is counted."""

    __slots__ = ("cells",)

    def __init__(self) -> None:
        self.cells: list[Cells] = []


def size(workers: int) -> int:
    """Bytes that a `Tally` of so many workers takes; untouched pages of them cost nothing."""
    return _HEADER + _ROWS * _CELLS * (_RATE + workers * _COUNT)


def prepare(region: memoryview, key: bytes) -> None:
    """Make ``region`` (zeros, `size` bytes) ready for its first `Tally`; ``key`` is secret, `KEY_SIZE` random bytes."""
    region[:KEY_SIZE] = key


def client_of(host: str) -> bytes:
    """Who ``host`` (numeric) is counted as; raises ValueError."""
    if ":" not in host:
        return host.encode()
    address = ipaddress.IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped).encode()
    return address.packed[:_V6_PREFIX]


class Tally:
    """What is counted, for worker ``me`` of ``workers``, who share ``region``; what ``me`` had counted is forgotten.

    Each worker writes its own counts and reads all. Times are everybody's: where two write at once one is lost, and one
    connection too many comes in.
    """

    __slots__ = ("_all", "_key", "_mine", "_times")

    def __init__(self, region: memoryview, workers: int = 1, me: int = 0, *, used: bool = True) -> None:
        """``used``: another one may have counted here before, for whom nobody will count down any more."""
        self._key = bytes(region[:KEY_SIZE])
        start = _HEADER
        self._times = region[start : start + _ROWS * _CELLS * _RATE].cast("d")
        start += _ROWS * _CELLS * _RATE
        row = _ROWS * _CELLS * _COUNT
        self._all = [region[start + n * row : start + (n + 1) * row].cast("I") for n in range(workers)]
        self._mine = self._all[me]
        if used:
            region[start + me * row : start + (me + 1) * row] = bytes(row)

    def cells(self, scope: str, client: bytes = b"") -> Cells:
        """Where ``client`` is counted for ``scope``, a listener's name or nothing."""
        digest = hashlib.blake2b(scope.encode() + b"\0" + client, key=self._key, digest_size=4).digest()
        return (int.from_bytes(digest[:2], "big"), _CELLS + int.from_bytes(digest[2:], "big"))

    def count(self, cells: Cells) -> int:
        """How many are counted there, by all workers."""
        return min([sum([counts[cell] for counts in self._all]) for cell in cells])

    def add(self, cells: Cells) -> None:
        """Count one more."""
        for cell in cells:
            self._mine[cell] += 1

    def remove(self, cells: Cells) -> None:
        """And one less."""
        for cell in cells:
            if self._mine[cell]:
                self._mine[cell] -= 1

    def wait(self, cells: Cells, rate: float, now: float) -> float:
        """Seconds until one more may pass at ``rate``; 0: now. ``now`` is monotonic, and the same for all workers."""
        burst = max(rate, 1.0)
        full_at = min([self._times[cell] for cell in cells])
        pause = full_at - now - (burst - 1.0) / rate
        return pause if pause > _NEVER_MIND else 0.0

    def take(self, cells: Cells, rate: float, now: float) -> None:
        """One more passes."""
        full_at = max(min([self._times[cell] for cell in cells]), now) + 1.0 / rate
        for cell in cells:
            self._times[cell] = max(self._times[cell], full_at)


class Gate:
    """One listener's way in. ``whole`` caps all listeners together, and may be changed."""

    __slots__ = ("_caps", "_name", "_scopes", "_tally", "_whole")

    def __init__(self, name: str, caps: Caps, whole: Caps, tally: Tally) -> None:
        self._name = name
        self._caps = caps
        self._tally = tally
        self.whole = whole

    @property
    def whole(self) -> Caps:
        """What caps all listeners together."""
        return self._whole

    @whole.setter
    def whole(self, caps: Caps) -> None:
        self._whole = caps
        scopes = (self._name, self._caps), ("", caps)
        self._scopes = tuple((name, self._tally.cells(name), caps) for name, caps in scopes if caps.any)

    @property
    def limited(self) -> bool:
        """Whether there is anything to be counted."""
        return bool(self._scopes)

    @property
    def by_client(self) -> bool:
        """Whether it matters who the client is."""
        return self._caps.by_client or self.whole.by_client

    def hold(self, now: float) -> Hold | None:
        """Why the next connection has to wait; None: it has not."""
        tally = self._tally
        for name, cells, caps in self._scopes:
            if caps.connections is not None and tally.count(cells) >= caps.connections:
                return Hold(_PAUSE, f"limits.connections {caps.connections}{_of(name)}")
            if caps.accept_rate is not None:
                pause = tally.wait(cells, caps.accept_rate, now)
                if pause > 0.0:
                    why = f"limits.accept_rate {caps.accept_rate:g}/s{_of(name)}"
                    return Hold(min(pause, _LONGEST_PAUSE), why)
        return None

    def enter(self, now: float) -> Ticket:
        """Count one connection, whoever it is of."""
        ticket = Ticket()
        for _, cells, caps in self._scopes:
            if caps.accept_rate is not None:
                self._tally.take(cells, caps.accept_rate, now)
            if caps.connections is not None:
                self._count(ticket, cells)
        return ticket

    def greet(self, ticket: Ticket, host: str, now: float) -> str | None:
        """Count it for its client, too; or why this one may not come in (then it is for the caller to `leave`)."""
        client, tally = client_of(host), self._tally
        taken: list[tuple[Cells, float]] = []
        for name, _, caps in self._scopes:
            if not caps.by_client:
                continue
            cells = tally.cells(name, client)
            if caps.per_client is not None:
                if tally.count(cells) >= caps.per_client:
                    return f"limits.per_client {caps.per_client}{_of(name)}"
                self._count(ticket, cells)
            if caps.client_rate is not None:
                if tally.wait(cells, caps.client_rate, now) > 0.0:
                    return f"limits.client_rate {caps.client_rate:g}/s{_of(name)}"
                taken.append((cells, caps.client_rate))
        for cells, rate in taken:
            tally.take(cells, rate, now)
        return None

    def leave(self, ticket: Ticket) -> None:
        """The connection is over."""
        for cells in ticket.cells:
            self._tally.remove(cells)
        ticket.cells.clear()

    def _count(self, ticket: Ticket, cells: Cells) -> None:
        self._tally.add(cells)
        ticket.cells.append(cells)


def _of(name: str) -> str:
    return f" of listener {name}" if name else ""
