"""Somebody sets the clock on the wall while the program runs: nobody notices but those who read what time it is."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from bench.echo import echo_server
from bench.service import Line, Service, until
from bench.soak import faults
from bench.traffic import Traffic, bulk, says_nothing, short, talks
from bench.ways import through_connect, through_socks
from proxy.lab.servers import Address
from tests.trust.wall import DAY, HOUR, Wall

RATE = 60.0
CLOCKS = 0.5  # seconds between looking at two clocks, and rounding
JUMPS = (HOUR, -HOUR, DAY, DAY + 1.0, DAY, -0.7, 0.0)  # seconds ahead; the middle is a leap second and back


def document(server: Address, **settings: object) -> Line:
    def listener(mode: str, **keys: object) -> Line:
        return {"bind": "127.0.0.1:0", "mode": mode, **({"to": "c"} if mode == "forward" else {}), **keys}

    return {
        "listeners": {"a": listener("forward"), "s": listener("socks"), "h": listener("http")},
        "clusters": {"c": {"endpoints": [f"{server[0]}:{server[1]}"], "warm_up": False}},
        "direct": {"deny": ["metadata"]},
        "admin": {"bind": "127.0.0.1:0"},
        **settings,
    }


def ask(service: Service, path: str) -> bytes:
    where = service.wait_for("admin", 1)["bind"]
    with urllib.request.urlopen(f"http://{where}{path}", timeout=10) as answer:
        return bytes(answer.read())


def counters(service: Service) -> dict[str, float]:
    """Every sample of /metrics that may only grow; none of the others is negative."""
    found: dict[str, float] = {}
    kinds: dict[str, str] = {}
    for line in ask(service, "/metrics").decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            kinds[name] = kind
        elif not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            name = series.partition("{")[0]
            assert float(value) >= 0, line
            family = name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
            if kinds.get(name) == "counter" or kinds.get(family) == "histogram":
                found[series] = float(value)
    assert len(found) > 20
    return found


def check_what_is_shown(service: Service, wall: Wall, launched: float, ready: float) -> None:
    """Times of day are those of the clock, what has passed is what has really passed."""
    asked, by_the_clock = time.monotonic(), wall.now()
    status: dict[str, Any] = json.loads(ask(service, "/api/v1/status"))
    told, since_then = time.monotonic(), wall.now()
    assert by_the_clock - CLOCKS <= status["now"] <= since_then + CLOCKS
    assert asked - ready - CLOCKS <= status["uptime"] <= told - launched + CLOCKS
    assert status["began"] == pytest.approx(status["now"] - status["uptime"], abs=0.1)
    for worker in status["workers"]:
        assert launched - CLOCKS <= worker["began"] - (by_the_clock - asked) <= ready + CLOCKS
    for minute in status["minutes"]:
        assert status["began"] - 1.0 <= minute["began"] <= wall.now() + 1.0
        assert all(minute[name] >= 0 for name in minute)
    sessions: dict[str, Any] = json.loads(ask(service, "/api/v1/sessions?limit=100"))
    for session in sessions["open"]:
        assert 0.0 <= session.get("duration", 0.0) <= time.monotonic() - launched
    by_the_clock = wall.now()
    said = datetime.fromisoformat(service.status()["time"])
    assert by_the_clock - CLOCKS <= said.timestamp() <= wall.now() + CLOCKS


@pytest.mark.parametrize("workers", [1, 2])
async def test_nobody_is_harmed_and_nothing_counts_backwards(tmp_path: Path, workers: int) -> None:
    wall = Wall(tmp_path)
    periods: list[tuple[float, float]] = []  # as the log should see them
    with echo_server() as server:
        launched = time.monotonic()
        service = await trio.to_thread.run_sync(
            lambda: Service(tmp_path, document(server, workers=workers), env=wall.env)
        )
        ready, seen = time.monotonic(), dict[str, float]()
        kinds = {
            "short": (short, "a", 6), "talks": (talks, "a", 2), "bulk": (bulk, "a", 1),
            "says nothing": (says_nothing, "a", 1), "socks": (through_socks(server, short), "s", 2),
            "http": (through_connect(server, talks), "h", 2),
        }  # fmt: skip
        traffic, enough = Traffic(kinds, service.listening()), trio.Event()
        try:
            async with trio.open_nursery() as clients:
                clients.start_soon(traffic.flow, RATE, enough)
                for ahead in (0.0, *JUMPS):
                    wall.set(ahead)
                    since = wall.now()
                    await trio.sleep(1.3)
                    await trio.to_thread.run_sync(check_what_is_shown, service, wall, launched, ready)
                    found = await trio.to_thread.run_sync(counters, service)
                    assert not {name for name in seen if found.get(name, 0.0) < seen[name]}
                    seen = found
                    periods.append((since, wall.now()))
                await trio.to_thread.run_sync(service.reload)
                enough.set()
        finally:
            await trio.to_thread.run_sync(service.end)
    check_the_log(service, traffic, periods)


def check_the_log(service: Service, traffic: Traffic, periods: list[tuple[float, float]]) -> None:
    lines = list(service.lines("session"))
    assert {call.outcome for call in traffic.calls} == {"ok"}
    # A port of a client may come again in the meantime.
    said = Counter((call.listener, call.client, call.up, call.down) for call in traffic.calls)
    assert (
        Counter((line["listener"], line["client"], line["up_bytes"], line["down_bytes"]) for line in lines)
        == said
    )
    assert len(lines) == len(traffic.calls) > RATE * 1.3 * len(JUMPS) / 2
    assert not faults(service)
    times = [datetime.fromisoformat(line["time"]).timestamp() for line in lines]
    for since, till in periods:
        assert any(since - 0.1 < at < till + 0.1 for at in times), "the log follows the clock"
    for line in lines:
        assert 0.0 <= line["duration"] < 10.0
        assert all(line[name] >= 0.0 for name in ("saved", "lost", "waited", "first_byte") if name in line)


# --- every timeout comes when it should


@contextmanager
def deaf_server() -> Iterator[Address]:
    """Nobody gets in: its queue is full."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        to = listening.getsockname()
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(to)
        yield to


async def lasts(to: Address, opening: bytes, again: float | None = None) -> float:
    """Seconds until somebody else ends it; ``again``: it says something so often."""
    began = trio.current_time()
    async with await trio.open_tcp_stream(*to) as stream:
        with trio.fail_after(60):
            try:
                await stream.send_all(opening)
                while True:
                    with trio.move_on_after(again or 20.0) as quiet:
                        if not await stream.receive_some():
                            break
                    if quiet.cancelled_caught:
                        await stream.send_all(b"x")
            except trio.BrokenResourceError:
                pass
    return trio.current_time() - began


REASONS = ["connect_timeout", "handshake_timeout", "handshake_timeout", "idle", "lifetime"]
TIMEOUTS = {"idle": "2s", "handshake": "2s", "half_closed": "2s"}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("ahead", [HOUR, -2 * HOUR])
async def test_timeouts_are_neither_early_nor_late(tmp_path: Path, workers: int, ahead: float) -> None:
    wall = Wall(tmp_path)
    with echo_server() as server, deaf_server() as deaf:
        settings = document(server, workers=workers, drain="2s")
        for one in settings["listeners"].values():
            one["timeouts"] = TIMEOUTS
        settings["listeners"]["life"] = settings["listeners"]["a"] | {"timeouts": {"lifetime": "3s"}}
        settings["listeners"]["deaf"] = settings["listeners"]["a"] | {"to": "deaf"}
        settings["clusters"]["deaf"] = {
            "endpoints": [f"{deaf[0]}:{deaf[1]}"], "warm_up": False, "connect": {"timeout": "2s", "retries": 0},
        }  # fmt: skip
        service = await trio.to_thread.run_sync(lambda: Service(tmp_path, settings, env=wall.env))
        try:
            to, took = service.listening(), dict[str, float]()

            async def client(listener: str, opening: bytes, again: float | None = None) -> None:
                took[listener] = await lasts(to[listener], opening, again)

            async with trio.open_nursery() as clients:
                clients.start_soon(client, "a", b"hello")
                clients.start_soon(client, "s", b"\5")
                clients.start_soon(client, "h", b"CONNECT ")
                clients.start_soon(client, "life", b"hello", 0.3)
                clients.start_soon(client, "deaf", b"hello")
                await trio.sleep(0.7)
                wall.set(ahead)
            for listener, least in {"a": 2.0, "s": 2.0, "h": 2.0, "life": 3.0, "deaf": 2.0}.items():
                assert least - 0.1 < took[listener] < least + 20.0, took
            await trio.to_thread.run_sync(until, lambda: len(list(service.lines("session"))) == len(took))
            assert sorted(line["reason"] for line in service.lines("session")) == REASONS
            async with await trio.open_tcp_stream(*to["a"]) as stream:
                await stream.send_all(b"x")
                await stream.receive_some()
                ending = trio.current_time()
                wall.set(0.0)
                await trio.to_thread.run_sync(service.end)
                assert 1.4 < trio.current_time() - ending < 9.5, "the drain has its limit"
        finally:
            await trio.to_thread.run_sync(service.end)
        assert not faults(service)
