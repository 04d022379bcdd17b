"""Draw `proxy.core.fastopen.NEXT` as ``docs/fastopen.svg``: ``python -m docs.draw_fastopen``.

The lower half is the table itself. In the upper half the lines are laid out by hand, but what is written on them, and
whether they may be there at all, comes from the table: a line that the table does not have, or the other way round, is
an error.
"""  # noqa: INP001

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import NamedTuple

from proxy.core.evidence import LOSSES, Evidence
from proxy.core.fastopen import NEXT, State

PICTURE = Path(__file__).with_name("fastopen.svg")
WIDTH, HEIGHT = 1280, 976
ALL = tuple(State)
U, L, C, N, OD, DD, Q, P = ALL
TRUSTED = (U, L, C, N)

STYLE = """
svg { --paper: #ffffff; --ink: #1f2328; --soft: #59636e; --line: #59636e; --room: #f6f8fa; --edge: #d1d9e0;
      --good: #1a7f37; --goodfill: #dafbe1; --learn: #0969da; --learnfill: #ddf4ff; --doubt: #9a6700;
      --doubtfill: #fff8c5; --bad: #cf222e; --badfill: #ffebe9; --idle: #59636e; --idlefill: #eaeef2; }
@media (prefers-color-scheme: dark) {
svg { --paper: #0d1117; --ink: #f0f6fc; --soft: #9198a1; --line: #9198a1; --room: #151b23; --edge: #3d444d;
      --good: #3fb950; --goodfill: #12361d; --learn: #4493f8; --learnfill: #0f2d52; --doubt: #d29922;
      --doubtfill: #3b2e0a; --bad: #f85149; --badfill: #4a1619; --idle: #9198a1; --idlefill: #262c36; } }
text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--ink); }
.paper { fill: var(--paper); }
.title { font-size: 19px; font-weight: 600; }
.soft { fill: var(--soft); }
.mono { font: 12px ui-monospace, "SFMono-Regular", "DejaVu Sans Mono", monospace; }
.name { font-size: 14px; font-weight: 600; text-anchor: middle; }
.middle { text-anchor: middle; } .end { text-anchor: end; }
.room { fill: var(--room); stroke: var(--edge); }
.line { fill: none; stroke: var(--line); stroke-width: 1.6; }
.time { stroke-dasharray: 5 4; }
.head { fill: var(--line); }
.grid { stroke: var(--edge); }
.cell { font: 10.5px ui-monospace, "SFMono-Regular", "DejaVu Sans Mono", monospace; text-anchor: middle; }
.good { fill: var(--goodfill); stroke: var(--good); } .learn { fill: var(--learnfill); stroke: var(--learn); }
.doubt { fill: var(--doubtfill); stroke: var(--doubt); } .bad { fill: var(--badfill); stroke: var(--bad); }
.idle { fill: var(--idlefill); stroke: var(--idle); }
.cellbox { stroke: none; }
"""

HEAD = (
    '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
    '<path class="head" d="M0 0 L10 5 L0 10 z"/></marker></defs>'
)
SUMMARY = (
    "Two losses in a row, up to five on a lossy path, lead to a sentence, and the next one is twice as long; "
    "each ends in one probe. Data that is taken clears everything."
)
LOOK = {U: "idle", L: "learn", C: "good", N: "idle", OD: "doubt", DD: "doubt", Q: "bad", P: "learn"}
PLACE = {  # centres
    U: (110, 330), C: (395, 150), L: (395, 330), N: (395, 510),
    OD: (745, 270), DD: (745, 450), P: (1105, 210), Q: (1105, 450),
}  # fmt: skip
NODE_WIDTH, NODE_HEIGHT = 138, 44
ROOMS = [  # x, y, width, height, title
    (24, 84, 456, 474, "Fast Open is used"),
    (640, 212, 248, 274, "one loss: doubted, still used"),
    (976, 150, 262, 348, "dialled plainly"),
]


class Line(NamedTuple):
    """One line of the picture: from each of ``sources`` to ``target``, for whatever leads from the first there."""

    sources: tuple[State, ...]
    target: State
    path: str  # SVG
    label: tuple[float, float]  # of its first row
    style: str = ""
    rows: tuple[int, ...] = (1,) * 5  # how many pieces of evidence are written in each row
    words: str = ""  # before them
    arrow: bool = True  # not where it joins another line

    @property
    def evidence(self) -> frozenset[Evidence]:
        """What is written on it."""
        return frozenset(shown for shown, to in NEXT[self.sources[0]].items() if to is self.target)


def lines() -> list[Line]:
    """All that the table has."""
    return [
        Line((U, L, N), C, "M100 150 H326", (112, 142), words="from each: "),
        Line((C, U, L), N, "M100 510 H326", (112, 486), words="from each: "),
        Line((U,), L, "M179 330 H326", (186, 259)),
        Line((C,), L, "M395 172 V308", (389, 216), style="end"),
        Line((N,), L, "M395 488 V352", (389, 436), style="end"),
        Line(TRUSTED, OD, "M480 270 H676", (492, 262)),
        Line(TRUSTED, DD, "M480 450 H676", (492, 412)),
        Line((OD,), L, "M730 292 V330 H464", (742, 312)),
        Line((DD,), L, "M690 428 V330", (700, 418), arrow=False),
        Line((P,), L, "M1036 210 H932 Q924 210 924 202 V192 Q924 184 916 184 H588 Q580 184 580 192 V330", (674, 147),
             rows=(2, 1, 2), arrow=False),
        Line((OD, DD), Q, "M888 450 H1036", (902, 442)),
        Line((P,), Q, "M1135 232 V428", (1143, 334)),
        Line((OD, DD, P, Q), C, "M1174 450 H1202 Q1210 450 1210 442 V126 Q1210 118 1202 118 H500 Q492 118 492 126 V142"
             " Q492 150 484 150 H464", (510, 110)),
        Line((OD, DD, P), N, "M1174 210 H1216 Q1224 210 1224 218 V502 Q1224 510 1216 510 H464", (510, 502), rows=(2,)),
    ]  # fmt: skip


# Further beginnings of lines that several share, and where lines meet.
BRANCHES = ["M660 212 V118", "M1105 188 V118", "M756 486 V510"]
JOINTS = [(660, 118), (1105, 118), (756, 510), (690, 330), (580, 330)]


def check(drawn: Iterable[Line]) -> None:
    """Raises ValueError unless the lines are exactly the table, less what leaves things as they are."""
    found = [(source, shown, one.target) for one in drawn for source in one.sources for shown in one.evidence]
    table = {
        (state, shown, to) for state, row in NEXT.items() for shown, to in row.items() if to is not state
    }
    if set(found) != table or len(found) != len(table):
        wrong = sorted(f"{state} --{shown}--> {to}" for state, shown, to in set(found) ^ table)
        raise ValueError(f"the picture and the table differ; mend lines() in {Path(__file__).name}: {wrong}")


def draw() -> str:
    """The whole picture, as SVG."""
    drawn = lines()
    check(drawn)
    parts = [
        (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
         f'width="{WIDTH}" height="{HEIGHT}" aria-labelledby="title desc">'),
        '<title id="title">What is believed of an endpoint, and what changes it</title>',
        '<desc id="desc">Drawn from the table NEXT in proxy/core/fastopen.py by docs/draw_fastopen.py.</desc>',
        f"<style>{STYLE}</style>",
        HEAD,
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>',
        text(24, 38, "What is believed of an endpoint, and what changes it", "title"),
        text(24, 60, SUMMARY, "soft"),
    ]  # fmt: skip
    for x, y, width, height, title in ROOMS:
        parts.append(f'<rect class="room" x="{x}" y="{y}" width="{width}" height="{height}" rx="12"/>')
        parts.append(text(x + 14, y + 22, title, "soft"))
    parts += [f'<path class="line" d="{path}"/>' for path in BRANCHES]
    parts += [f'<path class="line" d="{one.path}"{arrow(one)}/>' for one in drawn]
    parts += [f'<circle class="head" cx="{x}" cy="{y}" r="3.2"/>' for x, y in JOINTS]
    parts.append('<path class="line time" d="M1075 428 V232" marker-end="url(#head)"/>')
    parts += [text(1067, 326, "the sentence", "soft end"), text(1067, 343, "is over", "soft end")]
    for one in drawn:
        parts += label(one)
    parts += [node(state) for state in ALL]
    parts += table()
    return "\n".join([*parts, "</svg>", ""])


def text(x: float, y: float, words: str, style: str) -> str:
    """One row of text."""
    return f'<text class="{style}" x="{x}" y="{y}">{escape(words)}</text>'


def arrow(one: Line) -> str:
    """The attribute that gives a line its arrow, unless it joins another."""
    return ' marker-end="url(#head)"' if one.arrow else ""


def label(one: Line) -> list[str]:
    """What is written on a line: its evidence, all losses in two words."""
    names = (
        ["any loss"]
        if one.evidence == LOSSES
        else [shown.value for shown in Evidence if shown in one.evidence]
    )
    rows: list[str] = []
    for count in one.rows:
        rows, names = (
            [*rows, ", ".join(names[:count]) + ("," if count > 1 and names[count:] else "")],
            names[count:],
        )
    if names:
        raise ValueError(f"no row for {names} on the line to {one.target}")
    x, y = one.label
    texts = [one.words + rows[0], *rows[1:]]
    return [text(x, y + 15 * n, row, f"mono {one.style}".strip()) for n, row in enumerate(texts) if row]


def node(state: State) -> str:
    """One state."""
    x, y = PLACE[state]
    left, top = x - NODE_WIDTH / 2, y - NODE_HEIGHT / 2
    return (
        f'<rect class="{LOOK[state]}" stroke-width="1.6" x="{left:g}" y="{top:g}" width="{NODE_WIDTH}" '
        f'height="{NODE_HEIGHT}" rx="9"/>' + text(x, y + 5, state.value.replace("_", " "), "name")
    )


def table() -> list[str]:
    """The table: a row for each state, a column for each evidence; empty where nothing changes."""
    left, top, column, row = 150.0, 712.0, 77.0, 31.0
    parts = [text(24, 596, "The whole table: state × evidence → state", "title")]
    parts.append(text(24, 618, "A dot: nothing changes.", "soft"))
    for number, evidence in enumerate(Evidence):
        x, y = left + column * number + 34, top - 10
        tilted = f'<text class="mono" transform="translate({x:g} {y:g}) rotate(-32)">'
        parts.append(f"{tilted}{escape(evidence.value)}</text>")
    for index, state in enumerate(ALL):
        y = top + row * index
        parts.append(f'<path class="grid" d="M24 {y:g} H{WIDTH - 24}"/>')
        parts.append(text(24, y + 20, state.value.replace("_", " "), ""))
        for number, evidence in enumerate(Evidence):
            to, x = NEXT[state][evidence], left + column * number
            if to is state:
                parts.append(text(x + column / 2, y + 20, "·", "cell soft"))
                continue
            parts.append(
                f'<rect class="cellbox {LOOK[to]}" x="{x + 2:g}" y="{y + 4:g}" width="{column - 4:g}" '
                f'height="{row - 8:g}" rx="5"/>' + text(x + column / 2, y + 19.5, SHORT[to], "cell")
            )
    return parts


SHORT = {state: state.value.replace("_doubted", "?") for state in ALL}


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
