"""Who runs the gauntlet: a plain connect, HAProxy with `tfo`, and ours; each as a user would start it."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

import bench.paths
from bench.ours import OURS
from bench.peer import Missing
from bench.peers import haproxy_newer, haproxy_version
from proxy.lab.namespaces import python_environment
from proxy.lab.servers import Address
from proxy.lab.wan import Wan

Line: TypeAlias = dict[str, object]

PATIENCE = 10.0
WARM_UP = 0.8  # seconds after a start in which whoever wants to may look around


class NotReady(Exception):
    """It did not start; the text has its last words."""


@dataclass(slots=True)
class Running:
    """Somebody who serves `address`. `sessions` is filled in when it has ended, where it tells."""

    address: Address
    pids: list[int]
    sessions: list[Line] = field(default_factory=list[Line])


Start: TypeAlias = Callable[[Wan, bench.paths.Path, Address], AbstractContextManager[Running]]


@dataclass(frozen=True, slots=True)
class Runner:
    """One column of the table."""

    name: str
    version: Callable[[], str]
    start: Start


@contextlib.contextmanager
def _plain(_: Wan, __: bench.paths.Path, upstream: Address) -> Iterator[Running]:
    yield Running(upstream, [])


@contextlib.contextmanager
def _program(wan: Wan, command: Sequence[str], output: Path) -> Iterator[subprocess.Popen[bytes]]:
    with output.open("wb") as file:
        process = wan.client.popen(command, env=python_environment(), stdout=file, stderr=file)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until(ready: Callable[[], bool], process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise NotReady(output.read_text(errors="replace")[-1000:])
        time.sleep(0.01)


HAPROXY_PORT = 7413
HAPROXY = """
global
    maxconn 1000
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend in
    bind 127.0.0.1:{port}
    tcp-request inspect-delay 250ms
    tcp-request content accept if {{ req.len gt 0 }}
    default_backend out
backend out
    server upstream {host}:{upstream} tfo
"""
"""`tfo` sends data in the SYN only where the client's is there already, hence the delay (its manual says so)."""


@contextlib.contextmanager
def _haproxy(
    wan: Wan, _: bench.paths.Path, upstream: Address, *, named: Callable[[], str] | None = None
) -> Iterator[Running]:
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        file, output = Path(directory, "haproxy.cfg"), Path(directory, "output")
        file.write_text(HAPROXY.format(port=HAPROXY_PORT, host=upstream[0], upstream=upstream[1]))
        program = named() if named else shutil.which("haproxy") or "/usr/sbin/haproxy"
        with _program(wan, [program, "-db", "-f", str(file)], output) as process:
            _until(lambda: listens(process.pid, HAPROXY_PORT), process, output)
            yield Running(("127.0.0.1", HAPROXY_PORT), [process.pid])


def listens(pid: int, port: int) -> bool:
    """Whether anybody listens on the port in that process's namespace: looking is not connecting."""
    with contextlib.suppress(OSError):
        rows = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
        return any(row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "0A" for row in rows)
    return False


@contextlib.contextmanager
def _ours(wan: Wan, path: bench.paths.Path, upstream: Address) -> Iterator[Running]:
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        file, output = Path(directory, "proxy.yaml"), Path(directory, "output")
        cluster = {"endpoints": [f"{upstream[0]}:{upstream[1]}"], **path.cluster}
        configuration: Mapping[str, object] = {
            "listeners": {"in": {"bind": "127.0.0.1:0", "mode": "forward", "to": "out"}},
            "clusters": {"out": cluster},
            "log": {"format": "json"},
            "drain": "2s",
        }
        file.write_text(json.dumps(configuration))
        with _program(wan, [*OURS, "run", str(file)], output) as process:
            _until(lambda: any(line["event"] == "ready" for line in _lines(output)), process, output)
            bind = next(str(line["bind"]) for line in _lines(output) if line["event"] == "listening")
            time.sleep(WARM_UP)
            running = Running(("127.0.0.1", int(bind.rpartition(":")[2])), [process.pid])
            yield running
        lines = _lines(output)
        running.sessions = [line for line in lines if line["event"] == "session"]
        if any(line["event"] == "session_fault" for line in lines):
            raise NotReady(output.read_text(errors="replace")[-3000:])


def _lines(output: Path) -> list[Line]:
    lines: list[Line] = []
    for text in output.read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            line = json.loads(text)
            if isinstance(line, dict) and "event" in line:
                lines.append(line)
    return lines


def _our_version() -> str:
    said = subprocess.run([*OURS, "version"], capture_output=True, text=True, check=False).stdout.split()
    return said[-1] if said else shlex.join(OURS)


PLAIN, PEER, NEWER_PEER, OWN = "plain", "haproxy", "haproxy-newer", "ours"
RUNNERS = (
    Runner(PLAIN, lambda: f"Python {sys.version.split()[0]}", _plain),
    Runner(PEER, haproxy_version, _haproxy),
    Runner(NEWER_PEER, lambda: haproxy_version(haproxy_newer()), partial(_haproxy, named=haproxy_newer)),
    Runner(OWN, _our_version, _ours),
)


def present(only: Sequence[str]) -> tuple[list[Runner], dict[str, str], dict[str, str]]:
    """The runners that are here, their versions, and who is left out and why. Raises ValueError for a stranger."""
    names = [runner.name for runner in RUNNERS]
    if unknown := [name for name in only if name not in names]:
        raise ValueError(f"no runner {', '.join(unknown)}; there are: {', '.join(names)}")
    here, versions, left_out = [], {}, {}
    for runner in RUNNERS:
        if only and runner.name not in only:
            continue
        try:
            versions[runner.name] = runner.version()
            here.append(runner)
        except Missing as missing:
            left_out[runner.name] = str(missing)
    return here, versions, left_out
