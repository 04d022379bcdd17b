"""The screen of `top`, drawn with rich: from what was seen and what is chosen to lines of text."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from proxy.admin.views import Minute, Status
from proxy.top import lists
from proxy.top.choice import FILTERS, Choice, Row, Section
from proxy.top.seen import Seen
from proxy.top.words import clock, duration, visible, warm_up

GOOD, BAD, QUIET = lists.GOOD, lists.BAD, lists.QUIET

_BARS = " ▁▂▃▄▅▆▇█"
_MOST_MISTAKES = 4
_HELP = (
    ("1 2 3, Tab", "endpoints, sessions, listeners"),
    ("s S", "order by the next, the previous column"),
    ("r", "the other way round"),
    ("f", "show all, or only some"),
    ("/", "find: type, Enter keeps it, Esc forgets it"),
    ("↑ ↓ j k PgUp PgDn", "scroll"),
    ("p, Space", "pause, go on"),
    ("q, Ctrl-C", "quit"),
    ("round trip", "a message there and its answer back"),
    ("SYN", "a connection's first packet; Fast Open puts the first bytes in it"),
    ("cookie", "a server's leave to put data in a SYN"),
    ("fast", "the server takes data in the SYN"),
    ("learning", "not known yet"),
    ("plain", "no Fast Open there: ordinary connections, nothing lost"),
    ("plain for now", "Fast Open gets lost on the way: ordinary until the next try"),
    ("first byte", "how long until the server's first: with Fast Open / without"),
)


@dataclass(slots=True)
class Frame:
    """All that one screen is made from. ``gone`` says why nobody answers; then ``seen`` is the last that was."""

    seen: Seen | None
    choice: Choice
    width: int
    height: int
    address: str
    interval: float
    gone: str = ""
    console: Console = field(init=False)

    def __post_init__(self) -> None:
        self.console = Console(
            file=io.StringIO(), force_terminal=True, width=self.width, height=self.height, highlight=False,
            markup=False, emoji=False, legacy_windows=False,
        )  # fmt: skip

    def lines(self) -> list[str]:
        """The screen, line by line, with its colours; never more than ``height``."""
        head, foot = self._rendered(*self._head()), self._rendered(self._foot())
        if self.choice.help:
            head = [*head[:1], ""]
        room = self.height - len(head) - len(foot)
        if self.choice.help:
            body = self._rendered(help_table())
        elif self.seen is None:
            body = self._rendered(Text(""))
        else:
            body = self._body(self.seen, room)
        body = body[:room]
        return [*head, *body, *[""] * (room - len(body)), *foot]

    def _body(self, seen: Seen, room: int) -> list[str]:
        rows = self.choice.rows(_all(seen, self.choice.section))
        fit = max(room - 1, 1)  # below the table's head
        self.choice.offset = max(0, min(self.choice.offset, len(rows) - fit))
        shown = rows[self.choice.offset : self.choice.offset + fit]
        if rows:
            return self._rendered(lists.table(self.choice.section, shown, self.width))
        none = "None is like that." if _all(seen, self.choice.section) else "Nothing yet."
        return self._rendered(Text(f"\n{none}", style=QUIET))

    def _head(self) -> list[RenderableType]:
        if self.seen is None:
            return [Text(f"tfo-proxy at {self.address}"), *self._trouble(), Text("")]
        status = self.seen.status
        return [
            self._title(status), saved(status), rhythm(status.minutes, self.width), *self._trouble(),
            *notices(status)[: (self.height - 6) // 3], self._tabs(status), Text(""),
        ]  # fmt: skip

    def _title(self, status: Status) -> Text:
        state = GOOD if status.state == "ready" else BAD
        line = Text.assemble(
            ("tfo-proxy ", "bold"), visible(status.version), "  ", (visible(status.state), state),
            (f" for {duration(status.uptime)}", QUIET), (f"  {self.address}", QUIET),
        )  # fmt: skip
        right = Text("paused", style=BAD) if self.choice.paused else Text(clock(status.now), style=QUIET)
        return _apart(line, right, self.width)

    def _trouble(self) -> list[RenderableType]:
        if not self.gone:
            return []
        again = f"{visible(self.gone)}; trying again every {self.interval:g} s"
        return [Text(again, style=BAD, no_wrap=True, overflow="ellipsis")]

    def _tabs(self, status: Status) -> Text:
        assert self.seen is not None
        numbers = {
            Section.ENDPOINTS: self.seen.endpoints.total,
            Section.SESSIONS: status.total.open,
            Section.LISTENERS: len(self.seen.listeners.listeners),
        }
        line = Text(no_wrap=True, overflow="ellipsis")
        for number, section in enumerate(Section, 1):
            of = f"{numbers[section]:,} open" if section is Section.SESSIONS else f"{numbers[section]:,}"
            line.append(
                f" {number} {section} ({of}) ", style="reverse" if section is self.choice.section else ""
            )
        order, choice = self.choice.order.name, self.choice
        said = [f"by {order}{' (turned)' if choice.turned else ''}"]
        said += [choice.filter] if choice.filter != "all" else []
        said += [f"“{visible(choice.find)}”"] if choice.find and not choice.typing else []
        return _apart(line, Text(", ".join(said), style=QUIET), self.width)

    def _foot(self) -> Text:
        if self.choice.typing:
            return Text(f"/{visible(self.choice.find)}█", no_wrap=True)
        keys = ["q quit", "? help", "Tab next list", "s sort", "r turn"]
        keys += ["f filter"] if len(FILTERS[self.choice.section]) > 1 else []
        return Text("  ".join([*keys, "/ find", "p pause"]), style=QUIET, no_wrap=True, overflow="ellipsis")

    def _rendered(self, *parts: RenderableType) -> list[str]:
        with self.console.capture() as capture:
            for part in parts:
                self.console.print(part, no_wrap=True, overflow="ellipsis", crop=True)
        return capture.get().removesuffix("\n").split("\n")


def once(seen: Seen, console: Console) -> None:
    """Everything, one list after the other, for a terminal, a pipe or a file."""
    status = seen.status
    console.print(Text.assemble(
        ("tfo-proxy ", "bold"), visible(status.version), ", ", visible(status.state), f" for {duration(status.uptime)}"
    ))  # fmt: skip
    for part in [saved(status), *notices(status)]:
        console.print(part, soft_wrap=True)
    for section in Section:
        rows = Choice(section).rows(_all(seen, section))
        console.print()
        console.print(Text(f"{section.capitalize()} ({len(rows):,})", style="bold"))
        console.print(lists.table(section, rows, console.width) if rows else Text("none", style=QUIET))


def saved(status: Status) -> Text:
    """What has been saved, in one line."""
    total = status.total
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{total.round_trips_saved:,} round trips", style=f"bold {GOOD}")
    line.append(f" = {duration(total.seconds_saved)} saved")
    line.append(
        f"  {status.saved_per_minute:.3g} = {duration(status.seconds_saved_per_minute)} a minute", QUIET
    )
    line.append(
        f"  lost {duration(total.seconds_lost)}", BAD if total.seconds_lost > total.seconds_saved else QUIET
    )
    line.append(f"  {total.sessions:,} sessions", QUIET)
    return line


def rhythm(minutes: list[Minute], width: int) -> Text:
    """Seconds saved in each of the last minutes, as bars; a minute that lost more than it saved is marked."""
    line = Text(no_wrap=True, overflow="crop")
    label = " seconds saved, by minute"
    shown = minutes[-max(width - len(label), 10) :]
    most = max((one.seconds_saved for one in shown), default=0.0)
    for one in shown:
        if one.seconds_lost > one.seconds_saved:
            line.append("!", style=BAD)
            continue
        share = one.seconds_saved / most if most else 0.0
        line.append(_BARS[min(8, round(share * 8) or int(share > 0))], style=GOOD)
    return line.append(label, style=QUIET)


def notices(status: Status) -> list[RenderableType]:
    """What somebody should act on."""
    lines: list[RenderableType] = [
        Text(visible(note), style=BAD, no_wrap=True, overflow="ellipsis") for note in status.notes
    ]
    warming, reload = status.warm_up, status.last_reload
    if warming is not None and not warming.is_over:
        lines.append(Text(warm_up(warming), style=QUIET, no_wrap=True, overflow="ellipsis"))
    if reload is None or reload.ok:
        return lines
    lines.append(
        Text(f"not reloaded at {clock(reload.at)}, the configuration before stays in force:", style=BAD)
    )
    lines += [
        Text(f"  {visible(mistake)}", no_wrap=True, overflow="ellipsis")
        for mistake in reload.mistakes[:_MOST_MISTAKES]
    ]
    more = len(reload.mistakes) - _MOST_MISTAKES
    return [*lines, Text(f"  and {more} more: `tfo-proxy check` tells them all")] if more > 0 else lines


def help_table() -> Table:
    """The keys and the words."""
    table = Table.grid(padding=(0, 2))
    for key, meaning in _HELP:
        table.add_row(Text(key, style="bold"), Text(meaning))
    return table


def _all(seen: Seen, section: Section) -> list[Row]:
    match section:
        case Section.ENDPOINTS:
            return list(seen.endpoints.endpoints)
        case Section.SESSIONS:
            return [*seen.sessions.recent, *seen.sessions.open]
        case Section.LISTENERS:
            return list(seen.listeners.listeners)


def _apart(left: Text, right: Text, width: int) -> Text:
    """Two texts at the two ends of a line; the left one gives way."""
    left.truncate(max(width - right.cell_len - 1, 0), overflow="ellipsis")
    left.append(" " * (width - left.cell_len - right.cell_len))
    return left.append_text(right)
