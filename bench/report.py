"""`python -m bench report`: what the last runs have found, as Markdown and as plots; with `--write-docs` into the docs.

It reads bench/out/{relay,growth,gauntlet,pages}.json, as far as they are there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeAlias

import click

from bench.gauntlet import Result
from bench.gauntlet import markdown as table_of_paths
from bench.load import OUT
from bench.paths import PATHS
from bench.peer import DIRECT
from bench.plot import Bar, Line, bars, lines, short
from bench.rows import ROWS, Row

Document: TypeAlias = dict[str, Any]

DOCS = Path(__file__).parents[1] / "docs"
PAGE, PLOTS = DOCS / "performance.md", DOCS / "plots"
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
HIDDEN = frozenset({"busy", "load_busy"})
"""Columns of the terminal that the page does without."""
PLOTTED = {
    "short": ("cpu_us", "CPU of a short connection, µs"),
    "kept": ("cpu_us", "CPU of a request and its answer, 1 KiB each, µs"),
    "bulk-down": ("cpu_gb", "CPU of a gigabyte, s"),
    "idle": ("idle_kib", "Memory of an idle connection, KiB"),
    "socks": ("cpu_us", "CPU of a short connection opened by SOCKS, µs"),
    "connect": ("cpu_us", "CPU of a short connection opened by CONNECT, µs"),
}


def read(name: str) -> Document | None:
    """The result of one benchmark; None where it has not run."""
    try:
        found: Document = json.loads((OUT / f"{name}.json").read_text())
    except (OSError, ValueError):
        return None
    return found


def _cell(figure: Document | None, digits: int) -> str:
    if figure is None:
        return "–"
    value = figure["value"]
    text = f"{value['median']:,.{digits}f}"
    least, most = f"{value['min']:,.{digits}f}", f"{value['max']:,.{digits}f}"
    return text if least == most else f"{text} ({least}–{most})"


def _row(row: Row, peers: Mapping[str, Document]) -> Iterator[str]:
    """One table: a line a relay, a column a metric, and the ratio to the row's baseline beside the first."""
    metrics = [metric for metric in row.metrics if metric.key not in HIDDEN]
    yield f"**{row.title[0].upper()}{row.title[1:]}**"
    yield ""
    yield (
        "| "
        + " | ".join(
            ["", *(f"{metric.title} | ×" if at == 0 else metric.title for at, metric in enumerate(metrics))]
        )
        + " |"
    )
    yield "|---" + "|---:" * (len(metrics) + 1) + "|"
    for peer, found in peers.items():
        cells = [peer]
        for at, metric in enumerate(metrics):
            figure = found.get(metric.key)
            cells.append(_cell(figure, metric.digits))
            if at == 0:
                cells.append(f"{figure['ratio']['median']:.2f}" if figure and figure["ratio"] else "–")
        yield "| " + " | ".join(cells) + " |"
    failed = [
        f"{peer}: {found['failed']['value']['max']:,.0f}"
        for peer, found in peers.items()
        if "failed" in found
    ]
    if failed:
        yield f"\nConnections that failed in a run, at most: {', '.join(failed)}."


def tables(relay: Document) -> Iterator[str]:
    """Everything `python -m bench relay` has measured."""
    machine = relay["machine"]
    peers = ", ".join(f"{peer} {version}" for peer, version in relay["peers"].items())
    yield (
        f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}; one core "
        f"for the relay, one for the load. {relay['rounds']} rounds, {relay['effort']['seconds']:g} s a measurement, "
        f"{relay['began'][:16].replace('T', ' ')} UTC. {peers}."
    )
    for row in ROWS:
        if row.name in relay["summary"]:
            yield ""
            yield from _row(row, relay["summary"][row.name])
            if row.name in PLOTTED:
                yield ""
                yield f"![{PLOTTED[row.name][1]}](plots/{row.name}.svg)"
    for peer, why in relay["left_out"].items():
        yield f"\nLeft out: {peer} ({why.partition(' | ')[0]})."
    disturbed = [
        found["disturbed"]["value"]["median"]
        for peers in relay["summary"].values() for found in peers.values() if "disturbed" in found
    ]  # fmt: skip
    if disturbed and max(disturbed) > 5:
        yield (
            f"\nOther programs were running: relay or load waited up to {max(disturbed):.0f} % of the time for a core. "
            "Rates are too low, CPU a little too high."
        )


def grown(growth: Document) -> Iterator[str]:
    """What one more costs."""
    yield "| | at | each one more | R² | plot |"
    yield "|---|---|---:|---:|---|"
    for key, sweep in growth["sweeps"].items():
        for label, points in sweep["series"].items():
            _, each, explained = sweep["fits"][label]
            ends = ", ".join(f"{short(x)}: {short(y)} {sweep['up']}" for x, y in (points[0], points[-1]))
            title = f"{sweep['title']}, {label}" if len(sweep["series"]) > 1 else sweep["title"]
            yield f"| {title} | {ends} | {each:.3g} {sweep['up']} | {explained:.2f} | [plot](plots/{key}.svg) |"


def plots(relay: Document | None, growth: Document | None) -> dict[str, str]:
    """File name → drawing."""
    drawn: dict[str, str] = {}
    for name, (key, title) in PLOTTED.items():
        peers: dict[str, Document] = relay["summary"].get(name, {}) if relay else {}
        found = [
            Bar(peer, value["median"], value["min"], value["max"])
            for peer, figures in peers.items()
            if peer != DIRECT and key in figures and (value := figures[key]["value"])
        ]
        if found:
            drawn[f"{name}.svg"] = bars(title, found)
    for name, sweep in growth["sweeps"].items() if growth else ():
        several = [Line(label, [(x, y) for x, y in points]) for label, points in sweep["series"].items()]
        drawn[f"{name}.svg"] = lines(sweep["title"], sweep["across"], sweep["up"], several)
    return drawn


def bad_paths(gauntlet: Document) -> Iterator[str]:
    """Round trips until the first byte, on each path that was driven."""
    results: dict[str, dict[str, Result]] = {}
    for one in gauntlet["results"]:
        taken = {field.name: one[field.name] for field in fields(Result) if field.name in one}
        results.setdefault(one["path"], {})[one["runner"]] = Result(**taken)
    driven = [path for path in PATHS if path.name in results]
    yield f"Mean of the connections on each path, in round trips of {gauntlet['rtt'] * 1000:g} ms."
    yield ""
    yield table_of_paths(driven, results, gauntlet["runners"])


def markdown(relay: Document | None, growth: Document | None, gauntlet: Document | None = None) -> str:
    """What stands between the page's markers."""
    parts: list[str] = []
    if relay:
        parts += tables(relay)
    if growth:
        parts += ["", "### How cost grows", "", *grown(growth), ""]
        parts += [f"![{sweep['title']}](plots/{name}.svg)" for name, sweep in growth["sweeps"].items()]
    if gauntlet:
        parts += ["", "### Time to the first byte", "", *bad_paths(gauntlet)]
    return "\n".join(parts).strip()


def between(page: str, text: str, begin: str = BEGIN, end: str = END) -> str:
    """The page with ``text`` between its markers; raises ValueError where it has none."""
    head, found, rest = page.partition(begin)
    _, ends, tail = rest.partition(end)
    if not (found and ends):
        raise ValueError(f"the page has no {begin} … {end}")
    return f"{head}{begin}\n{text}\n{end}{tail}"


@click.command()
@click.option("--write-docs", is_flag=True, help="Put it into docs/performance.md, and the plots beside it.")
@click.option("--relay", default="relay", show_default=True, help="The run to take, bench/out/NAME.json.")
@click.option("--growth", default="growth", show_default=True, help="The same.")
def report(write_docs: bool, relay: str, growth: str) -> None:
    """The last results as Markdown."""
    run, grew = read(relay), read(growth)
    if run is None and grew is None:
        raise click.ClickException("nothing has been measured yet: python -m bench")
    text = markdown(run, grew, read("gauntlet"))
    click.echo(text)
    if write_docs:
        write(text, plots(run, grew))


def write(text: str, drawings: Mapping[str, str], page: Path = PAGE, folder: Path = PLOTS) -> Sequence[Path]:
    """Put it where it belongs; the files that were written."""
    page.write_text(between(page.read_text(), text))
    folder.mkdir(exist_ok=True)
    written = [page]
    for name, drawing in drawings.items():
        (folder / name).write_text(drawing)
        written.append(folder / name)
    click.echo(f"written: {', '.join(str(path) for path in written)}", err=True)
    return written
