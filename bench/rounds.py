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

from bench import peers as known
from bench.load import Load
from bench.peers import Peer
from bench.process import Process
from bench.rows import START_ROW, Effort, Row, Sample, Subject
from bench.table import Taken

T = TypeVar("T")
READY_WITHIN = 15.0
"""Seconds a relay has from its start to its first reply."""


class Unready(Exception):
    """The relay did not come up; the text holds its last words."""


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def replies(port: int) -> bool:
    """Whether a byte comes back from the load generator's server through `port`."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as client:
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

    @contextlib.contextmanager
    def running(self, peer: Peer) -> Iterator[tuple[Subject, Sample]]:
        """The relay, started and answering, with what its start cost."""
        self.started += 1
        directory = self.directory / f"{peer.name}-{self.started}"
        directory.mkdir()
        port = free_port()
        command = peer.command(directory, port, self.load.port)
        began = time.monotonic()
        with Process(command, core=self.core, directory=directory, env=peer.env) as process:
            while not replies(port):
                if process.ended or time.monotonic() - began > READY_WITHIN:
                    raise Unready(f"did not start: {process.last_words()}")
                time.sleep(0.01)
            taken = time.monotonic() - began
            yield Subject(port, process), {"start_ms": 1e3 * taken, "start_mib": process.resident() / 2**20}

    def one_round(self, turn: int, *, direct: bool) -> None:
        """All rows once, the relays side by side, each round beginning with another relay."""
        with contextlib.ExitStack() as stack:
            subjects = self._start_all(turn, stack)
            if direct:
                subjects[known.DIRECT] = Subject(self.load.port, None)
            for row in self.rows:
                if not row.fresh:
                    for name in _rotated(list(subjects), turn):
                        self._measure(turn, row, name, subjects[name])
        for row in self.rows:
            if row.fresh:
                for peer in _rotated(self.peers, turn):
                    self._measure_fresh(turn, row, peer)

    def _start_all(self, turn: int, stack: contextlib.ExitStack) -> dict[str, Subject]:
        subjects: dict[str, Subject] = {}
        for peer in self.peers:
            try:
                subjects[peer.name], cost = stack.enter_context(self.running(peer))
            except (Unready, OSError) as error:
                self._leave_out(peer.name, str(error))
                continue
            if START_ROW in self.rows:
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
