"""A worker process by itself: whose orders it takes, and when it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest
import trio

from proxy.service.crew import orders
from proxy.service.crew.channel import Channel

WORKER = [sys.executable, "-m", "proxy", "_worker"]


def start(parent: int) -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair()
    with theirs:
        command = [*WORKER, str(theirs.fileno()), str(parent)]
        process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stderr=subprocess.PIPE)
    return process, ours


def test_it_ends_with_the_channel() -> None:
    process, ours = start(os.getpid())
    ours.close()
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (1, b"")


def test_it_does_not_begin_for_a_stranger() -> None:
    process, ours = start(1)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (1, b"")
    ours.close()


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]
)
async def test_signals_are_not_its_business(number: signal.Signals) -> None:
    process, ours = start(os.getpid())
    channel = Channel(ours)
    try:
        await channel.send(orders.encode(orders.Begin(0, 1, "info", "json")))
        status = f"/proc/{process.pid}/status"
        with trio.fail_after(30):
            while not _ignores(status, number):  # noqa: ASYNC110
                await trio.sleep(0.05)
        process.send_signal(number)
        await trio.sleep(0.1)
        assert process.poll() is None
    finally:
        channel.close()
        process.communicate(timeout=30)


def _ignores(status: str, number: int) -> bool:
    with open(status, encoding="ascii") as file:
        (mask,) = [line.split()[1] for line in file if line.startswith("SigIgn:")]
    return bool(int(mask, 16) >> (number - 1) & 1)
