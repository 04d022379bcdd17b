"""What is measured: one row, one kind of work. A new row is one line in `ROWS`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.load import Answer, Load
from bench.peer import BASELINE, DIRECT
from bench.process import Process, waited

Sample = dict[str, float]
SETTLE = 0.03
"""Seconds after a run until CPU is read: the relay still closes the last connections."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One column: `key` in samples, `title` with its unit on the terminal, `digits` after the point."""

    key: str
    title: str
    digits: int = 0


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured now: a relay on `port`, or the generator's own server (no process).

    `kept_short`: of CPU, so that it waits for a core at all times.
    """

    port: int
    process: Process | None
    kept_short: bool = False

    def cpu(self) -> float:
        return self.process.cpu() if self.process else 0.0

    def undisturbed(self) -> list[int]:
        """The processes that never wait for a core unless other programs are running."""
        return self.process.pids() if self.process and not self.kept_short else []


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how many: seconds of one measurement, and of its warm-up; idle connections."""

    seconds: float = 1.0
    warm_up: float = 0.2
    idle: int = 8000


Measure = Callable[[Load, Subject, Effort], Sample]


@dataclass(frozen=True, slots=True)
class Row:
    """`measure` None: taken whenever a relay starts. `fresh`: on a relay that has just been started.

    `extra`: only when it is asked for by name. `way`: the relays that are measured are set up for this. `peers`: only
    these of them. `opening`: what clients ask for before their request, see load.c. `baseline`: whom ratios are to.
    """

    name: str
    title: str
    metrics: tuple[Metric, ...]
    measure: Measure | None
    fresh: bool = False
    extra: bool = False
    way: str = "forward"
    peers: tuple[str, ...] = ()
    opening: str = "none"
    baseline: str = BASELINE

    def takes(self, peer: str) -> bool:
        """Whether this relay is measured here."""
        return not self.peers or peer in self.peers


BUSY = (Metric("busy", "relay busy %"), Metric("load_busy", "load busy %"))
OPERATIONS = (
    Metric("cpu_us", "CPU us each", 1),
    Metric("rate", "per second"),
    Metric("p50_us", "p50 us"),
    Metric("p99_us", "p99 us"),
    *BUSY,
)
BULK = (Metric("gb_s", "GB/s", 2), Metric("cpu_gb", "CPU s per GB", 3), *BUSY)
SHARES = (Metric("rate", "per second"), Metric("cpu_us", "CPU us each", 1), *OPERATIONS[2:])
START = (
    Metric("start_mib", "MiB at start", 1),
    Metric("start_ms", "ms to first reply"),
    Metric("start_cpu_ms", "ms of CPU until then"),
)
IDLE = (Metric("idle_kib", "KiB each", 2), Metric("idle_mib", "MiB in all", 1), Metric("open", "open"))


def _watched(load: Load, subject: Subject, command: str) -> tuple[Answer, Sample]:
    """Runs `command`: what it did, and what is the same for every kind of work.

    `disturbed` is the share of the time in which relay or load waited for a core that other programs had.
    """
    cpu, delay = subject.cpu(), waited([load.pid, *subject.undisturbed()])
    answer = load.ask(command)
    delay = waited([load.pid, *subject.undisturbed()]) - delay
    time.sleep(SETTLE)
    sample: Sample = {
        "load_busy": 100 * answer.cpu / answer.seconds,
        "disturbed": 100 * delay / answer.seconds,
    }
    if subject.process:
        sample["cpu_s"] = subject.cpu() - cpu
        sample["busy"] = 100 * sample["cpu_s"] / answer.seconds
    if failed := answer.errors + answer.stalled:
        sample["failed"] = failed
    return answer, sample


def _operations(command: str) -> Measure:
    def measure(load: Load, subject: Subject, effort: Effort) -> Sample:
        def at(seconds: float) -> str:
            return command.format(port=subject.port, seconds=seconds)

        load.ask(at(effort.warm_up))
        answer, sample = _watched(load, subject, at(effort.seconds))
        if answer.ops:
            sample |= {"rate": answer.ops / answer.seconds, "ops": answer.ops}
            sample |= {"p50_us": answer.p50_us, "p99_us": answer.p99_us, "p999_us": answer.p999_us}
            if subject.process:
                sample["cpu_us"] = 1e6 * sample["cpu_s"] / answer.ops
        return sample

    return measure


def _bulk(kind: str, concurrency: int) -> Measure:
    def measure(load: Load, subject: Subject, effort: Effort) -> Sample:
        load.ask(f"bulk {kind} {subject.port} {concurrency} {effort.warm_up}")
        answer, sample = _watched(load, subject, f"bulk {kind} {subject.port} {concurrency} {effort.seconds}")
        if answer.bytes:
            sample |= {"gb_s": answer.bytes / 1e9 / answer.seconds, "bytes": answer.bytes}
            if subject.process:
                sample["cpu_gb"] = sample["cpu_s"] / (answer.bytes / 1e9)
        return sample

    return measure


def _idle(load: Load, subject: Subject, effort: Effort) -> Sample:
    if subject.process is None:
        return {}
    load.ask(f"short S {subject.port} 64 {effort.warm_up} 100")
    time.sleep(0.2)
    before = subject.process.resident()
    answer = load.ask(f"idle {subject.port} {effort.idle}")
    time.sleep(0.3)
    after = subject.process.resident()
    load.ask("drop")
    sample: Sample = {"open": answer.open, "idle_mib": after / 2**20}
    if answer.open:
        sample["idle_kib"] = (after - before) / 1024 / answer.open
    if failed := effort.idle - answer.open:
        sample["failed"] = failed
    return sample


def _short(kind: str, concurrency: int) -> Measure:
    return _operations(f"short {kind} {{port}} {concurrency} {{seconds}} 100")


def _settled(measure: Measure, seconds: float) -> Measure:
    """The same when a relay has had so many seconds of work to get to know its endpoints."""

    def later(load: Load, subject: Subject, effort: Effort) -> Sample:
        measure(load, subject, replace(effort, seconds=seconds))
        return measure(load, subject, effort)

    return later


def _kept(concurrency: int, size: int) -> Measure:
    return _operations(f"kept {{port}} {concurrency} {{seconds}} {size}")


LATENCY = (
    Metric("p50_us", "p50 us"),
    Metric("p99_us", "p99 us"),
    Metric("p999_us", "p99.9 us"),
    Metric("added_p50_us", "p50 added"),
    Metric("added_p99_us", "p99 added"),
    Metric("added_p999_us", "p99.9 added"),
    Metric("cpu_us", "CPU us each", 1),
)
FEW = ("haproxy", "nginx", "ours", "ours-log", DIRECT)
"""The relays of rows that say little of the others."""
KEEPING = ("haproxy", "nginx", "shadowsocks", "pproxy", "ours", "ours-log", "ours-debian", DIRECT)
MOVING = ("haproxy", "nginx", "shadowsocks", "pproxy", "ours", DIRECT)
FRUGAL = ("haproxy", "nginx", "shadowsocks", "pproxy", "ours", "ours-log")
"""Those that have no process for each connection."""
START_ROW = Row("start", "start: memory, and time until the first reply", START, None)
ROWS = (
    START_ROW,
    Row("short", "short connections: 100 B each way, then close; 64 at a time", OPERATIONS, _short("S", 64)),
    Row("short-1", "short connections, one at a time", OPERATIONS, _short("S", 1), peers=FEW),
    Row("short-1000", "short connections, 1,000 at a time", OPERATIONS, _short("S", 1000), peers=FEW),
    Row("short-client", "short connections the client closes; 64", OPERATIONS, _short("C", 64), extra=True),
    Row("short-http", "short connections that open with a GET; 64", OPERATIONS, _short("G", 64), extra=True),
    Row("kept", "requests on 64 kept connections, 1 KiB each way", OPERATIONS, _kept(64, 1024), peers=KEEPING),
    Row("kept-1B", "requests on 64 kept connections, 1 B", OPERATIONS, _kept(64, 1), peers=FEW),
    Row("kept-64K", "requests on 64 kept connections, 64 KiB", OPERATIONS, _kept(64, 65536), peers=FEW),
    Row("latency", "latency: one kept connection, 1 KiB each way", LATENCY, _kept(1, 1024), peers=FEW),
    Row("bulk-down", "bulk from the server, 4 connections", BULK, _bulk("D", 4), peers=MOVING),
    Row("bulk-up", "bulk from the client, 4 connections", BULK, _bulk("U", 4), peers=MOVING),
    Row("bulk-down-1", "bulk from the server, 1 connection", BULK, _bulk("D", 1), extra=True),
    Row("idle", "idle connections: memory", IDLE, _idle, fresh=True, peers=FRUGAL),
    Row(
        "socks", "short connections opened by SOCKS 5; 64 at a time", OPERATIONS, _short("S", 64),
        way="socks", opening="socks", baseline="dante",
    ),
    Row(
        "connect", "short connections opened by CONNECT; 64 at a time", OPERATIONS, _short("S", 64),
        way="connect", opening="connect", baseline="squid",
    ),
    Row(
        "routes", "short connections by SOCKS through 10 and 10,000 routes; 64 at a time", OPERATIONS,
        _short("S", 64), way="routes", opening="socks", baseline="10-routes",
    ),
    Row(
        "endpoints", "short connections to a cluster of 10 and of 1,000 endpoints; 64 at a time", OPERATIONS,
        _settled(_short("S", 64), 2.0), way="endpoints", baseline="10-endpoints",
    ),
    Row(
        "workers", "short connections through 1 and 2 workers, which share both cores with the load; 256 at a time",
        OPERATIONS, _short("S", 256), way="workers", baseline="1-worker",
    ),
    Row(
        "shares", "short connections through 1 and 2 workers that have a quarter of a core each; 256 at a time",
        SHARES, _short("S", 256), way="shares", baseline="1-share",
    ),
)  # fmt: skip


def choose(names: str) -> list[Row]:
    """Rows by name or by the first word of it (`bulk` is both directions); `all` includes the extra ones.

    Raises ValueError, which names what is not there.
    """
    if names == "all":
        return list(ROWS)
    if not names:
        return [row for row in ROWS if not row.extra]
    chosen: list[Row] = []
    for name in names.split(","):
        exact = [row for row in ROWS if row.name == name]
        found = exact or [row for row in ROWS if row.name.startswith(f"{name}-") and not row.extra]
        if not found:
            raise ValueError(f"no row {name!r}; there are: {', '.join(row.name for row in ROWS)}")
        chosen += [row for row in found if row not in chosen]
    return chosen
