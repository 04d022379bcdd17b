"""One session of measuring: relays started, every row of work done by each in turn."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bench import ours
from bench import peer as known
from bench.load import Load
from bench.peer import Peer
from bench.process import Process
from bench.rows import START_ROW, Effort, Row, Sample, Subject
from bench.shares import shares
from bench.table import Taken

T = TypeVar("T")
_MOST_ENDPOINTS = 1000
READY_WITHIN = 15.0
"""Seconds a relay has from its start to its first reply."""


class Unready(Exception):
    """The relay did not come up; the text holds its last words."""


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def replies(port: int, way: str = "forward", upstream: int = 0) -> bool:
    """Whether a byte comes back from the load generator's server, which is at `upstream`, through `port`."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as client:
        if way in {"socks", "routes"}:
            client.sendall(b"\5\1\0")
            client.recv(2)
            client.sendall(b"\5\1\0\1\x7f\0\0\1" + upstream.to_bytes(2, "big"))
            if client.recv(10)[1:2] != b"\0":
                return False
        elif way == "connect":
            client.sendall(
                f"CONNECT 127.0.0.1:{upstream} HTTP/1.1\r\nHost: 127.0.0.1:{upstream}\r\n\r\n".encode()
            )
            if b" 200 " not in client.recv(1000):
                return False
        client.sendall(b"I\0\0\0" + struct.pack("=I", 1))
        return bool(client.recv(1))
    return False


@dataclass(slots=True)
class Bench:
    """One session of measuring. `left_out` names every relay that is not in the table, and why."""

    load: Load
    core: int
    directory: Path
    effort: Effort
    rows: Sequence[Row]
    progress: Callable[[str], None]
    peers: list[Peer]
    samples: list[Taken] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    started: int = 0
    ports: list[int] = field(default_factory=list)

    @contextlib.contextmanager
    def running(self, peer: Peer) -> Iterator[tuple[Subject, Sample]]:
        """The relay, started and answering, with what its start cost."""
        ours.more_ports = self.more_ports
        self.started += 1
        directory = self.directory / f"{peer.name}-{self.started}"
        directory.mkdir()
        if peer.way == "endpoints":
            self.more_ports(_MOST_ENDPOINTS - 1)  # before a port is chosen that might be one of them
        port = free_port()
        command = peer.command(directory, port, self.load.port)
        began = time.monotonic()
        core = None if peer.wide else self.core
        with contextlib.ExitStack() as stack:
            shared = stack.enter_context(shares()) if peer.share is not None else None
            process = stack.enter_context(Process(command, core=core, directory=directory, env=peer.env))
            while not replies(port, peer.way, self.load.port):
                if process.ended or time.monotonic() - began > READY_WITHIN:
                    raise Unready(f"did not start: {process.last_words()}")
                time.sleep(0.01)
            start = {"start_ms": 1e3 * (time.monotonic() - began), "start_cpu_ms": 1e3 * process.cpu()}
            if shared is not None and peer.share is not None:
                for pid in ours.workers(process.pids()):
                    shared.give(pid, peer.share)
            subject = Subject(port, process, kept_short=shared is not None)
            yield subject, start | {"start_mib": process.resident() / 2**20}

    def more_ports(self, count: int) -> list[int]:
        """Ports of so many more servers of the load generator's; they stay."""
        if count > len(self.ports):
            self.ports += self.load.ask(f"ports {count - len(self.ports)}").ports
        return self.ports[:count]

    def one_round(self, turn: int, *, direct: bool) -> None:
        """All rows once, the relays side by side, each round beginning with another relay."""
        for way in dict.fromkeys(row.way for row in self.rows):
            rows = [row for row in self.rows if row.way == way]
            with contextlib.ExitStack() as stack:
                subjects = self._start_all(turn, stack, way, rows)
                if direct and way == "forward":
                    subjects[known.DIRECT] = Subject(self.load.port, None)
                for row in rows:
                    if not row.fresh:
                        self.load.ask(f"opening {row.opening}")
                        for name in _rotated([one for one in subjects if row.takes(one)], turn):
                            self._measure(turn, row, name, subjects[name])
            self.load.ask("opening none")
            for row in rows:
                if row.fresh:
                    for peer in _rotated(
                        [one for one in self.peers if one.way == way and row.takes(one.name)], turn
                    ):
                        self._measure_fresh(turn, row, peer)

    def _start_all(
        self, turn: int, stack: contextlib.ExitStack, way: str, rows: Sequence[Row]
    ) -> dict[str, Subject]:
        subjects: dict[str, Subject] = {}
        for peer in [one for one in self.peers if one.way == way]:
            if not any(row.takes(peer.name) and not row.fresh for row in rows):
                continue
            try:
                subjects[peer.name], cost = stack.enter_context(self.running(peer))
            except (Unready, OSError) as error:
                self._leave_out(peer.name, str(error))
                continue
            if START_ROW in rows:
                self.samples.append(Taken(turn, START_ROW.name, peer.name, cost))
        return subjects

    def _measure_fresh(self, turn: int, row: Row, peer: Peer) -> None:
        try:
            with self.running(peer) as (subject, _):
                self._measure(turn, row, peer.name, subject)
        except Unready as error:
            self._leave_out(peer.name, str(error))

    def _measure(self, turn: int, row: Row, name: str, subject: Subject) -> None:
        if row.measure is None or (subject.process and subject.process.ended):
            return
        self.progress(f"round {turn + 1}: {row.name}: {name}")
        values = row.measure(self.load, subject, self.effort)
        if subject.process and subject.process.ended:
            self._leave_out(name, f"died in {row.name}: {subject.process.last_words()}")
        elif values:
            self.samples.append(Taken(turn, row.name, name, values))

    def _leave_out(self, name: str, why: str) -> None:
        self.peers = [peer for peer in self.peers if peer.name != name]
        self.left_out[name] = why


def _rotated(items: list[T], turn: int) -> list[T]:
    start = turn % len(items) if items else 0
    return items[start:] + items[:start]
