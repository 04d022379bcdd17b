"""`python -m bench loris`: a hundred clients a second that never come to the point, beside ordinary traffic.

Half of them open a connection to a proxy listener and say their request at a byte a second, half open one to a forward
listener and say nothing, nor does their server. What ordinary sessions take is measured alone first, then beside them.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import click

from bench.load import OUT
from proxy.lab.behaviours import echoes
from proxy.lab.namespaces import LabUnavailableError, python_environment
from proxy.lab.servers import Address, Server
from proxy.lab.wan import Wan
from tests.wire.program import Program

RATE = 100  # slow clients a second
PACE = 200  # ordinary sessions a second
REQUEST = "GET http://example.com/ HTTP/1.1\r\n"  # and never the empty line
ALONE, BESIDE, QUICK = 15.0, 60.0, 8.0  # seconds
MOST_SLOWER, MOST_MEMORY = 2.0, 64 << 20


class Measured(NamedTuple):
    """Ordinary sessions, from connect to the answer; seconds."""

    sessions: int
    median: float
    p99: float


@click.command()
@click.option("--quick", is_flag=True, help="Seconds instead of a minute.")
def loris(quick: bool) -> None:
    """Slow clients beside ordinary ones: what they cost the others, and what memory."""
    try:
        with Wan(rtt=0.0) as wan, wan.client.entered():
            wan.client.sysctl("net.ipv4.ip_local_port_range", "1024 65535")
            _run(wan, quick)
    except LabUnavailableError as obstacle:
        raise click.ClickException(str(obstacle)) from obstacle


def _run(wan: Wan, quick: bool) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wan.client.sysctl("net.core.somaxconn", 1 << 14)
    with (
        Server(wan.client, ("127.0.0.1", 0), echoes()) as server,
        socket.create_server(("127.0.0.1", 0), backlog=1 << 14) as asleep,
    ):
        to = f"127.0.0.1:{server.address[1]}"
        document = {
            "listeners": {
                "slow": {"bind": "127.0.0.1:0", "mode": "mixed"},
                "idle": {
                    "bind": "127.0.0.1:0",
                    "mode": "forward",
                    "to": f"127.0.0.1:{asleep.getsockname()[1]}",
                },
                "a": {"bind": "127.0.0.1:0", "mode": "forward", "to": to},
            },
            "log": {"format": "json", "sessions": False},
        }
        with Program(wan.client, None, document=document) as program:
            _measure(program.address(), 2.0)
            alone, before = _measure(program.address(), QUICK if quick else ALONE), program.memory()
            slow = [_slow(program.address("slow"), REQUEST), _slow(program.address("idle"), "")]
            _measure(program.address(), 2.0)  # while their interpreters start
            beside = _measure(program.address(), QUICK if quick else BESIDE)
            growth, held = program.memory() - before, program.open_sessions()
            opened = sum(int(one.communicate("", timeout=30)[0].split()[0]) for one in slow)
    _report(alone, beside, growth, opened, held)


def _slow(to: Address, opening: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.trust.loris", to[0], str(to[1]), str(RATE / 2), opening]
    environment = {**os.environ, **python_environment()}
    pipe = subprocess.PIPE
    house = Path(__file__).parent.parent
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment, cwd=house)


def _measure(to: Address, seconds: float) -> Measured:
    times: list[float] = []
    due = time.perf_counter()
    end = due + seconds
    while due < end:
        time.sleep(max(0.0, due - time.perf_counter()))
        due += 1 / PACE
        started = time.perf_counter()
        with socket.create_connection(to, timeout=30) as sock:
            sock.sendall(b"hello")
            if sock.recv(100) != b"hello":
                raise click.ClickException("an ordinary session was not served")
        times.append(time.perf_counter() - started)
    times.sort()
    return Measured(len(times), times[len(times) // 2], times[len(times) * 99 // 100])


def _report(alone: Measured, beside: Measured, growth: int, opened: int, held: int) -> None:
    slower = beside.p99 / alone.p99
    click.echo(f"{'':24}{'sessions':>10}{'median':>12}{'p99':>12}")
    for name, one in (("alone", alone), (f"beside {RATE}/s slow ones", beside)):
        click.echo(f"{name:24}{one.sessions:>10}{one.median * 1e3:>10.2f}ms{one.p99 * 1e3:>10.2f}ms")
    click.echo(
        f"p99 x{slower:.2f}, memory +{growth / (1 << 20):.1f} MiB, {opened} slow ones came, {held} sessions were open"
    )
    OUT.mkdir(parents=True, exist_ok=True)
    result = {
        "alone": alone._asdict(),
        "beside": beside._asdict(),
        "growth": growth,
        "opened": opened,
        "open": held,
    }
    (OUT / "loris.json").write_text(json.dumps(result, indent=2) + "\n")
    if slower > MOST_SLOWER or growth > MOST_MEMORY:
        click.echo(f"worse than x{MOST_SLOWER:g} or +{MOST_MEMORY >> 20} MiB", err=True)
