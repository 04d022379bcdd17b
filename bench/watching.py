"""`python -m bench watching`: what it costs to be watched, and what counting costs.

Our program with an admin relays short connections, in turns with nobody looking, and with a scraper of /metrics and two
readers of the event stream, each second, while the page's other paths are asked, too. The figure is CPU of the whole
program per connection; rounds alternate, so that what the machine does meanwhile falls on both.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from bench.load import OUT, Load
from bench.process import Process, pinned
from proxy.core.evidence import Evidence
from proxy.core.outcomes import EndedBy, Reason, Stage
from proxy.core.record import SessionRecord
from proxy.lab.namespaces import python_environment
from proxy.telemetry.counters import Counters

MOST = 3.0  # percent
READERS = 2


class Turn(NamedTuple):
    """CPU per connection in microseconds, and connections."""

    cpu_us: float
    connections: int


@click.command()
@click.option("--quick", is_flag=True, help="Seconds instead of minutes.")
@click.option("--rounds", default=0, help="How often each; 0: as many as it takes.")
def watching(quick: bool, rounds: int) -> None:
    """CPU per short connection, watched and not; nanoseconds per counted session."""
    seconds, rounds = (0.5, rounds or 4) if quick else (3.0, rounds or 16)
    cores = sorted(os.sched_getaffinity(0))
    turns: dict[bool, list[Turn]] = {False: [], True: []}
    with (
        tempfile.TemporaryDirectory() as folder,
        Load(cores[-1]) as load,
        _program(load, Path(folder)) as started,
    ):
        process, port, admin = started
        _turn(load, process, port, seconds)
        for number in range(2 * rounds):
            watched = number % 4 in {1, 2}  # ABBA
            # Whoever watches is no part of it: kept away from the core that is measured.
            with pinned(cores[-1]), _watchers(admin) if watched else contextlib.nullcontext():
                turns[watched].append(_turn(load, process, port, seconds))
    _report(turns, _counting())


@contextlib.contextmanager
def _program(load: Load, folder: Path) -> Iterator[tuple[Process, int, int]]:
    ports = [_free(), _free()]
    document = {
        "listeners": {
            "a": {"bind": f"127.0.0.1:{ports[0]}", "mode": "forward", "to": f"127.0.0.1:{load.port}"}
        },
        "admin": {"bind": f"127.0.0.1:{ports[1]}"},
        "log": {"format": "json", "sessions": False},
    }
    (folder / "proxy.yaml").write_text(json.dumps(document))
    command = [sys.executable, "-m", "proxy", "run", str(folder / "proxy.yaml")]
    core = min(os.sched_getaffinity(0))
    with Process(command, core=core, directory=folder, env=python_environment()) as process:
        until = time.monotonic() + 20
        while b'"ready"' not in process.output.read_bytes():
            if process.ended or time.monotonic() > until:
                raise click.ClickException(process.last_words())
            time.sleep(0.05)
        yield process, ports[0], ports[1]


def _turn(load: Load, process: Process, port: int, seconds: float) -> Turn:
    cpu = process.cpu()
    answer = load.ask(f"short S {port} 64 {seconds} 100")
    time.sleep(0.05)
    return Turn(1e6 * (process.cpu() - cpu) / max(answer.ops, 1), answer.ops)


@contextlib.contextmanager
def _watchers(admin: int) -> Iterator[None]:
    over = threading.Event()
    threads = [threading.Thread(target=_scrape, args=(admin, over))]
    threads += [threading.Thread(target=_read, args=(admin, over)) for _ in range(READERS)]
    for thread in threads:
        thread.start()
    yield
    over.set()
    for thread in threads:
        thread.join()


def _scrape(admin: int, over: threading.Event) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", admin, timeout=10)
    while True:
        connection.request("GET", "/metrics")
        connection.getresponse().read()
        if over.wait(1.0):
            connection.close()
            return


def _read(admin: int, over: threading.Event) -> None:
    with socket.create_connection(("127.0.0.1", admin)) as sock:
        sock.settimeout(0.2)
        sock.sendall(b"GET /api/v1/events HTTP/1.0\r\n\r\n")
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                sock.recv(1 << 20)


def _counting() -> float:
    """Nanoseconds that one ended session costs the counters, all of its dozen additions."""
    record = SessionRecord(1, "a", ("127.0.0.1", 1), "c", 0.0)
    record.evidence, record.saved, record.first_byte, record.duration = Evidence.SYN_DATA_ACKED, 0.1, 0.1, 0.2
    record.ended_by, record.during, record.reason = EndedBy.UPSTREAM, Stage.RELAY, Reason.CLOSED
    counters = Counters()
    best = float("inf")
    for _ in range(7):
        started = time.perf_counter()
        for _ in range(20_000):
            counters.accepted("a")
            counters.ended(record)
        best = min(best, (time.perf_counter() - started) / 20_000)
    return best * 1e9


def _increment() -> float:
    """Nanoseconds of one addition to one slot."""
    slots = Counters().region.integers
    best = float("inf")
    for _ in range(7):
        started = time.perf_counter()
        for _ in range(100_000):
            slots[70_000] += 1
        best = min(best, (time.perf_counter() - started) / 100_000)
    return best * 1e9


def _report(turns: dict[bool, list[Turn]], counting: float) -> None:
    alone, watched = (statistics.median(turn.cpu_us for turn in turns[kind]) for kind in (False, True))
    more, increment = 100 * (watched / alone - 1), _increment()
    for name, kind, value in (("nobody looks", False, alone), ("watched", True, watched)):
        count = sum(turn.connections for turn in turns[kind])
        click.echo(f"{name:14}{value:>9.1f} us CPU per connection  ({count:,} in {len(turns[kind])} rounds)")
    verdict = "as promised" if more <= MOST else f"more than {MOST} %"
    click.echo(f"being watched costs {more:+.1f} %: {verdict}")
    click.echo(f"one increment {increment:.0f} ns; all that is counted of a session {counting:.0f} ns")
    OUT.mkdir(parents=True, exist_ok=True)
    result = {
        "alone_us": alone,
        "watched_us": watched,
        "percent": more,
        "increment_ns": increment,
        "session_ns": counting,
    }
    (OUT / "watching.json").write_text(json.dumps(result, indent=1))


def _free() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port
