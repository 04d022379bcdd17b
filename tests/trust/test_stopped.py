"""Processes that stand still for a while, as in a frozen cgroup or a machine that was moved: they go on as before."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from bench.accounts import balance
from bench.echo import echo_server
from bench.service import Line, Service
from bench.soak import faults
from bench.traffic import Traffic, bulk, says_nothing, short, talks
from bench.ways import through_socks

RATE = 40.0
STILL = 4.0  # seconds


def document(port: int, **settings: object) -> Line:
    return {
        "listeners": {
            "a": {"bind": "127.0.0.1:0", "mode": "forward", "to": "c"},
            "s": {"bind": "127.0.0.1:0", "mode": "socks"},
        },
        "clusters": {"c": {"endpoints": [f"127.0.0.1:{port}"], "warm_up": False}},
        "direct": {"deny": ["metadata"]},
        **settings,
    }


def stand_still(processes: Sequence[int]) -> None:
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in processes:
            os.kill(pid, number)
        if number == signal.SIGSTOP:
            time.sleep(STILL)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("who", ["a worker", "all"])
async def test_who_stood_still_harms_nobody(tmp_path: Path, workers: int, who: str) -> None:
    with echo_server() as server:
        service = await trio.to_thread.run_sync(Service, tmp_path, document(server[1], workers=workers))
        try:
            kinds = {
                "short": (short, "a", 4), "talks": (talks, "a", 4), "bulk": (bulk, "a", 1),
                "says nothing": (says_nothing, "a", 1), "socks": (through_socks(server, talks), "s", 2),
            }  # fmt: skip
            traffic, enough = Traffic(kinds, service.listening()), trio.Event()
            async with trio.open_nursery() as clients:
                clients.start_soon(traffic.flow, RATE, enough)
                await trio.sleep(1.0)
                stopped = service.workers()[:1] if who == "a worker" else [*service.workers(), service.pid]
                await trio.to_thread.run_sync(stand_still, list(dict.fromkeys(stopped)))
                await trio.sleep(1.0)
                enough.set()
            await trio.sleep(0.3)
        finally:
            await trio.to_thread.run_sync(service.end)
        found = balance(traffic.calls, service.lines("session"), [])
        assert not found.complaints, "\n".join(found.complaints[:20])
        assert found.outcomes["ok"] == found.clients > RATE
        assert not faults(service)
        assert not list(service.lines("worker_died"))


@pytest.mark.parametrize("workers", [1, 2])
def test_what_came_meanwhile_counts_before_anybody_is_taken_for_idle(tmp_path: Path, workers: int) -> None:
    settings = document(0, workers=workers)
    settings["listeners"]["a"]["timeouts"] = {"idle": "6s"}
    with echo_server() as server:
        settings["clusters"]["c"]["endpoints"] = [f"{server[0]}:{server[1]}"]
        with Service(tmp_path, settings) as service:
            clients = [socket.create_connection(service.listening()["a"], timeout=10) for _ in range(10)]
            for client in clients:
                client.sendall(b"x")
                assert client.recv(10) == b"x"
            time.sleep(2.0)  # the six seconds are over before they go on, and not before they stop
            processes = list(dict.fromkeys([*service.workers(), service.pid]))
            for pid in processes:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(0.5)
            for client in clients:
                client.sendall(b"y")
            time.sleep(STILL)
            for pid in processes:
                os.kill(pid, signal.SIGCONT)
            for client in clients:
                assert client.recv(10) == b"y"
                client.sendall(b"z")
                assert client.recv(10) == b"z"
                client.close()
        assert {line["reason"] for line in service.lines("session")} == {"closed"}
