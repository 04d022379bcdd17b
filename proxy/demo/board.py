"""The demo as text: one diagram a connection, then the result."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from itertools import pairwise

from proxy.demo.play import PATIENCE, Played
from proxy.demo.story import Arrow, Lane, Look, Run
from proxy.demo.words import Result, chosen, number, sentences

WIDTH = 79
MARGIN = 7  # columns for the times beside a diagram
NEAR, FAR = 20, 42  # between client and proxy, and on the path
TUNNEL_NEAR, TUNNEL_FAR = 12, 36  # where a fourth lifeline must fit in
NAMES = {Lane.CLIENT: "client", Lane.PROXY: "proxy", Lane.SERVER: "server", Lane.ORIGIN: "server"}
COLOURS = {Look.EARLY: "1;32", Look.ANSWER: "36", Look.BAD: "31", Look.ORDINARY: ""}

Paint = Callable[[str, str], str]


def painted(text: str, code: str) -> str:
    """Text in a colour (an SGR code)."""
    return f"\033[{code}m{text}\033[0m" if code else text


def unpainted(text: str, _: str) -> str:
    """Text as it is."""
    return text


def board(played: Played, *, colour: bool = False, everything: bool = False) -> str:
    """The whole of it."""
    paint = painted if colour else unpainted
    scene = played.scene
    lines = [
        paint(scene.title + ".", "1"),
        f"Round trip {played.rtt * 1e3:.0f} ms. Times are milliseconds.",
        "",
    ]
    for at, (title, run) in enumerate(chosen(played)):
        if at == 1 and played.warm_up.arrows:
            lines += [
                "When it starts, the proxy dials once without data, for a cookie:",
                *_diagram(played.warm_up, paint, everything=everything, alone=True),
                "",
            ]
        lines += [
            paint(f"{title}: {_took(run, played)}", "1"),
            *_diagram(run, paint, everything=everything),
            "",
        ]
    return "\n".join([*lines, *_result(played, paint)])


def _took(run: Run, played: Played) -> str:
    trips = played.round_trips(run.first_byte)
    return "no answer" if trips is None else f"first byte after {number(trips)} round trips"


def _diagram(run: Run, paint: Paint, *, everything: bool, alone: bool = False) -> list[str]:
    lanes = [Lane.PROXY, Lane.SERVER] if alone else list(run.lanes)
    columns = _columns(lanes)
    origin = run.arrows[0].sent if alone and run.arrows else 0.0
    head = [" "] * (max(columns.values()) + 4)
    for lane in lanes:
        name, at = NAMES[lane], columns[lane]
        if lane is Lane.SERVER and Lane.ORIGIN in lanes:
            name = NAMES[Lane.PROXY]
        start = max(0, at - len(name) // 2)
        head[start : start + len(name)] = name
    rows = ["".join(head).rstrip()]
    rows += [_row(arrow, columns, paint, origin) for arrow in run.shown(everything=everything)]
    return rows


def _columns(lanes: list[Lane]) -> dict[Lane, int]:
    """Where the lifelines stand."""
    near, far = (TUNNEL_NEAR, TUNNEL_FAR) if Lane.ORIGIN in lanes else (NEAR, FAR)
    found = {lanes[0]: MARGIN}
    for before, lane in pairwise(lanes):
        beside = {before, lane} in ({Lane.CLIENT, Lane.PROXY}, {Lane.SERVER, Lane.ORIGIN})
        found[lane] = found[before] + 1 + (near if beside else far)
    return found


def _row(arrow: Arrow, columns: dict[Lane, int], paint: Paint, origin: float) -> str:
    """One packet: the times at its two ends outside, the arrow between two of the lifelines."""
    left, right = _span(arrow, columns)
    to_right = arrow.source < arrow.target
    cells = [" "] * (max(columns.values()) + 1)
    for at in columns.values():
        cells[at] = "│"
    shaft = paint(_shaft(arrow, right - left - 1, to_right=to_right), COLOURS[arrow.look])
    cells[left + 1 : right] = [shaft]
    near, far = (arrow.sent, arrow.arrived) if to_right else (arrow.arrived, arrow.sent)
    if arrow.source is Lane.MIDDLEBOX:
        near, far = (None, far) if to_right else (near, None)
    if left == columns.get(Lane.CLIENT) and Lane.PROXY in columns:
        far = None  # it is the same
    elif right == columns.get(Lane.ORIGIN):
        near = None
    row = "".join(cells)[MARGIN:]
    return f"{_time(near, origin):>{MARGIN - 1}} {row} {_time(far, origin):>7}".rstrip()


def _span(arrow: Arrow, columns: dict[Lane, int]) -> tuple[int, int]:
    """The lifelines on the left and on the right of an arrow."""
    if arrow.source is Lane.MIDDLEBOX:
        near = Lane.PROXY if Lane.PROXY in columns else Lane.CLIENT
        return columns[near], columns[Lane.SERVER]
    left, right = sorted((columns[arrow.source], columns[arrow.target]))
    return left, right


def _time(seconds: float | None, origin: float) -> str:
    return "" if seconds is None else f"{(seconds - origin) * 1e3:.1f}"


def _shaft(arrow: Arrow, room: int, *, to_right: bool) -> str:
    """The arrow itself, ``room`` characters."""
    line = "━" if arrow.look is Look.EARLY else "─"
    if arrow.source is Lane.MIDDLEBOX:
        reached = _labelled(arrow.label, room // 2 - 1, line, to_right=to_right)
        return (
            f"{' ' * (room - room // 2)}▒{reached}" if to_right else f"{reached}▒{' ' * (room - room // 2)}"
        )
    if arrow.arrived is None:
        text = f"{line * 2} {_cut(arrow.label, room - 8)} {line * 2}"
        short = f"{text}╳" if to_right else f"╳{text}"
        return short.ljust(room) if to_right else short.rjust(room)
    if arrow.changed:
        before, after = arrow.label, arrow.changed
        first, second = (before, after) if to_right else (after, before)
        half = (room - 1) // 2
        drawn = f"{line}{_cut(f' {first} ', half - 1)}".ljust(half, line) + "▒"
        drawn += f"{_cut(f' {second} ', half - 1)}".rjust(room - 2 - half, line) + (line if room % 2 else "")
        drawn = drawn[: room - 1].ljust(room - 1, line)
        return f"{drawn}▶" if to_right else f"◀{drawn}"
    return _labelled(arrow.label, room, line, to_right=to_right)


def _labelled(label: str, room: int, line: str, *, to_right: bool) -> str:
    if len(label) > room - 5:
        label = label.partition(", ")[0]
    if len(label) > room - 5 and " + " in label:
        label = f"{label.partition(' + ')[0]} +…"
    text = f" {_cut(label, room - 4)} "
    rest = room - 1 - len(text)
    before = min(2, max(1, rest // 2))
    if to_right:
        return f"{line * before}{text}{line * (rest - before)}▶"
    return f"◀{line * (rest - before)}{text}{line * before}"


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"


def _result(played: Played, paint: Paint) -> list[str]:
    result = Result.of(played)
    rows: list[tuple[str, tuple[float | None, ...]]] = [("a plain connection", (result.plain,))]
    if result.trusting:
        rows.append(("a client's own Fast Open", result.trusting))
    rows.append(("through the tunnel" if played.scene.tunnel else "through tfo-proxy", result.through))
    wide = max(len(name) for name, _ in rows)
    lines = ["First byte, in round trips:"]
    lines += [
        f"  {name:<{wide}} " + "".join(f"{number(one):>6}" for one in numbers) for name, numbers in rows
    ]
    lines.append("")
    for which, said in sentences(played.through, played.scene):
        lines += textwrap.wrap(said, WIDTH, initial_indent=f"  {which:>4}  ", subsequent_indent=" " * 8)
    if None in (result.plain, *result.through, *result.trusting):
        lines += ["", f"✗: refused, or nothing came in {PATIENCE:.0f} s."]
    return [*lines, "", paint(result.headline, "1;32"), result.footnote]
