"""Plots as SVG, drawn here: bars with their spread, and lines over a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, BAR, LEFT, RIGHT, TOP = 720, 22, 150, 110, 46
HEIGHT, BOTTOM = 300, 44
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b")
OURS, OTHERS = "#1f77b4", "#9aa5b1"
STYLE = (
    "text{font:12px sans-serif;fill:#222}.t{font-weight:bold;font-size:14px}.s{fill:#666}line,path{fill:none}"
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One value, and the least and the most of the rounds."""

    label: str
    value: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Line:
    """Points of one kind."""

    label: str
    points: Sequence[tuple[float, float]]


def _svg(height: float, title: str, body: Sequence[str]) -> str:
    """A drawing on white, so that it can be read on a dark page."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img">'
    frame = (
        f'<title>{escape(title)}</title><style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>'
    )
    return (
        "\n".join([head, frame, f'<text class="t" x="16" y="26">{escape(title)}</text>', *body, "</svg>"])
        + "\n"
    )


def short(number: float) -> str:
    """Three digits are enough to look at."""
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.3g}"


def bars(title: str, bars: Sequence[Bar]) -> str:
    """One bar each, with a whisker from the least to the most."""
    top = max(bar.most for bar in bars) or 1.0
    scale = (WIDTH - LEFT - RIGHT) / top
    body: list[str] = []
    for number, bar in enumerate(bars):
        y = TOP + number * (BAR + 6)
        middle, end = y + BAR / 2, LEFT + bar.value * scale
        colour = OURS if bar.label.startswith("ours") or bar.label[:1].isdigit() else OTHERS
        body += [
            f'<text x="{LEFT - 8}" y="{middle + 4:g}" text-anchor="end">{escape(bar.label)}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{bar.value * scale:.1f}" height="{BAR}" fill="{colour}"/>',
            f'<path d="M{LEFT + bar.least * scale:.1f} {middle:g} H{LEFT + bar.most * scale:.1f}" stroke="#222"/>',
            f'<text x="{max(end, LEFT + bar.most * scale) + 8:.1f}" y="{middle + 4:g}">{short(bar.value)}</text>',
        ]
    return _svg(TOP + len(bars) * (BAR + 6) + 10, title, body)


def lines(title: str, across: str, up: str, several: Sequence[Line], *, log_x: bool = True) -> str:
    """Lines through points; upwards from 0, across by powers of ten where ``log_x``.

    Each is thinner than the one before it, and every other one is dashed, so that two which are alike are both seen.
    """
    xs = [x for line in several for x, _ in line.points]
    top = max(y for line in several for _, y in line.points) * 1.1 or 1.0
    low, high = min(xs), max(xs)

    def at(x: float, y: float) -> tuple[float, float]:
        share = (math.log(x / low) / math.log(high / low)) if log_x else (x - low) / (high - low)
        return 70 + share * (WIDTH - 70 - 190), HEIGHT - BOTTOM - y / top * (HEIGHT - BOTTOM - TOP)

    body: list[str] = []
    for part in range(5):
        value = top * part / 4
        y = at(low, value)[1]
        body.append(f'<line x1="70" x2="{WIDTH - 190}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        body.append(f'<text class="s" x="62" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>')
    body += [
        f'<text class="s" x="{at(x, 0)[0]:.1f}" y="{HEIGHT - 26}" text-anchor="middle">{short(x)}</text>'
        for x in sorted(set(xs))
    ]
    body.append(
        f'<text x="{(WIDTH - 120) / 2:g}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across)}</text>'
    )
    body.append(f'<text class="s" x="16" y="42">{escape(up)}</text>')
    for number, line in enumerate(several):
        colour = COLOURS[number % len(COLOURS)]
        places = [at(x, y) for x, y in line.points]
        path = " L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        width = 3 + 2 * (len(several) - 1 - number)
        dashes = ' stroke-dasharray="9 9"' if number % 2 else ""
        body.append(f'<path d="M{path}" stroke="{colour}" stroke-width="{width}"{dashes}/>')
        body += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{width / 2 + 1.5:g}" fill="{colour}"/>' for x, y in places
        ]
        y = TOP + 18 * number + 10
        body.append(f'<rect x="{WIDTH - 176}" y="{y - 9}" width="12" height="10" fill="{colour}"/>')
        body.append(f'<text x="{WIDTH - 158}" y="{y}">{escape(line.label)}</text>')
    return _svg(HEIGHT, title, body)
