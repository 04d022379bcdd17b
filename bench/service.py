"""The program as a service: started, reloaded, upgraded, its workers killed, its log read; all from outside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeAlias

from proxy.lab.namespaces import Namespace, python_environment
from proxy.lab.servers import Address

Line: TypeAlias = dict[str, Any]
PATIENCE = 30.0
_SESSION = b'"event":"session"'


class Holdings(NamedTuple):
    """What a program has, all its processes together or one after the other."""

    memory: int  # bytes
    descriptors: list[int]  # by process, in ascending order
    tasks: list[int]  # the same

    def __str__(self) -> str:
        mine = " + ".join(map(str, self.descriptors)), " + ".join(map(str, self.tasks))
        return f"{self.memory / 1e6:.1f} MB, {mine[0]} descriptors, {mine[1]} tasks"


class Service:
    """`tfo-proxy run` of a document, in ``namespace`` or here; what it logs goes to a file."""

    def __init__(
        self,
        folder: Path,
        document: Line,
        namespace: Namespace | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._file = folder / "proxy.yaml"
        self.log = folder / "proxy.log"
        self._document = document
        self.configure()
        command = [sys.executable, "-m", "proxy", "run", str(self._file)]
        start = subprocess.Popen if namespace is None else namespace.popen
        with self.log.open("ab") as log:
            self._process = start(command, env={**python_environment(), **(env or {})}, stderr=log)
        self.pid = self._process.pid
        self.kills: list[float] = []  # time.time()
        self._events: list[Line] = []
        self._read = 0  # bytes of the log
        try:
            self.pid = int(self.wait_for("ready", 1)["pid"])
        except TimeoutError:
            self.end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def configure(self, **changed: object) -> None:
        """Write the file anew; the program notices by itself."""
        self._document = self._document | changed
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps({"log": {"format": "json"}, **self._document}))
        part.replace(self._file)

    def lines(self, event: str = "") -> Iterator[Line]:
        """What it has logged so far, of one event or of all but sessions; another program's words are left out.

        Sessions are many, and read anew each time; everything else is read once.
        """
        if event == "session":
            with self.log.open("rb") as log:
                for raw in log:
                    if _SESSION in raw:
                        with contextlib.suppress(ValueError):
                            yield json.loads(raw)
            return
        self._read_on()
        yield from [line for line in self._events if not event or line["event"] == event]

    def _read_on(self) -> None:
        with self.log.open("rb") as log:
            log.seek(self._read)
            for raw in log:
                if not raw.endswith(b"\n"):
                    break
                self._read += len(raw)
                if _SESSION not in raw:
                    with contextlib.suppress(ValueError):
                        self._events.append(json.loads(raw))

    def wait_for(self, event: str, number: int) -> Line:
        """The so-manieth line of an event."""
        found: list[Line] = []

        def there() -> bool:
            found[:] = self.lines(event)
            return len(found) >= number

        try:
            until(there)
        except TimeoutError:
            raise TimeoutError(f"no {event} number {number} in:\n{self.last_words()}") from None
        return found[number - 1]

    def listening(self) -> dict[str, Address]:
        """Where each listener really listens."""
        found: dict[str, Address] = {}
        for line in self.lines("listening"):
            host, _, port = line["bind"].rpartition(":")
            found[line["listener"]] = (host, int(port))
        return found

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:]

    def count(self, event: str) -> int:
        return sum(1 for _ in self.lines(event))

    def workers(self) -> list[int]:
        """The processes that serve sessions: the program's own where there shall be no others."""
        if self._document.get("workers", 1) == 1:
            return [self.pid]
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(child) for child in children if "_worker" in _command_of(int(child))]

    def reload(self) -> None:
        """And wait until it is done."""
        before = self.count("reloaded")
        os.kill(self.pid, signal.SIGHUP)
        self.wait_for("reloaded", before + 1)

    def upgrade(self) -> None:
        """Have another program take over, and wait until it has."""
        before = self.count("ready")
        os.kill(self.pid, signal.SIGUSR2)
        self.pid = int(self.wait_for("ready", before + 1)["pid"])

    def kill_a_worker(self, which: int = 0) -> int:
        """And tell which; where all of them are dead already, the next one to come."""
        until(lambda: bool(self.workers()))
        workers = self.workers()
        victim = workers[which % len(workers)]
        os.kill(victim, signal.SIGKILL)
        self.kills.append(time.time())
        return victim

    def status(self) -> Line:
        """What it says when asked."""
        before = self.count("status")
        os.kill(self.pid, signal.SIGUSR1)
        return self.wait_for("status", before + 1)

    def open_sessions(self) -> int:
        return int(self.status()["open_sessions"])

    def holdings(self) -> Holdings:
        """What it has now."""
        return Holdings(self.memory(), sorted(self.descriptors().values()), sorted(self.status()["tasks"]))

    def descriptors(self) -> dict[int, int]:
        """Open ones, by process."""
        return {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in {self.pid, *self.workers()}}

    def memory(self) -> int:
        """Bytes of its own, all processes together."""
        total = 0
        for pid in {self.pid, *self.workers()}:
            status = Path(f"/proc/{pid}/status").read_text()
            total += sum(
                int(line.split()[1]) * 1024
                for line in status.splitlines()
                if line.startswith(("RssAnon", "RssShmem"))
            )
        return total

    def end(self) -> None:
        """In order, or by force."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            until(lambda: not _lives(self.pid, self._process), 10.0)
        with contextlib.suppress(ProcessLookupError):
            if _lives(self.pid, self._process):
                os.kill(self.pid, signal.SIGKILL)
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait(PATIENCE)


def until(condition: Callable[[], bool], timeout: float = PATIENCE) -> None:
    """Wait for something that can only be looked at; raises TimeoutError."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come about")
        time.sleep(0.02)


def _lives(pid: int, started: subprocess.Popen[bytes]) -> bool:
    if pid == started.pid:
        return started.poll() is None
    with contextlib.suppress(OSError):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False


def _command_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""
