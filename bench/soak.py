"""`python -m bench soak`: every kind of client for a long time, while everything is disturbed every few seconds.

Reloads, upgrades, killed workers, a path that misbehaves. In the end every byte that clients count must stand in the
log, and descriptors and memory must be back where they began. `--sessions 200000` instead has so many short sessions
one after the other: memory after the last is compared with memory after the first tenth.
"""

from __future__ import annotations

import itertools
import random
import resource
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import click
import trio

from bench.accounts import Balance, balance
from bench.echo import echo_server
from bench.service import Line, Service, until
from bench.traffic import (
    Talk,
    Traffic,
    bulk,
    greets,
    leaves,
    says_nothing,
    short,
    talks,
    through_connect,
    through_socks,
)
from proxy.lab.behaviours import echoes
from proxy.lab.namespaces import LabUnavailableError
from proxy.lab.servers import Address
from proxy.lab.wan import Wan

PATHS: tuple[tuple[str, dict[str, object]], ...] = (
    ("drops-syn-data", {}),
    ("resets-syn-data", {}),
    ("strips-option-from-syn", {}),
    ("cuts-syn-data-off", {}),
    ("loses-first-syn", {}),
    ("random-loss", {"rate": 0.02}),
)
MOST_MORE = 1.10, 8 << 20  # times as much memory as after the warm-up, and bytes beside that
MOST_MORE_SHORT = 1.05
WARM = 0.1  # of the time


@dataclass
class Verdict:
    """What a run has shown."""

    balance: Balance = field(default_factory=Balance)
    deeds: list[str] = field(default_factory=list[str])
    memory: list[int] = field(default_factory=list[int])  # after the warm-up, and in the end
    descriptors: list[list[int]] = field(default_factory=list[list[int]])  # the same, by process
    complaints: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        figures = [f"{self.balance}; disturbed {len(self.deeds)} times"]
        if len(self.memory) == 2:
            before, after = (bytes_ / 1e6 for bytes_ in self.memory)
            figures.append(f"memory {before:.1f} MB after the warm-up, {after:.1f} MB in the end")
            figures.append(f"descriptors by process {self.descriptors[0]}, then {self.descriptors[1]}")
        told = ["everything is accounted for"] if not self.complaints else self.complaints[:30]
        return "\n".join([*figures, *told])


@click.command()
@click.option("--seconds", default=1800.0, show_default=True, help="How long.")
@click.option("--rate", default=60.0, show_default=True, help="New clients a second.")
@click.option("--workers", default=2, show_default=True)
@click.option("--sessions", default=0, help="So many short sessions instead.")
def soak(seconds: float, rate: float, workers: int, sessions: int) -> None:
    """Traffic of all kinds for a long time, disturbed every few seconds, and every byte accounted for."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        verdict = shorts(sessions) if sessions else soaked(seconds, rate, workers)
    except LabUnavailableError as obstacle:
        raise click.ClickException(str(obstacle)) from obstacle
    click.echo(str(verdict))
    sys.exit(bool(verdict.complaints))


def soaked(seconds: float, rate: float, workers: int = 2, pause: float = 4.0) -> Verdict:
    """The whole of it, in namespaces of its own."""
    with Wan(rtt=0.02) as wan, wan.client.entered(), tempfile.TemporaryDirectory() as folder:
        far = wan.serve(echoes())
        return trio.run(_Soak(Path(folder), wan, far.address, seconds, rate, workers, pause).run)


class _Soak:
    def __init__(  # noqa: PLR0913, PLR0917  # how long, how much, and where
        self,
        folder: Path,
        wan: Wan,
        far: Address,
        seconds: float,
        rate: float,
        workers: int,
        pause: float,
    ) -> None:
        self._folder, self._wan, self._far = folder, wan, far
        self._seconds, self._rate, self._workers, self._pause = seconds, rate, workers, pause
        self._verdict = Verdict()
        self._paths = itertools.cycle(random.sample(PATHS, len(PATHS)))
        self._drains = itertools.cycle(("29s", "30s"))

    async def run(self) -> Verdict:
        with ExitStack() as stack:
            server = stack.enter_context(echo_server())
            key = secrets.token_hex(16)
            gate = await self._started(stack, "far", _far_side(key))
            document = _document(server[1], self._far, gate.listening()["far"], key, self._workers)
            await self._soak(await self._started(stack, "near", document), server)
        return self._verdict

    async def _started(self, stack: ExitStack, name: str, document: Line) -> Service:
        folder = self._folder / name
        folder.mkdir()
        service = await trio.to_thread.run_sync(Service, folder, document)
        return stack.enter_context(service)

    async def _soak(self, service: Service, server: Address) -> None:
        verdict = self._verdict
        calls = Traffic(_kinds(server), service.listening())
        await self._flow(calls, self._seconds * WARM, None)
        await trio.to_thread.run_sync(self._measure, service)
        await self._flow(calls, self._seconds * (1 - WARM), service)
        self._wan.clear()
        await trio.to_thread.run_sync(self._measure, service)
        await trio.to_thread.run_sync(service.end)
        verdict.balance = balance(calls.calls, service.lines("session"), service.kills)
        verdict.complaints += verdict.balance.complaints + faults(service) + _grown(verdict)

    async def _flow(self, traffic: Traffic, seconds: float, service: Service | None) -> None:
        enough = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(traffic.flow, self._rate, enough)
            with trio.move_on_after(seconds):
                await self._disturb(traffic, service)
            enough.set()

    async def _disturb(self, traffic: Traffic, service: Service | None) -> None:
        told = time.monotonic()
        while True:
            await trio.sleep(self._pause)
            if service is not None:
                name, deed = self._deed(service)
                with trio.CancelScope(shield=True):  # none is left half done
                    await trio.to_thread.run_sync(deed)
                self._verdict.deeds.append(name)
            if time.monotonic() - told > 10:
                told = time.monotonic()
                last = f"; last: {self._verdict.deeds[-1]}" if self._verdict.deeds else ""
                click.echo(f"{len(traffic.calls)} clients, {traffic.open} just now{last}")

    def _deed(self, service: Service) -> tuple[str, Callable[[], object]]:
        turn = len(self._verdict.deeds) % 5
        if turn in {0, 3}:
            name, settings = next(self._paths)
            return f"the path {name.replace('-', ' ')}", lambda: self._path(name, settings)
        if turn == 1:
            return "a reload", service.reload
        if turn == 2:
            return "a worker killed", lambda: service.kill_a_worker(random.randrange(8))
        if len(self._verdict.deeds) % 2:
            return "an upgrade", service.upgrade
        return "the file changed", lambda: service.configure(drain=next(self._drains))

    def _path(self, name: str, settings: dict[str, object]) -> None:
        self._wan.clear()
        self._wan.install(name, **settings)

    def _measure(self, service: Service) -> None:
        """When nobody is there."""
        until(lambda: service.open_sessions() == 0)
        until(lambda: len(service.workers()) == self._workers)
        time.sleep(min(2.0, self._seconds / 10))  # what only waits to be closed is closed
        self._verdict.memory.append(service.memory())
        self._verdict.descriptors.append(sorted(service.descriptors().values()))


def shorts(number: int) -> Verdict:
    """So many short sessions, and nothing else."""
    verdict = Verdict()

    async def run(service: Service) -> None:
        traffic = Traffic({"short": (short, "a", 1)}, service.listening())
        for part in (number // 10, number - number // 10):
            await traffic.so_many(part)
            await trio.to_thread.run_sync(until, lambda: service.open_sessions() == 0)
            verdict.memory.append(service.memory())
            verdict.descriptors.append(sorted(service.descriptors().values()))
            click.echo(f"{len(traffic.calls)} clients: {verdict.memory[-1] / 1e6:.1f} MB")
        verdict.balance = balance(traffic.calls, service.lines("session"), [])
        verdict.complaints += verdict.balance.complaints + faults(service)

    with echo_server() as (host, port), tempfile.TemporaryDirectory() as folder:
        document = {
            "listeners": {"a": {"bind": "127.0.0.1:0", "mode": "forward", "to": "c"}},
            "clusters": {"c": {"endpoints": [f"{host}:{port}"], "warm_up": False}},
        }
        with Service(Path(folder), document) as service:
            trio.run(run, service)
    before, after = verdict.memory
    if after > before * MOST_MORE_SHORT:
        verdict.complaints.append(f"memory has grown from {before} to {after} bytes")
    if verdict.descriptors[0] != verdict.descriptors[1]:
        verdict.complaints.append(f"descriptors: {verdict.descriptors[0]}, then {verdict.descriptors[1]}")
    return verdict


def faults(service: Service) -> list[str]:
    """What no log may hold."""
    events = {"session_fault", "background_fault", "worker_confused", "worker_stuck", "log_lines_lost"}
    found = [str(line) for line in service.lines() if line["event"] in events]
    if b"Traceback" in service.log.read_bytes():
        found.append("there is a traceback in the log")
    return found


def _grown(verdict: Verdict) -> list[str]:
    (before, after), (then, now) = verdict.memory, verdict.descriptors
    factor, beside = MOST_MORE
    found: list[str] = []
    if after > before * factor + beside:
        found.append(f"memory has grown from {before} to {after} bytes")
    if max(now) > max(then) + 2 or len(now) != len(then):
        found.append(f"descriptors by process: {then}, then {now}")
    return found


def _kinds(server: Address) -> dict[str, tuple[Talk, str, int]]:
    return {
        "short": (short, "forward", 30),
        "talks": (talks, "forward", 6),
        "bulk": (bulk, "forward", 2),
        "leaves": (leaves, "forward", 4),
        "says nothing": (says_nothing, "forward", 4),
        "socks": (through_socks(server, short), "socks", 8),
        "http": (through_connect(server, talks), "http", 4),
        "mixed, socks": (through_socks(server, bulk), "mixed", 1),
        "mixed, http": (through_connect(server, short), "mixed", 4),
        "sni": (greets, "sni", 4),
        "far": (short, "path", 10),
        "far bulk": (bulk, "path", 1),
        "tunnel": (short, "tunnel", 6),
        "tunnel, bulk": (bulk, "tunnel", 1),
    }


def _document(port: int, far: Address, gate: Address, key: str, workers: int) -> Line:
    near = {"endpoints": [f"127.0.0.1:{port}"], "warm_up": False}

    def listener(mode: str, to: str = "") -> Line:
        return {"bind": "127.0.0.1:0", "mode": mode} | ({"to": to} if to else {})

    return {
        "workers": workers,
        "drain": "30s",
        "listeners": {
            "forward": listener("forward", "near"),
            "path": listener("forward", "far"),
            "tunnel": listener("forward", "through"),
            "socks": listener("socks"),
            "http": listener("http"),
            "mixed": listener("mixed"),
            "sni": listener("sni", "near"),
        },
        "clusters": {
            "near": near,
            "far": {"endpoints": [f"{far[0]}:{far[1]}"]},
            "through": near | {"via": {"tunnel": f"{gate[0]}:{gate[1]}", "key": key}},
        },
        "direct": {"deny": ["metadata"]},
    }


def _far_side(key: str) -> Line:
    return {
        "listeners": {"far": {"bind": "127.0.0.1:0", "mode": "tunnel", "key": key}},
        "direct": {"deny": ["metadata"]},
        "drain": "5s",
    }
