"""What the supervisor tells a worker, and what a worker reports.

Reports are validated, as they come from a process that talks to strangers. A snapshot is pickled: it goes one way
only, from the supervisor to a process that it has started itself.
"""

from __future__ import annotations

import pickle
from typing import TypeAlias, TypeVar

from msgspec import DecodeError, Struct, msgpack

from proxy.admin.views import Session
from proxy.core.account import Account
from proxy.core.address import Endpoint
from proxy.core.availability import Outages
from proxy.core.snapshot import Snapshot
from proxy.core.standings import Remembered
from proxy.core.warming import Warming
from proxy.service.state import ListenerHabits

MOST_STANDINGS, MOST_ACCOUNTS, MOST_CHECKED = 1000, 500, 2000  # of one report; the rest goes with the next


class _Order(Struct, frozen=True, tag=True):
    pass


class Begin(_Order, frozen=True):
    """Who the worker is. With it come the memory of counters, of the tally, and of nonces."""

    number: int
    workers: int
    level: str
    form: str


class Take(_Order, frozen=True):
    """Listening sockets come with this; they are called by these numbers from now on."""

    numbers: list[int]


class Serve(_Order, frozen=True):
    """Serve this snapshot on these sockets, by listener, and no others; `Serving` is the answer.

    An empty snapshot is the one that is served already.
    """

    turn: int
    snapshot: bytes
    sockets: dict[str, list[int]]
    takes_syn_data: bool


class Learn(_Order, frozen=True):
    """What others have found out."""

    standings: list[Remembered] = []
    patience: list[ListenerHabits] = []


class WarmUp(_Order, frozen=True):
    """Fetch the cookies that are missing."""


class Level(_Order, frozen=True):
    """Log from this level on, in this form."""

    level: str
    form: str


class Leave(_Order, frozen=True):
    """Accept no more, but for those that wait already."""


class Drain(_Order, frozen=True):
    """The same, and end when the sessions have: by themselves or after ``limit`` seconds. `Drained` is the answer."""

    limit: float


Order: TypeAlias = Begin | Take | Serve | Learn | WarmUp | Level | Leave | Drain


class Serving(_Order, frozen=True):
    """It is done."""

    turn: int


class Left(_Order, frozen=True):
    """Nothing is accepted any more."""


class Drained(_Order, frozen=True):
    """No session is left; so many had to be ended."""

    cut_off: int


class Spent(Struct, frozen=True):
    """What sessions of one kind have added up to since the last report."""

    listener: str
    cluster: str
    endpoint: Endpoint | None
    account: Account


class Report(_Order, frozen=True):
    """What a worker has learned and done since its last report, and what is open now."""

    open: list[tuple[str, str, Endpoint | None, int]]  # listener, cluster, endpoint: sessions
    oldest: list[Session]
    recent: list[Session]
    standings: list[Remembered]
    patience: list[ListenerHabits]
    accounts: list[Spent]
    health: list[tuple[Endpoint, bool]]  # what checks say, of all that are checked
    spares: tuple[int, int, int]  # ready, taken, wasted
    tasks: int = 0  # as `views.Worker` has it
    warming: Warming | None = None  # how far its share of the warm-up has come
    outages: dict[str, Outages] = {}  # by cluster


Answer: TypeAlias = Serving | Left | Drained | Report

T = TypeVar("T")

_ENCODER = msgpack.Encoder()
_ORDERS: msgpack.Decoder[Order] = msgpack.Decoder(Order)
_ANSWERS: msgpack.Decoder[Answer] = msgpack.Decoder(Answer)


def encode(message: Order | Answer) -> bytes:
    """The body of a message."""
    return _ENCODER.encode(message)


def order(body: bytes) -> Order:
    """What the supervisor says. Raises `msgspec.DecodeError`."""
    return _read(_ORDERS, body)


def answer(body: bytes) -> Answer:
    """What a worker says. Raises `msgspec.DecodeError`."""
    return _read(_ANSWERS, body)


def _read(decoder: msgpack.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (UnicodeDecodeError, RecursionError) as error:  # text that is none; a list in a list in a list …
        raise DecodeError(str(error)) from None


def pack(snapshot: Snapshot) -> bytes:
    """A snapshot for `Serve`."""
    return pickle.dumps(snapshot, pickle.HIGHEST_PROTOCOL)


def unpack(raw: bytes) -> Snapshot:
    """And back."""
    found = pickle.loads(raw)  # noqa: S301  # from our own supervisor, over a socket that nobody else has
    assert isinstance(found, Snapshot)
    return found
