"""Reloads, upgrades and killed workers under load: nobody is refused, and nobody is harmed but whose worker was killed.

With ``THOROUGH=1`` as much of it as is promised: 500 new connections a second, 20 reloads, 5 upgrades, 10 kills.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from bench.accounts import Balance, balance
from bench.service import Line, Service
from bench.soak import faults
from bench.steady import Offered, Steady

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="the clients need a C compiler")

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


@contextmanager
def under_load(folder: Path) -> Iterator[tuple[Service, list[tuple[Balance, Offered]]]]:
    """A service with clients, who come until the block is left; then their accounts are balanced."""
    results: list[tuple[Balance, Offered]] = []
    with Steady() as steady:
        with Service(folder, document(steady.server[1])) as service:
            to = service.listening()
            steady.begin(RATE, to["a"], to["s"])
            time.sleep(PAUSE)
            yield service, results
            time.sleep(PAUSE)
            calls, offered = steady.end()
            time.sleep(0.3)
        print(f"{offered.rate:.1f} clients a second, {offered.least} in the poorest")
        results.append((balance(calls, service.lines("session"), service.kills), offered))
        assert not faults(service)


def after(folder: Path, deeds: list[Callable[[Service], object]]) -> Balance:
    random.Random(7413).shuffle(deeds)
    with under_load(folder) as (service, results):
        for deed in deeds:
            deed(service)
            time.sleep(PAUSE)
    ((found, offered),) = results
    print(found, dict(found.outcomes))
    assert not found.complaints, "\n".join(found.complaints[:20])
    assert found.clients > RATE
    assert offered.rate > 0.98 * RATE, offered
    if THOROUGH:
        assert offered.least > 0.6 * RATE, (
            "the clients themselves were kept waiting: the machine is too busy for this"
        )
    return found


def storm(service: Service) -> None:
    for _ in range(50):
        os.kill(service.pid, signal.SIGHUP)
    service.reload()


def test_reloads(tmp_path: Path) -> None:
    """By a signal, by fifty at once, and because the file has changed."""
    deeds: list[Callable[[Service], object]] = [Service.reload] * RELOADS
    deeds += [storm, lambda service: service.configure(drain="31s")]
    found = after(tmp_path, deeds)
    assert found.killed == 0


def test_upgrades(tmp_path: Path) -> None:
    found = after(tmp_path, [Service.upgrade] * UPGRADES)
    assert found.killed == 0


def test_workers_that_are_killed(tmp_path: Path) -> None:
    after(
        tmp_path,
        [partial(lambda service, which: service.kill_a_worker(which), which=n) for n in range(KILLS)],
    )
