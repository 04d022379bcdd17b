"""`python -m bench growth`: what one more costs: a session, an endpoint, a route, a millisecond of distance."""

from __future__ import annotations

import json
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import click

from bench import ours, paths
from bench.gauntlet import run as run_gauntlet
from bench.load import OUT, Load
from bench.peer import Peer
from bench.relay import cores, progress, stop
from bench.rounds import Bench
from bench.rows import SETTLE, Effort
from bench.runners import present
from proxy.lab.namespaces import LabUnavailableError
from proxy.lab.wan import Wan

SESSIONS = (10, 100, 1000, 8000)
ENDPOINTS = (1, 10, 100, 1000, 10_000)
ROUTES = (10, 100, 1000, 10_000)
RTTS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.3)


@dataclass(frozen=True, slots=True)
class Sweep:
    """What was measured at each size, and the straight line through it: ``fixed + each * size``."""

    title: str
    across: str
    up: str
    series: dict[str, list[tuple[float, float]]]

    def fits(self) -> dict[str, tuple[float, float, float]]:
        """Series → fixed, each, and how much of the differences the line explains (R²)."""
        return {label: fit(points) for label, points in self.series.items()}


def fit(points: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Least squares: the value at 0, the slope, and R²; of one point or none: that, flat."""
    if len(points) < 2:
        return (points[0][1] if points else 0.0), 0.0, 1.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    fixed = mean_y - slope * mean_x
    total = sum((y - mean_y) ** 2 for _, y in points)
    left = sum((y - fixed - slope * x) ** 2 for x, y in points)
    return fixed, slope, 1 - left / total if total else 1.0


def _cpu(bench: Bench, peer: Peer, opening: str, seconds: float, rounds: int, settle: float) -> float | None:
    """Microseconds of CPU for a short connection through ``peer``; the median of the rounds; None: none got through.

    ``settle``: seconds of work before, in which it gets to know its endpoints.
    """
    with bench.running(peer) as (subject, _):
        bench.load.ask(f"opening {opening}")
        bench.load.ask(f"short S {subject.port} 64 {settle} 100")
        taken = []
        for _ in range(rounds):
            before = subject.cpu()
            answer = bench.load.ask(f"short S {subject.port} 64 {seconds} 100")
            time.sleep(SETTLE)
            if answer.ops:
                taken.append(1e6 * (subject.cpu() - before) / answer.ops)
        bench.load.ask("opening none")
    return median(taken) if taken else None


def _memory(bench: Bench, sizes: Sequence[int]) -> list[tuple[float, float]]:
    """MiB of memory with so many idle sessions."""
    points: list[tuple[float, float]] = []
    peer = Peer("ours", lambda: "", ours.ours(ours.OURS, sessions=False))
    with bench.running(peer) as (subject, _):
        assert subject.process is not None
        for size in sizes:
            opened = bench.load.ask(f"idle {subject.port} {size}").open
            time.sleep(0.3)
            points.append((opened, subject.process.resident() / 2**20))
            bench.load.ask("drop")
    return points


def _distance(rtts: Sequence[float], connections: int) -> dict[str, list[tuple[float, float]]]:
    """Milliseconds until the first byte over a clean path to a server with Fast Open, by runner."""
    (clean,) = paths.choose("clean")
    runners, _, _ = present([])
    series: dict[str, list[tuple[float, float]]] = {}
    for rtt in rtts:
        progress(f"{rtt * 1000:g} ms")
        with Wan(rtt=rtt) as wan, wan.client.entered():
            for runner in runners:
                result = run_gauntlet(wan, clean, runner, connections)
                if result.times:
                    series.setdefault(runner.name, []).append((rtt * 1000, median(result.times) * rtt * 1000))
    return series


def _sweep(sizes: Sequence[int], measured: Callable[[int], float | None]) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    for size in sizes:
        progress(f"{size}")
        value = measured(size)
        if value is not None:
            points.append((size, value))
    return points


@click.command()
@click.option("--quick", is_flag=True, help="Few and short: does it work.")
@click.option("--name", default="growth", show_default=True, help="The result is bench/out/NAME.json.")
def growth(quick: bool, name: str) -> None:
    """How cost grows with sessions, endpoints, routes and distance, and the line through it."""
    signal.signal(signal.SIGTERM, stop)
    seconds, rounds = (0.2, 1) if quick else (0.7, 3)
    load_core, relay_core = cores()
    last = 3 if quick else None
    sweeps: dict[str, Sweep] = {}
    with Load(load_core) as load, tempfile.TemporaryDirectory(prefix="bench-") as directory:
        bench = Bench(load, relay_core, Path(directory), Effort(), [], progress, [])

        def by_endpoints(size: int) -> float | None:
            peer = Peer("ours", lambda: "", ours.ours_balancing(size))
            return _cpu(bench, peer, "none", seconds, rounds, 3 * seconds if size < 1000 else 6 * seconds)

        def by_routes(size: int) -> float | None:
            peer = Peer("ours", lambda: "", ours.ours_asking("socks", size), way="routes")
            return _cpu(bench, peer, "socks", seconds, rounds, seconds)

        sweeps["sessions"] = Sweep(
            "Memory, by idle sessions", "sessions", "MiB", {"ours": _memory(bench, SESSIONS[:last])}
        )
        sweeps["routes"] = Sweep(
            "CPU of a short connection by SOCKS, by routes", "routes", "µs",
            {"ours": _sweep(ROUTES[:last], by_routes)},
        )  # fmt: skip
        bench.more_ports(ENDPOINTS[:last][-1] - 1)  # so many descriptors are missed by whoever comes next
        sweeps["endpoints"] = Sweep(
            "CPU of a short connection, by endpoints of its cluster", "endpoints", "µs",
            {"ours": _sweep(ENDPOINTS[:last], by_endpoints)},
        )  # fmt: skip
    try:
        sweeps["distance"] = Sweep(
            "Time to the first byte, by round trip",
            "round trip, ms",
            "ms",
            _distance(RTTS[:last], 3 if quick else 6),
        )
    except LabUnavailableError as error:
        click.echo(f"left out: distance: {error}", err=True)
    progress("")
    OUT.mkdir(exist_ok=True)
    document = {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "sweeps": {key: asdict(sweep) | {"fits": sweep.fits()} for key, sweep in sweeps.items()},
    }
    (OUT / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    for key, sweep in sweeps.items():
        for label, (fixed, each, explained) in sweep.fits().items():
            points = ", ".join(f"{x:g}: {y:.4g}" for x, y in sweep.series[label])
            click.echo(
                f"{key}, {label}: {fixed:.4g} + {each:.3g} × {sweep.across} {sweep.up} (R² {explained:.2f}); {points}"
            )
