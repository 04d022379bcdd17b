"""`python -m bench soak`: every kind of client for a long time, while everything is disturbed every few seconds.

Reloads, upgrades, killed workers, a path that misbehaves; clients of every mode. In the end every byte that clients
count must stand in the log, and descriptors, tasks and memory must be back where they began. `--sessions 200000`
instead has so many short sessions one after the other: memory after the last is compared with memory after the first
tenth.
"""

from __future__ import annotations

import itertools
import random
import resource
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import click
import trio

from bench.accounts import Balance, balance
from bench.echo import echo_server
from bench.service import Holdings, Line, Service, until
from bench.traffic import Traffic, short
from bench.ways import SOURCES, document, far_side, kinds, redirect, redirected
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
MOST_TOLD = 30
WARM = 0.1  # of the time


@dataclass
class Verdict:
    """What a run has shown."""

    balance: Balance = field(default_factory=Balance)
    longest: float = 0.0  # seconds for which the clients stood still
    deeds: list[str] = field(default_factory=list[str])
    held: dict[str, list[Holdings]] = field(
        default_factory=dict[str, list[Holdings]]
    )  # after the warm-up, in the end
    complaints: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        deeds = ", ".join(f"{deed} ({number})" for deed, number in Counter(self.deeds).items())
        figures = [f"{self.balance}; disturbed {len(self.deeds)} times: {deeds or 'by nothing'}"]
        if self.longest:
            figures.append(f"the clients themselves stood still for {self.longest:.1f} s at most")
        for name, (before, *_, after) in self.held.items():
            figures.append(f"{name}: {before} after the warm-up; {after} in the end")
        told = self.complaints[:MOST_TOLD] or ["everything is accounted for"]
        if len(self.complaints) > MOST_TOLD:
            told.append(f"and {len(self.complaints) - MOST_TOLD} more complaints")
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
    with (
        Wan(rtt=0.02) as wan,
        wan.client.entered(),
        tempfile.TemporaryDirectory() as folder,
        echo_server(wan.fresh_address(), wan.server) as far,
    ):
        return trio.run(_Soak(Path(folder), wan, far, seconds, rate, workers, pause).run)


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
            key, modes = secrets.token_hex(16), redirected()
            gate = await self._started(stack, "far", far_side(key))
            near = document(server[1], self._far, gate.listening(), key, self._workers, modes)
            service = await self._started(stack, "near", near)
            listening = service.listening()
            redirect(self._wan.client, server, listening)
            calls = Traffic(kinds(server, modes), listening | dict.fromkeys(modes, server), SOURCES)
            click.echo(f"clients of {len(calls.kinds)} kinds, at listeners {', '.join(listening)}")
            await self._soak({"near": service, "far": gate}, calls)
        return self._verdict

    async def _started(self, stack: ExitStack, name: str, document: Line) -> Service:
        folder = self._folder / name
        folder.mkdir()
        service = await trio.to_thread.run_sync(Service, folder, document)
        return stack.enter_context(service)

    async def _soak(self, services: dict[str, Service], calls: Traffic) -> None:
        verdict, near = self._verdict, services["near"]
        await self._flow(calls, self._seconds * WARM, None)
        await trio.to_thread.run_sync(self._measure, services)
        await self._flow(calls, self._seconds * (1 - WARM), near)
        self._wan.clear()
        await trio.to_thread.run_sync(self._measure, services)
        await trio.to_thread.run_sync(near.end)
        verdict.balance = balance(calls.calls, near.lines("session"), near.kills)
        verdict.complaints += verdict.balance.complaints
        verdict.longest = calls.longest
        for name, service in services.items():
            verdict.complaints += faults(service) + grown(name, *verdict.held[name])

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
        self._wan.forget()  # nobody looks at its packets
        self._wan.install_all([(name, dict(settings), "")])

    def _measure(self, services: dict[str, Service]) -> None:
        """When nobody is there."""
        until(lambda: len(services["near"].workers()) == self._workers)
        for name, service in services.items():
            until(partial(_is_empty, service))
            time.sleep(min(2.0, self._seconds / 10))  # what only waits to be closed is closed
            held = self._verdict.held.setdefault(name, [])
            with suppress(TimeoutError):  # what has not come back until then is told
                until(partial(_is_back, service, held))
            held.append(service.holdings())


def _is_empty(service: Service) -> bool:
    return service.open_sessions() == 0


def _is_back(service: Service, before: Sequence[Holdings]) -> bool:
    return not before or not _left(before[0], service.holdings())


def shorts(number: int) -> Verdict:
    """So many short sessions, and nothing else."""
    verdict = Verdict()
    held = verdict.held.setdefault("it", [])

    async def run(service: Service) -> None:
        traffic = Traffic({"short": (short, "a", 1)}, service.listening())
        for part in (number // 10, number - number // 10):
            await traffic.so_many(part)
            await trio.to_thread.run_sync(until, lambda: service.open_sessions() == 0)
            held.append(service.holdings())
            click.echo(f"{len(traffic.calls)} clients: {held[-1]}")
        verdict.balance = balance(traffic.calls, service.lines("session"), [])
        verdict.complaints += verdict.balance.complaints + faults(service)

    with echo_server() as (host, port), tempfile.TemporaryDirectory() as folder:
        near = {
            "listeners": {"a": {"bind": "127.0.0.1:0", "mode": "forward", "to": "c"}},
            "clusters": {"c": {"endpoints": [f"{host}:{port}"], "warm_up": False}},
        }
        with Service(Path(folder), near) as service:
            trio.run(run, service)
    before, after = held
    if after.memory > before.memory * MOST_MORE_SHORT:
        verdict.complaints.append(f"memory has grown from {before.memory} to {after.memory} bytes")
    if (before.descriptors, before.tasks) != (after.descriptors, after.tasks):
        verdict.complaints.append(f"held {before}, then {after}")
    return verdict


def faults(service: Service) -> list[str]:
    """What no log may hold."""
    events = {"session_fault", "background_fault", "worker_confused", "worker_stuck", "log_lines_lost"}
    found = [str(line) for line in service.lines() if line["event"] in events]
    if b"Traceback" in service.log.read_bytes():
        found.append("there is a traceback in the log")
    return found


def _left(before: Holdings, after: Holdings) -> bool:
    """Whether something is still held that was not."""
    more_tasks = any(now > then for then, now in zip(before.tasks, after.tasks, strict=False))
    return (
        more_tasks
        or len(after.tasks) != len(before.tasks)
        or len(after.descriptors) != len(before.descriptors)
        or max(after.descriptors) > max(before.descriptors) + 2
    )


def grown(name: str, before: Holdings, after: Holdings) -> list[str]:
    """What is wrong with what a program holds after all, beside what it held at first."""
    factor, beside = MOST_MORE
    found: list[str] = []
    if after.memory > before.memory * factor + beside:
        found.append(f"{name}: memory has grown from {before.memory} to {after.memory} bytes")
    if _left(before, after):
        found.append(f"{name}: descriptors or tasks are left: {before}, then {after}")
    return found
