"""Reloads, upgrades and killed workers under load: nobody is refused, and nobody is harmed but whose worker was killed.

With ``THOROUGH=1`` as much of it as is promised: 500 new connections a second, 20 reloads, 5 upgrades, 10 kills.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from bench.accounts import Balance, balance
from bench.echo import echo_server
from bench.service import Line, Service
from bench.traffic import Traffic, says_nothing, short, talks
from bench.ways import through_socks

THOROUGH = os.environ.get("THOROUGH") == "1"
RATE = 500.0 if THOROUGH else 120.0
RELOADS, UPGRADES, KILLS = (20, 5, 10) if THOROUGH else (4, 2, 2)
PAUSE = 1.0 if THOROUGH else 0.4


def document(upstream: int) -> Line:
    return {
        "workers": 2,
        "drain": "30s",
        "listeners": {
            "a": {"bind": "127.0.0.1:0", "mode": "forward", "to": "c"},
            "s": {"bind": "127.0.0.1:0", "mode": "socks"},
        },
        "clusters": {"c": {"endpoints": [f"127.0.0.1:{upstream}"], "warm_up": False}},
        "direct": {"deny": ["metadata"]},
    }


@asynccontextmanager
async def under_load(folder: Path) -> AsyncIterator[tuple[Service, list[Balance]]]:
    """A service with clients, who come until the block is left; then their accounts are balanced."""
    results: list[Balance] = []
    with echo_server() as server:
        service = await trio.to_thread.run_sync(Service, folder, document(server[1]))
        try:
            kinds = {
                "short": (short, "a", 8),
                "talks": (talks, "a", 2),
                "says nothing": (says_nothing, "a", 1),
                "socks": (through_socks(server, short), "s", 3),
            }
            traffic, enough = Traffic(kinds, service.listening()), trio.Event()
            async with trio.open_nursery() as clients:
                clients.start_soon(traffic.flow, RATE, enough)
                await trio.sleep(PAUSE)
                yield service, results
                await trio.sleep(PAUSE)
                enough.set()
            await trio.sleep(0.3)
        finally:
            await trio.to_thread.run_sync(service.end)
        results.append(balance(traffic.calls, service.lines("session"), service.kills))


async def after(folder: Path, deeds: list[Callable[[Service], object]]) -> Balance:
    random.Random(7413).shuffle(deeds)
    async with under_load(folder) as (service, results):
        for deed in deeds:
            await trio.to_thread.run_sync(deed, service)
            await trio.sleep(PAUSE)
    (found,) = results
    print(found, dict(found.outcomes))
    assert not found.complaints, "\n".join(found.complaints[:20])
    assert found.clients > RATE
    return found


def storm(service: Service) -> None:
    for _ in range(50):
        os.kill(service.pid, signal.SIGHUP)
    service.reload()


async def test_reloads(tmp_path: Path) -> None:
    """By a signal, by fifty at once, and because the file has changed."""
    deeds: list[Callable[[Service], object]] = [Service.reload] * RELOADS
    deeds += [storm, lambda service: service.configure(drain="31s")]
    found = await after(tmp_path, deeds)
    assert found.killed == 0


async def test_upgrades(tmp_path: Path) -> None:
    found = await after(tmp_path, [Service.upgrade] * UPGRADES)
    assert found.killed == 0


async def test_workers_that_are_killed(tmp_path: Path) -> None:
    await after(
        tmp_path,
        [partial(lambda service, which: service.kill_a_worker(which), which=n) for n in range(KILLS)],
    )
