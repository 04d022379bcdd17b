"""The real program, as a user starts it, in a namespace of the lab; with its log, line by line."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeAlias

from proxy.lab.namespaces import Namespace, python_environment
from proxy.lab.servers import Address, Server

Line: TypeAlias = dict[str, Any]

PATIENCE = 30.0
GET = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"


def forward(
    to: Server | Address | str,
    bind: str | list[str] = "127.0.0.1:0",
    *,
    timeouts: Line | None = None,
    **cluster: Any,
) -> tuple[Line, Line]:
    """A forward listener and its cluster, for `Program`; keywords are the cluster's keys."""
    if isinstance(to, Server):
        to = to.address
    if not isinstance(to, str):
        host, port = to
        to = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    settings = {"endpoints": [to], "warm_up": False, **cluster}
    return {"bind": bind, "mode": "forward", "timeouts": timeouts or {}}, settings


class Program:
    """`python -m proxy run` with one listener and cluster for each name, or with arguments of one's own.

    `prefix` is put before the command (prlimit, setpriv, unshare). It is listening when the constructor returns, and
    killed when the block is left, unless it has ended. `lines` are what it has logged so far.
    """

    def __init__(
        self,
        namespace: Namespace,
        listeners: Mapping[str, tuple[Line, Line]] | None = None,
        *,
        arguments: Sequence[str] = (),
        prefix: Sequence[str] = (),
        python: str = sys.executable,
        env: Mapping[str, str] | None = None,
        ready: bool = True,
        document: Line | None = None,
        **settings: Any,
    ) -> None:
        self.lines: list[Line] = []
        self.text: list[str] = []
        self._changed = threading.Condition()
        self._over = False
        self._folder = tempfile.TemporaryDirectory()
        if listeners is not None or document is not None:
            Path(self._folder.name).chmod(0o755)
            file = Path(self._folder.name, "proxy.yaml")
            self.file = file
            self.configure(listeners, document=document, **settings)
            arguments = [str(file), *arguments]
        self.process = namespace.popen(
            [*prefix, python, "-m", "proxy", "run", *arguments],
            env={**python_environment(), **(env or {})},
            stderr=subprocess.PIPE,
        )
        self.pid = self.process.pid  # of the program itself, once it has said it is ready
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if ready:
            try:
                line = self.wait_for("ready")
            except TimeoutError:
                self.close()
                raise
            self.pid = self._child() if prefix[:1] == ["unshare"] else int(line["pid"])

    def configure(
        self,
        listeners: Mapping[str, tuple[Line, Line]] | None = None,
        *,
        document: Line | None = None,
        **settings: Any,
    ) -> None:
        """Write its file anew; it notices by itself."""
        text = json.dumps(_config(listeners or {}) | (document or {}) | settings)
        part = self.file.with_suffix(".part")
        part.write_text(text)
        part.replace(self.file)

    def reload(self, number: int = 1) -> Line:
        """Have it read its file now; the line of the `number`-th reload."""
        self.signal(signal.SIGHUP)
        return self.wait_for("reloaded", number)

    def address(self, listener: str = "a", which: int = 0) -> Address:
        """Where a listener really listens."""
        found = [line for line in self.lines if line["event"] == "listening" and line["listener"] == listener]
        host, _, port = found[which]["bind"].rpartition(":")
        return (host.strip("[]"), int(port))

    def wait_for(self, event: str, count: int = 1, timeout: float = PATIENCE, **fields: object) -> Line:
        """The `count`-th line of this event that has these fields. Raises TimeoutError with the whole log."""

        def found() -> list[Line]:
            lines = [line for line in self.lines if line["event"] == event]
            return [line for line in lines if all(line.get(key) == value for key, value in fields.items())]

        with self._changed:
            self._changed.wait_for(lambda: len(found()) >= count or self._over, timeout)
            if len(found()) < count:
                log = "\n".join(self.text)
                raise TimeoutError(f"no {event} number {count} with {fields} in:\n{log}")
            return found()[count - 1]

    def session(self, number: int = 1, **fields: object) -> Line:
        """The line of the `number`-th session that ended."""
        return self.wait_for("session", number, PATIENCE, **fields)

    def events(self, event: str) -> list[Line]:
        """All lines of an event so far."""
        with self._changed:
            return [line for line in self.lines if line["event"] == event]

    def status(self) -> Line:
        """The answer to SIGUSR1."""
        before = len(self.events("status"))
        self.signal(signal.SIGUSR1)
        return self.wait_for("status", before + 1)

    def open_sessions(self) -> int:
        """How many sessions it says are open."""
        return int(self.status()["open_sessions"])

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def descriptors(self) -> int:
        """How many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def memory(self) -> int:
        """Its resident set in bytes."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found
        return int(found[1]) * 1024

    def end(self, timeout: float = PATIENCE) -> int:
        """Wait until it has ended and all it said was read; its exit code."""
        code = self.process.wait(timeout)
        self._reader.join(timeout)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        if self.process.stderr is not None:
            self.process.stderr.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        faults = [line for line in self.lines if line["event"] == "session_fault"]
        assert not faults, faults
        assert "Traceback" not in "\n".join(self.text), "\n".join(self.text)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for raw in self.process.stderr:
            text = raw.decode(errors="replace").rstrip("\n")
            with self._changed:
                self.text.append(text)
                with contextlib.suppress(ValueError):
                    self.lines.append(json.loads(text))
                self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _child(self) -> int:
        (child,) = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(child)


def _config(listeners: Mapping[str, tuple[Line, Line]]) -> Line:
    return {
        "listeners": {name: listener | {"to": f"to-{name}"} for name, (listener, _) in listeners.items()},
        "clusters": {f"to-{name}": cluster for name, (_, cluster) in listeners.items()},
        "log": {"format": "json"},
    }


def until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Wait for something that can only be looked at. Raises TimeoutError."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come about")
        time.sleep(0.01)
