"""The lists of `top` as tables: which columns, how wide, in which colour."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from proxy.admin.views import Endpoint, Listener, Session, Spread
from proxy.top.choice import Row, Section
from proxy.top.words import NOTHING, clock, destination, duration, ending, failed, opening, size, visible

GOOD, BAD, QUIET = "green", "red", "dim"
ROOMY = 110  # columns from which on there is more to be told

_STANDINGS = {
    "confirmed": ("fast", GOOD),
    "learning": ("learning", ""),
    "unknown": ("not known", ""),
    "probing": ("trying again", ""),
    "option_doubted": ("in doubt", BAD),
    "data_doubted": ("in doubt", BAD),
    "quarantined": ("plain for now", BAD),
    "unsupported": ("plain", QUIET),
}


def table(section: Section, rows: Sequence[Row], width: int) -> Table:
    """The rows of one list; each on one line, ``width`` columns in all."""
    match section:
        case Section.ENDPOINTS:
            return _endpoints([row for row in rows if isinstance(row, Endpoint)], width)
        case Section.SESSIONS:
            return _sessions([row for row in rows if isinstance(row, Session)], width)
        case Section.LISTENERS:
            return _listeners([row for row in rows if isinstance(row, Listener)], width)


def _endpoints(rows: Sequence[Endpoint], width: int) -> Table:
    grid = _grid(width)
    _column(grid, "Endpoint", 2, at_least=15)
    _column(grid, "Fast Open", wide=13)
    for name, wide in (("RTT", 7), ("Sessions", 8), ("Open", 4), ("Saved", 8)):
        _column(grid, name, wide=wide, number=True)
    _column(grid, "First byte", wide=15, number=True)
    if width >= ROOMY:
        _column(grid, "Cookie", wide=6)
        _column(grid, "Why", 3, at_least=15)
    for row in rows:
        said, style = (
            ("down", BAD) if row.healthy is False else _STANDINGS.get(row.standing, (row.standing, ""))
        )
        won = row.tally.seconds_saved - row.tally.seconds_lost
        cells = [
            Text(visible(row.endpoint)), Text(visible(said), style=style), Text(duration(row.rtt)),
            Text(f"{row.tally.sessions:,}"), Text(f"{row.tally.open:,}"), _won(won), _first_byte(row),
        ]  # fmt: skip
        if width >= ROOMY:
            cells += [Text("held" if row.cookie.known else NOTHING), Text(visible(row.why), style=QUIET)]
        grid.add_row(*cells)
    return grid


def _sessions(rows: Sequence[Session], width: int) -> Table:
    grid = _grid(width)
    _column(grid, "Ended", wide=8)
    _column(grid, "Where to", 3, at_least=12)
    if width >= ROOMY:
        _column(grid, "Client", 2, at_least=12)
    _column(grid, "First packet", wide=20)
    _column(grid, "Saved", wide=7, number=True)
    if width >= ROOMY:
        _column(grid, "Bytes", wide=9, number=True)
        _column(grid, "Lasted", wide=8, number=True)
    _column(grid, "How it ended", 2, at_least=18)
    for row in rows:
        style = BAD if failed(row) else GOOD if row.is_open else ""
        where = visible(destination(row))
        cells = [Text(NOTHING if row.is_open else clock(row.began + row.duration), style=QUIET), Text(where)]
        cells += [Text(visible(row.client), style=QUIET)] if width >= ROOMY else []
        cells += [Text(visible(opening(row))), _won(row.saved - row.lost)]
        if width >= ROOMY:
            cells += [Text(size(row.up_bytes + row.down_bytes)), Text(duration(row.duration))]
        grid.add_row(*cells, Text(visible(ending(row)), style=style))
    return grid


def _listeners(rows: Sequence[Listener], width: int) -> Table:
    grid = _grid(width)
    _column(grid, "Listener", 2, at_least=8)
    _column(grid, "Listens on", 3, at_least=14)
    _column(grid, "Mode", wide=11)
    _column(grid, "Fast Open", wide=9)
    for name, wide in (("Open", 5), ("Sessions", 8), ("Saved", 8), ("Refused", 7)):
        _column(grid, name, wide=wide, number=True)
    for row in rows:
        takes = sum(place.fast_open for place in row.places)
        grid.add_row(
            Text(visible(row.name)), Text(visible(", ".join(place.bind for place in row.places))),
            Text(visible(row.mode)),
            Text("yes" if takes == len(row.places) and takes else f"{takes} of {len(row.places)}" if takes else "no"),
            Text(f"{row.tally.open:,}"), Text(f"{row.tally.sessions:,}"), _won(row.tally.seconds_saved),
            Text(f"{sum(row.refused.values()):,}"),
        )  # fmt: skip
    return grid


def _won(seconds: float) -> Text:
    if abs(seconds) < 5e-5:
        return Text(NOTHING, style=QUIET)
    return Text(duration(seconds), style=GOOD if seconds > 0 else BAD)


def _first_byte(row: Endpoint) -> Text:
    fast, plain = row.tally.first_byte_fast, row.tally.first_byte_plain
    if not fast.count and not plain.count:
        return Text(NOTHING, style=QUIET)
    return Text.assemble((_median(fast), GOOD), (" / ", QUIET), _median(plain))


def _median(spread: Spread) -> str:
    return duration(spread.median) if spread.count else NOTHING


def _grid(width: int) -> Table:
    return Table(
        box=None, padding=(0, 1, 0, 0), pad_edge=False, expand=True, width=width, header_style="underline"
    )


def _column(
    grid: Table, name: str, ratio: int = 0, wide: int = 0, at_least: int = 0, *, number: bool = False
) -> None:
    grid.add_column(
        name, ratio=ratio or None, width=wide or None, min_width=at_least or None, no_wrap=True, overflow="ellipsis",
        justify="right" if number else "left",
    )  # fmt: skip
