"""What the user of `top` wants to see, changed by keys: which list, in which order, which of it, from where on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from proxy.admin.views import Endpoint, Listener, Session
from proxy.top.words import ending, failed, opening

Row: TypeAlias = Endpoint | Session | Listener
Rank: TypeAlias = float | str

_PAGE = 10


class Section(StrEnum):
    """The lists there are."""

    ENDPOINTS = "endpoints"
    SESSIONS = "sessions"
    LISTENERS = "listeners"


class Order(NamedTuple):
    """One order of a list: its name, and what is compared; the largest comes first unless it is upwards."""

    name: str
    rank: Callable[[Row], Rank]
    upwards: bool = False


_TROUBLE = {
    "quarantined": 5,
    "data_doubted": 4,
    "option_doubted": 4,
    "probing": 3,
    "unsupported": 2,
    "learning": 1,
}
_ENDPOINT_GROUPS = {
    "all": frozenset[str](),
    "fast": frozenset({"confirmed"}),
    "learning": frozenset({"unknown", "learning", "probing"}),
    "plain": frozenset({"unsupported"}),
    "trouble": frozenset({"quarantined", "data_doubted", "option_doubted"}),
}


def _endpoint(rank: Callable[[Endpoint], Rank]) -> Callable[[Row], Rank]:
    return lambda row: rank(row) if isinstance(row, Endpoint) else 0


def _session(rank: Callable[[Session], Rank]) -> Callable[[Row], Rank]:
    return lambda row: rank(row) if isinstance(row, Session) else 0


def _listener(rank: Callable[[Listener], Rank]) -> Callable[[Row], Rank]:
    return lambda row: rank(row) if isinstance(row, Listener) else 0


ORDERS: dict[Section, tuple[Order, ...]] = {
    Section.ENDPOINTS: (
        Order("sessions", _endpoint(lambda one: one.tally.sessions)),
        Order("saved", _endpoint(lambda one: one.tally.seconds_saved - one.tally.seconds_lost)),
        Order("round trip", _endpoint(lambda one: one.rtt or 0.0)),
        Order("trouble", _endpoint(lambda one: _TROUBLE.get(one.standing, 0) + 9 * (one.healthy is False))),
        Order("name", _endpoint(lambda one: one.endpoint), upwards=True),
    ),
    Section.SESSIONS: (
        Order("time", _session(lambda one: one.began + one.duration)),
        Order("saved", _session(lambda one: one.saved - one.lost)),
        Order("bytes", _session(lambda one: one.up_bytes + one.down_bytes)),
        Order("duration", _session(lambda one: one.duration)),
    ),
    Section.LISTENERS: (
        Order("name", _listener(lambda one: one.name), upwards=True),
        Order("sessions", _listener(lambda one: one.tally.sessions)),
        Order("saved", _listener(lambda one: one.tally.seconds_saved)),
    ),
}
FILTERS: dict[Section, tuple[str, ...]] = {
    Section.ENDPOINTS: tuple(_ENDPOINT_GROUPS),
    Section.SESSIONS: ("all", "saved", "lost", "failed", "open"),
    Section.LISTENERS: ("all",),
}


@dataclass(slots=True)
class Choice:
    """What is chosen. Every key has its effect in `press`."""

    section: Section = Section.ENDPOINTS
    find: str = ""
    typing: bool = False  # letters go into `find`
    help: bool = False
    paused: bool = False
    quit: bool = False
    offset: int = 0  # rows scrolled away
    _orders: dict[Section, int] = field(default_factory=dict[Section, int])
    _filters: dict[Section, int] = field(default_factory=dict[Section, int])
    _turned: set[Section] = field(default_factory=set[Section])

    @property
    def order(self) -> Order:
        """The order of the list that is shown."""
        return ORDERS[self.section][self._orders.get(self.section, 0)]

    @property
    def turned(self) -> bool:
        """Whether it is the other way round."""
        return self.section in self._turned

    @property
    def filter(self) -> str:
        """Which of the list is shown."""
        return FILTERS[self.section][self._filters.get(self.section, 0)]

    def rows(self, everything: Iterable[Row]) -> list[Row]:
        """Of a list what is wanted, in order."""
        wanted = [row for row in everything if self._wants(row)]
        order = self.order
        return sorted(wanted, key=order.rank, reverse=order.upwards is self.turned)

    def press(self, key: str) -> None:
        """A key: a character, or ``up``, ``down``, ``page up``, ``page down``, ``home``, ``end``, ``escape``, …"""
        if self.typing:
            self._type(key)
            return
        if self.help and key != "q":
            self.help = False
            return
        act = _KEYS.get(key)
        if act is not None:
            act(self)

    def show(self, section: Section) -> None:
        """Another list, from its beginning."""
        self.section, self.offset = section, 0

    def _type(self, key: str) -> None:
        if key == "enter":
            self.typing = False
        elif key == "escape":
            self.typing, self.find = False, ""
        elif key == "backspace":
            self.find = self.find[:-1]
        elif len(key) == 1 and key.isprintable():
            self.find += key
        self.offset = 0

    def _wants(self, row: Row) -> bool:
        words = self.find.lower().split()
        return _kept(row, self.filter) and (not words or all(word in _text(row) for word in words))

    def sort(self, step: int) -> None:
        """The next order, or the one before."""
        self._orders[self.section] = (self._orders.get(self.section, 0) + step) % len(ORDERS[self.section])
        self.offset = 0

    def turn(self) -> None:
        """The other way round."""
        self._turned ^= {self.section}

    def sieve(self) -> None:
        """The next filter."""
        self._filters[self.section] = (self._filters.get(self.section, 0) + 1) % len(FILTERS[self.section])
        self.offset = 0

    def scroll(self, rows: int) -> None:
        """So many rows down; the picture knows where the end is."""
        self.offset = max(0, self.offset + rows)

    def next_section(self, step: int) -> None:
        """The list beside this one."""
        sections = list(Section)
        self.show(sections[(sections.index(self.section) + step) % len(sections)])

    def set(self, name: str, *, value: bool) -> None:
        """Switch ``quit``, ``help``, ``paused`` or ``typing``."""
        setattr(self, name, value)

    def give_up(self) -> None:
        """Find everything again."""
        self.find, self.offset = "", 0


_KEYS: dict[str, Callable[[Choice], None]] = {
    "q": lambda choice: choice.set("quit", value=True),
    "?": lambda choice: choice.set("help", value=True),
    "h": lambda choice: choice.set("help", value=True),
    "p": lambda choice: choice.set("paused", value=not choice.paused),
    " ": lambda choice: choice.set("paused", value=not choice.paused),
    "/": lambda choice: choice.set("typing", value=True),
    "escape": Choice.give_up,
    "s": lambda choice: choice.sort(1),
    "S": lambda choice: choice.sort(-1),
    "r": Choice.turn,
    "f": Choice.sieve,
    "tab": lambda choice: choice.next_section(1),
    "back tab": lambda choice: choice.next_section(-1),
    "right": lambda choice: choice.next_section(1),
    "left": lambda choice: choice.next_section(-1),
    "1": lambda choice: choice.show(Section.ENDPOINTS),
    "2": lambda choice: choice.show(Section.SESSIONS),
    "3": lambda choice: choice.show(Section.LISTENERS),
    "down": lambda choice: choice.scroll(1),
    "j": lambda choice: choice.scroll(1),
    "up": lambda choice: choice.scroll(-1),
    "k": lambda choice: choice.scroll(-1),
    "page down": lambda choice: choice.scroll(_PAGE),
    "page up": lambda choice: choice.scroll(-_PAGE),
    "home": lambda choice: choice.scroll(-choice.offset),
    "end": lambda choice: choice.scroll(1_000_000),
}


def _kept(row: Row, name: str) -> bool:
    if name == "all" or isinstance(row, Listener):
        return True
    if isinstance(row, Endpoint):
        return row.standing in _ENDPOINT_GROUPS[name] or (name == "trouble" and row.healthy is False)
    return {
        "saved": row.saved > 0,
        "lost": row.lost > 0,
        "failed": failed(row),
        "open": row.is_open,
    }[name]


def _text(row: Row) -> str:
    words: list[str]
    match row:
        case Endpoint():
            words = [row.endpoint, *row.clusters, row.standing, row.why]
        case Listener():
            words = [row.name, row.mode, row.to, *(place.bind for place in row.places)]
        case Session():
            words = [
                row.id, row.client, row.listener, row.cluster, row.endpoint or "", row.authority or "", row.user or "",
                row.protocol, row.detail, opening(row), ending(row),
            ]  # fmt: skip
    return " ".join(words).lower()
