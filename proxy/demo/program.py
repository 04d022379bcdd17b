"""The proxy, started inside the lab as a user would start it, and what its log says."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Self, TypeAlias

from proxy.lab.namespaces import Namespace, python_environment
from proxy.lab.servers import Address

Line: TypeAlias = Mapping[str, object]

PATIENCE = 20.0
PR_SET_PDEATHSIG = 1
_FIRST = 3  # SD_LISTEN_FDS_START
_NAMED_BY_PID = ("sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh")  # the child's number is known in the child only


class ProxyFailedError(RuntimeError):
    """The proxy did not do what it was started for; the text has its last words."""


class Program:
    """``tfo-proxy run`` with one listener. It is ready when the constructor returns, and ends with the block.

    ``sockets`` are listening sockets of another namespace that it serves in place of its own, as from a service
    manager: sd_listen_fds(3).
    """

    def __init__(
        self, namespace: Namespace, config: Mapping[str, object], sockets: Sequence[socket.socket] = ()
    ) -> None:
        self._lines: list[Line] = []
        self._text: list[str] = []
        self._changed = threading.Condition()
        self._over = False
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", prefix="tfo-proxy-demo-") as file:
            json.dump(config, file)
            file.flush()
            with namespace.entered():
                passed = range(_FIRST, _FIRST + len(sockets))
                self._process = subprocess.Popen(
                    [*_NAMED_BY_PID, sys.executable, "-m", "proxy", "run", file.name],
                    env={**python_environment(), "LISTEN_FDS": str(len(sockets))}, pass_fds=passed,
                    stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                    preexec_fn=partial(_prepare, sockets),  # noqa: PLW1509  # no thread of ours holds a lock it needs
                )  # fmt: skip
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()
            try:
                self.wait("ready")
            except BaseException:  # an interruption, too, must not leave it behind
                self.close()
                raise

    @property
    def address(self) -> Address:
        """Where it listens."""
        host, _, port = str(self.wait("listening")["bind"]).rpartition(":")
        return host, int(port)

    @property
    def sessions(self) -> list[Line]:
        """The lines of the sessions that have ended."""
        with self._changed:
            return self._of("session")

    def wait(self, event: str, count: int = 1) -> Line:
        """The ``count``-th line of an event. Raises ProxyFailedError."""
        if not self._until(lambda: len(self._of(event)) >= count or self._over):
            raise ProxyFailedError(f"the proxy did not say {event!r}: {self._last_words()}")
        with self._changed:
            found = self._of(event)
            if len(found) < count:
                raise ProxyFailedError(f"the proxy has ended: {self._last_words()}")
            return found[count - 1]

    def close(self) -> None:
        """End it, and wait until it has."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(PATIENCE)
        if self._process.stderr is not None:
            self._process.stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _of(self, event: str) -> list[Line]:
        return [line for line in self._lines if line.get("event") == event]

    def _until(self, condition: Callable[[], bool]) -> bool:
        with self._changed:
            return self._changed.wait_for(condition, PATIENCE)

    def _last_words(self) -> str:
        return " / ".join(self._text[-5:]) or "it said nothing"

    def _read(self) -> None:
        assert self._process.stderr is not None
        for raw in self._process.stderr:
            text = raw.decode(errors="replace").rstrip("\n")
            line: Line = json.loads(text) if text.startswith("{") else {}
            with self._changed:
                self._text.append(text)
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()


def _prepare(sockets: Sequence[socket.socket]) -> None:
    """In the child, before exec(3): it ends with its parent, and has ``sockets`` where it looks for them."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    copies = [fcntl.fcntl(sock, fcntl.F_DUPFD, _FIRST + len(sockets)) for sock in sockets]
    for number, copy in enumerate(copies, _FIRST):
        os.dup2(copy, number)
