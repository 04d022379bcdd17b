"""The demo as SVG: the connections side by side on one axis of time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from proxy.demo.play import Played
from proxy.demo.scale import Scale
from proxy.demo.story import Arrow, Lane, Look, Run
from proxy.demo.words import Result, chosen, number

LEFT, TOP, NEAR, FAR, SIDE = 64, 168, 150, 300, 46
LETTER = 10.4  # the width of one in the title, more or less
NAMES = {Lane.CLIENT: "client", Lane.PROXY: "tfo-proxy", Lane.SERVER: "server", Lane.ORIGIN: "server"}

LIGHT = """--paper: #ffffff; --ink: #1f2328; --soft: #59636e; --line: #818b98; --edge: #d1d9e0; --room: #f6f8fa;
      --early: #1a7f37; --bad: #cf222e; --answer: #0969da; --box: #bf8700; --pill: #dafbe1;"""
DARK = """--paper: #0d1117; --ink: #f0f6fc; --soft: #9198a1; --line: #7d8590; --edge: #3d444d; --room: #151b23;
      --early: #3fb950; --bad: #f85149; --answer: #58a6ff; --box: #d29922; --pill: #12361d;"""
STYLE = """
text { font: 12.5px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--ink); }
.paper { fill: var(--paper); } .soft { fill: var(--soft); } .middle { text-anchor: middle; } .end { text-anchor: end; }
.title { font-size: 18px; font-weight: 600; } .name { font-weight: 600; text-anchor: middle; }
.panel { font-size: 15px; font-weight: 600; } .headline { font-size: 26px; font-weight: 700; fill: var(--early); }
.tick { font-size: 11px; fill: var(--soft); text-anchor: end; } .small { font-size: 11px; fill: var(--soft); }
.head { fill: var(--room); stroke: var(--edge); } .life { stroke: var(--edge); stroke-width: 1.6; }
.grid { stroke: var(--edge); stroke-dasharray: 1 5; }
.box { stroke: var(--box); stroke-width: 5; stroke-opacity: .3; } .boxname { fill: var(--box); text-anchor: middle; }
.ordinary { stroke: var(--line); } .early { stroke: var(--early); stroke-width: 2.6; } .bad { stroke: var(--bad); }
.answer { stroke: var(--answer); }
.arrow { fill: none; stroke-width: 1.7; } .early.arrow { stroke-width: 2.8; }
.tip { stroke: none; } .tip.ordinary { fill: var(--line); } .tip.early { fill: var(--early); }
.tip.bad { fill: var(--bad); } .tip.answer { fill: var(--answer); }
.label { text-anchor: middle; paint-order: stroke; stroke: var(--paper); stroke-width: 4; }
.label.early { fill: var(--early); font-weight: 600; }
.label.bad { fill: var(--bad); } .label.answer { fill: var(--answer); }
.headline.same { fill: var(--ink); }
.span { stroke: var(--soft); fill: none; stroke-width: 1.6; }
.spanned { fill: var(--soft); font-weight: 600; }
.span.less { stroke: var(--early); } .spanned.less { fill: var(--early); }
.span.more { stroke: var(--bad); } .spanned.more { fill: var(--bad); }
"""


def picture(played: Played, *, theme: str = "auto", everything: bool = False) -> str:
    """The whole picture. ``theme`` is light, dark, or auto: as the reader's system is."""
    titles, runs = zip(*chosen(played), strict=True)
    panels = _places(runs)
    scale = Scale(_marks(runs, played.rtt / 2, everything=everything))
    height = TOP + scale.height + 40
    width = max(max(panels[-1].values()) + SIDE + 14, 640, 48 + LETTER * len(played.scene.title))
    result, whole = Result.of(played), height + 96
    parts = [
        _opening(width, whole),
        f'<title id="title">{escape(result.headline)}: {escape(played.scene.title)}</title>',
        f'<desc id="desc">{escape(_described(result))}</desc>',
        f"<style>{_themed(theme)}{STYLE}</style>",
        f'<rect class="paper" width="{width:g}" height="{whole:g}" rx="12"/>',
        _text(24, 36, played.scene.title, "title"),
        _text(24, 58, f"Round trip {played.rtt * 1e3:.0f} ms; time runs downwards", "soft"),
        *_ticks(played.rtt / 2, scale, width),
    ]
    for title, run, lanes in zip(titles, runs, panels, strict=True):
        parts.append(_text(lanes[Lane.CLIENT] - 34, 92, title, "panel"))
        parts += _panel(run, lanes, played, scale, height, everything=everything)
    parts += [
        _text(24, height + 40, result.headline, "headline" if result.faster else "headline same"),
        _text(24, height + 62, result.footnote, ""),
        _text(24, height + 82, _small_print(played, everything=everything), "small"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _opening(width: float, height: float) -> str:
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title desc">'


def _described(result: Result) -> str:
    numbers = ", ".join(number(one) for one in result.through)
    return (
        f"Packets of a plain connection, first byte after {number(result.plain)} round trips, and of connections "
        f"through tfo-proxy: {numbers}. {result.footnote}"
    )


def _small_print(played: Played, *, everything: bool) -> str:
    said = "Drawn by `tfo-proxy demo` from packets that crossed its lab"
    if any(arrow.label == "SYN-ACK + cookie" and not arrow.changed for arrow in played.warm_up.arrows):
        said += "; the cookie was fetched when the proxy started"
    return said + ("." if everything else "; bare acknowledgements are left out.")


def _themed(theme: str) -> str:
    match theme:
        case "light":
            return f"\nsvg {{ {LIGHT} }}"
        case "dark":
            return f"\nsvg {{ {DARK} }}"
        case _:
            return f"\nsvg {{ {LIGHT} }}\n@media (prefers-color-scheme: dark) {{ svg {{ {DARK} }} }}"


def _places(runs: Sequence[Run]) -> list[dict[Lane, float]]:
    """Where each panel's lifelines stand."""
    found: list[dict[Lane, float]] = []
    at = float(LEFT + SIDE)
    for run in runs:
        lanes = {Lane.CLIENT: at}
        if Lane.PROXY in run.lanes:
            lanes[Lane.PROXY] = at = at + NEAR
        lanes[Lane.MIDDLEBOX] = at + FAR / 2
        lanes[Lane.SERVER] = at = at + FAR
        if Lane.ORIGIN in run.lanes:
            lanes[Lane.ORIGIN] = at = at + NEAR
        at += 2 * SIDE + 10
        found.append(lanes)
    return found


def _marks(runs: Sequence[Run], trip: float, *, everything: bool) -> list[tuple[float, tuple[int, Lane]]]:
    marks: list[tuple[float, tuple[int, Lane]]] = []
    for which, run in enumerate(runs):
        for arrow in run.shown(everything=everything):
            marks.append((arrow.sent, (which, arrow.source)))
            marks.append((_end(arrow, trip), (which, arrow.target)))
    return marks


def _ticks(step: float, scale: Scale, width: float) -> list[str]:
    parts: list[str] = []
    moment = 0.0
    while step and scale.height / max(scale(step), 1) > 14:
        step *= 2
    while scale(moment) <= scale.height + 1:
        y = TOP + scale(moment)
        parts.append(f'<path class="grid" d="M{LEFT - 6} {y:.1f} H{width - 24:g}"/>')
        parts.append(_text(LEFT - 12, y + 4, f"{moment * 1e3:.0f} ms", "tick"))
        moment += step
    return parts


def _panel(
    run: Run, lanes: dict[Lane, float], played: Played, scale: Scale, height: float, *, everything: bool
) -> list[str]:
    trips = played.round_trips(run.first_byte)
    took = "no answer" if trips is None else f"first byte after {(run.first_byte or 0) * 1e3:.0f} ms"
    x = lanes[Lane.CLIENT] - 34
    parts = [_text(x, 111, took, "soft")]
    if played.scene.through:
        parts.append(f'<path class="box" d="M{lanes[Lane.MIDDLEBOX]:g} {TOP - 20} V{height - 22:g}"/>')
        parts.append(_text(lanes[Lane.MIDDLEBOX], TOP - 29.5, "middlebox", "boxname"))
    for lane in run.lanes:
        parts.append(f'<path class="life" d="M{lanes[lane]:g} {TOP - 22} V{height - 16:g}"/>')
        parts.append(
            f'<rect class="head" x="{lanes[lane] - 38:g}" y="{TOP - 46}" width="76" height="24" rx="7"/>'
        )
        name = NAMES[Lane.PROXY if lane is Lane.SERVER and Lane.ORIGIN in run.lanes else lane]
        parts.append(_text(lanes[lane], TOP - 29.5, name, "name"))
    drawn = [_arrow(arrow, lanes, scale, played.rtt / 2) for arrow in run.shown(everything=everything)]
    parts += [line for lines, _ in drawn for line in lines]
    parts += [label for _, labels in drawn for label in labels]
    if trips is not None and run.first_byte is not None:
        look = Result.of(played).judged(trips)
        parts += _span(lanes[Lane.CLIENT], scale(run.first_byte), f"{number(trips)} round trips", look)
    return parts


def _span(x: float, reach: float, words: str, look: str) -> list[str]:
    """From the first packet to the first byte, beside the client's lifeline."""
    start, end = TOP, TOP + reach
    middle = (start + end) / 2
    turned = (
        f'<text class="spanned middle {look}" transform="translate({x - 22:g} {middle:.1f}) rotate(-90)">'
    )
    return [
        f'<path class="span {look}" d="M{x - 8:g} {start:.1f} h-7 V{end:.1f} h7"/>',
        f"{turned}{escape(words)}</text>",
    ]


def _end(arrow: Arrow, trip: float) -> float:
    """When it arrived, or would have, ``trip`` being the way to the server in seconds."""
    return arrow.sent + trip if arrow.arrived is None else arrow.arrived


def _arrow(arrow: Arrow, lanes: dict[Lane, float], scale: Scale, trip: float) -> tuple[list[str], list[str]]:
    """A line from where and when it was sent to where and when it arrived, or to a cross; and what is written on it."""
    x1, y1 = lanes[arrow.source], TOP + scale(arrow.sent)
    x2, y2 = lanes[arrow.target], TOP + scale(_end(arrow, trip))
    lost = arrow.arrived is None
    if lost:
        x2, y2 = lanes[Lane.MIDDLEBOX], (y1 + y2) / 2
    angle = math.degrees(math.atan2(y2 - y1, x2 - x1))
    parts = [f'<path class="arrow {arrow.look}" d="M{x1:g} {y1:.1f} L{x2:g} {y2:.1f}"/>']
    if lost:
        parts.append(
            f'<path class="arrow bad" stroke-width="2.4" d="M{x2 - 6:g} {y2 - 6:.1f} l12 12 m0 -12 l-12 12"/>'
        )
    else:
        tip = f'transform="translate({x2:g} {y2:.1f}) rotate({angle:.1f})" d="M0 0 L-10 -4 L-10 4 z"'
        parts.append(f'<path class="tip {arrow.look}" {tip}/>')
    upright = angle if -90 < angle < 90 else angle - 180
    if not arrow.changed:
        return parts, [_label((x1 + x2) / 2, (y1 + y2) / 2, upright, arrow.label, arrow.look)]
    before = _label(x1 + (x2 - x1) * 0.26, y1 + (y2 - y1) * 0.26, upright, arrow.label, arrow.look)
    after = _label(x1 + (x2 - x1) * 0.75, y1 + (y2 - y1) * 0.75, upright, arrow.changed, Look.BAD)
    return parts, [before, after]


def _label(x: float, y: float, angle: float, words: str, look: Look) -> str:
    turned = f'transform="translate({x:.1f} {y:.1f}) rotate({angle:.1f})"'
    return f'<text class="label {look}" {turned} dy="-6">{escape(words)}</text>'


def _text(x: float, y: float, words: str, look: str) -> str:
    return f'<text class="{look}" x="{x:g}" y="{y:g}">{escape(words)}</text>'
