"""Samples → medians, spreads and ratios → a table for people and JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

from bench.peer import BASELINE, DIRECT
from bench.rows import Metric, Row, Sample

QUANTILES = ("p50_us", "p99_us", "p999_us")


@dataclass(frozen=True, slots=True)
class Taken:
    """One sample: what `peer` did in `row` in this round."""

    round: int
    row: str
    peer: str
    values: Sample


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of a metric over the rounds, its smallest and largest value."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        return cls(median(values), min(values), max(values)) if values else None


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric of one peer, and its ratio to the baseline's value *of the same round*."""

    value: Spread
    ratio: Spread | None


Figures = dict[str, dict[str, dict[str, Figure]]]
"""Row → peer → metric → figure."""


def _by_round(samples: Iterable[Taken], row: str, peer: str, metric: str) -> dict[int, float]:
    return {
        taken.round: taken.values[metric]
        for taken in samples
        if taken.row == row and taken.peer == peer and metric in taken.values
    }


def summarize(samples: Sequence[Taken], baselines: Mapping[str, str]) -> Figures:
    """Medians and spreads of everything that was measured, in the order it was measured in.

    ``baselines``: row → the peer that others are compared with; where none is named, HAProxy.
    """
    figures: Figures = {}
    samples = with_added(samples)
    for row, peer in dict.fromkeys((taken.row, taken.peer) for taken in samples):
        keys = dict.fromkeys(
            key for taken in samples if (taken.row, taken.peer) == (row, peer) for key in taken.values
        )
        for key in keys:
            own = _by_round(samples, row, peer, key)
            base = _by_round(samples, row, baselines.get(row, BASELINE), key)
            ratios = [own[turn] / base[turn] for turn in own if base.get(turn)]
            if value := Spread.of(list(own.values())):
                figures.setdefault(row, {}).setdefault(peer, {})[key] = Figure(value, Spread.of(ratios))
    return figures


def with_added(samples: Sequence[Taken]) -> list[Taken]:
    """The same, and what each relay adds to the latency of no relay in the same round."""
    direct = {(taken.round, taken.row): taken.values for taken in samples if taken.peer == DIRECT}
    more: list[Taken] = []
    for taken in samples:
        bare = direct.get((taken.round, taken.row), {}) if taken.peer != DIRECT else {}
        added = {
            f"added_{key}": taken.values[key] - bare[key]
            for key in QUANTILES
            if key in bare and key in taken.values
        }
        more.append(replace(taken, values={**taken.values, **added}))
    return more


def _cell(figure: Figure | None, metric: Metric) -> str:
    if figure is None:
        return "-"

    def text(number: float) -> str:
        return f"{number:,.{metric.digits}f}"

    value = figure.value
    spread = f" ({text(value.min)}–{text(value.max)})" if value.min != value.max else ""
    return text(value.median) + spread


def _ratio(figure: Figure | None) -> str:
    return f"{figure.ratio.median:.2f}×" if figure and figure.ratio else "-"


def _aligned(lines: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  " + cells[0].ljust(widths[0]) + "".join("  " + cell.rjust(width) for cell, width in rest)
        for cells in lines
        for rest in [list(zip(cells[1:], widths[1:], strict=True))]
    ]


UNRATED = {"busy", "load_busy", "open"}
"""Columns that are no achievement: no ratio beside them."""


CALM = 5.0
"""Percent of the time that others may take a core until rates are called disturbed."""


def _notes(peers: dict[str, dict[str, Figure]]) -> list[str]:
    notes = []
    for peer, found in peers.items():
        if failed := found.get("failed"):
            notes.append(f"  ! {peer}: up to {failed.value.max:,.0f} connections failed in a run")
    shares = [found["disturbed"].value.median for found in peers.values() if "disturbed" in found]
    if shares and max(shares) > CALM:
        notes.append(
            f"  ! other programs were running: relay or load waited {min(shares):.0f} to {max(shares):.0f} % of the"
            " time for a core; rates are too low, CPU a little too high"
        )
    return notes


def _block(row: Row, peers: dict[str, dict[str, Figure]], *, rated: bool) -> str:
    head = [row.name]
    for metric in row.metrics:
        head += [metric.title] + (["×"] if rated and metric.key not in UNRATED else [])
    lines = [head]
    for peer, found in peers.items():
        cells = [peer]
        for metric in row.metrics:
            figure = found.get(metric.key)
            cells.append(_cell(figure, metric))
            if rated and metric.key not in UNRATED:
                cells.append(_ratio(figure))
        lines.append(cells)
    return "\n".join([row.title, *_aligned(lines), *_notes(peers)])


def draw(rows: Sequence[Row], figures: Figures) -> str:
    """The table: one block a row, one line a peer; medians (spread) and the ratio to the row's baseline."""
    return "\n\n".join(
        _block(row, peers, rated=row.baseline in peers) for row in rows if (peers := figures.get(row.name))
    )


def write(file: Path, samples: Sequence[Taken], figures: Figures, about: dict[str, object]) -> None:
    """Everything as JSON: what it was measured on, every sample, every figure."""
    summary = {
        row: {peer: {key: asdict(figure) for key, figure in keys.items()} for peer, keys in peers.items()}
        for row, peers in figures.items()
    }
    document = {"format": 1, **about, "summary": summary, "samples": [asdict(taken) for taken in samples]}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=1) + "\n")
