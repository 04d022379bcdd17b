"""`python -m bench relay`: what relaying costs, ours beside everybody else's."""

from __future__ import annotations

import contextlib
import os
import platform
import pstats
import signal
import sys
import tempfile
from collections.abc import Container, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import click

from bench.load import OUT, Load, LoadError
from bench.ours import ours
from bench.peer import BASELINE, DIRECT, Missing, Peer
from bench.peers import PEERS
from bench.rounds import Bench, Unready
from bench.rows import ROWS, Effort, choose
from bench.table import draw, summarize, write

QUICK = Effort(seconds=0.3, warm_up=0.1, idle=200)


def progress(text: str) -> None:
    """What is going on, on a terminal."""
    if sys.stderr.isatty():
        click.echo(f"\r\033[K{text}", nl=False, err=True)


def cores() -> tuple[int, int]:
    """One core for the load, another for the relay."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise click.ClickException("two cores are needed: one for the relay, one for the load")
    return cores[0], cores[1]


def _present(only: Sequence[str], ways: Container[str]) -> tuple[list[Peer], dict[str, str], dict[str, str]]:
    """The relays to measure, their versions, and those that are not here with the reason."""
    names = [peer.name for peer in PEERS]
    if unknown := [name for name in only if name not in (*names, DIRECT)]:
        raise click.BadParameter(f"no peer {', '.join(unknown)}; there are: {', '.join((*names, DIRECT))}")
    here: list[Peer] = []
    versions: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for peer in PEERS:
        if (peer.name not in only if only else peer.extra) or peer.way not in ways:
            continue
        try:
            versions[peer.name] = peer.version()
            here.append(peer)
        except Missing as missing:
            left_out[peer.name] = str(missing)
    return here, versions, left_out


def _machine() -> dict[str, object]:
    model = "unknown"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "kernel": platform.release(),
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }


def stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@click.command()
@click.option(
    "--rows", default="", metavar="NAME,…", help="Rows, e.g. short,kept,bulk,idle; `all` for every one."
)
@click.option("--only", default="", metavar="PEER,…", help="Relays, e.g. haproxy,ours.")
@click.option("--rounds", type=click.IntRange(1), help="Times everything is done.  [default: 3]")
@click.option("--seconds", type=click.FloatRange(0.05), help="Length of one measurement.  [default: 1]")
@click.option("--idle", type=click.IntRange(1), help="Idle connections to hold.  [default: 8000]")
@click.option("--quick", is_flag=True, help="One short round: does it work, not how fast is it.")
@click.option("--name", default="relay", show_default=True, help="The result is bench/out/NAME.json.")
@click.option("--profile", metavar="ROW", help="Instead: one row of ours under cProfile, bench/out/ROW.prof.")
def relay(  # noqa: PLR0913, PLR0917 -- one parameter an option
    rows: str,
    only: str,
    rounds: int | None,
    seconds: float | None,
    idle: int | None,
    quick: bool,
    name: str,
    profile: str | None,
) -> None:
    """CPU, rates, throughput and memory of this relay beside HAProxy, nginx and pproxy, on loopback."""
    signal.signal(signal.SIGTERM, stop)
    base = QUICK if quick else Effort()
    effort = Effort(seconds or base.seconds, base.warm_up, idle or base.idle)
    try:
        if profile:
            _profile(profile, effort)
        else:
            _measure(
                rows, [part for part in only.split(",") if part], rounds or (1 if quick else 3), effort, name
            )
    except LoadError as error:
        raise click.ClickException(str(error)) from None


def _measure(rows: str, only: Sequence[str], rounds: int, effort: Effort, name: str) -> None:
    try:
        chosen = choose(rows)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    load_core, relay_core = cores()
    here, versions, left_out = _present(only, {row.way for row in chosen})
    about: dict[str, object] = {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "effort": asdict(effort),
        "rounds": rounds,
        "baseline": BASELINE,
        "peers": versions,
    }
    with Load(load_core) as load, tempfile.TemporaryDirectory(prefix="bench-") as directory:
        bench = Bench(load, relay_core, Path(directory), effort, chosen, progress, here, left_out=left_out)
        for turn in range(rounds):
            bench.one_round(turn, direct=not only or DIRECT in only)
        progress("")
    figures = summarize(bench.samples, {row.name: row.baseline for row in ROWS})
    file = OUT / f"{name}.json"
    write(file, bench.samples, figures, {**about, "left_out": bench.left_out})
    click.echo(_heading(versions, rounds, effort))
    click.echo(draw(ROWS, figures))
    for peer, why in bench.left_out.items():
        click.echo(f"\nleft out: {peer}: {why}")
    click.echo(f"\n{file}")


def _heading(versions: dict[str, str], rounds: int, effort: Effort) -> str:
    machine = _machine()
    named = ", ".join(f"{peer} {version}" for peer, version in versions.items())
    where = f"{machine['cpu']}, Linux {machine['kernel']}, Python {machine['python']}"
    return (
        f"{named}\n{where}; one core for the relay, one for the load\n"
        f"{rounds} rounds, {effort.seconds:g} s a measurement, relays in turn: median (min–max); "
        f"×: median of the ratios to {BASELINE} in the same round\n"
    )


def _profile(row_name: str, effort: Effort) -> None:
    """Runs ours under cProfile: the relay must be one process (`workers: 1`) and end on SIGTERM."""
    (row,) = choose(row_name)[:1]
    load_core, relay_core = cores()
    OUT.mkdir(exist_ok=True)
    file = OUT / f"{row.name}.prof"
    prefix = [sys.executable, "-m", "cProfile", "-o", str(file), "-m", "proxy"]
    peer = Peer("ours", lambda: "", ours(prefix, sessions=False))
    with Load(load_core) as load, tempfile.TemporaryDirectory(prefix="bench-") as directory:
        bench = Bench(load, relay_core, Path(directory), effort, [row], progress, [peer])
        try:
            with bench.running(peer) as (subject, _):
                if row.measure:
                    row.measure(load, subject, effort)
        except Unready as error:
            raise click.ClickException(f"ours {error}") from None
    if not file.exists():
        raise click.ClickException("no profile was written: the relay did not end by itself on SIGTERM")
    pstats.Stats(str(file)).sort_stats("tottime").print_stats(35)
    click.echo(str(file))
