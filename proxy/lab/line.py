"""The handle on the forwarder process: start it, set its delays and rules, fetch what it saw, end it."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

from proxy.lab.forwarder import Message, receive, send
from proxy.lab.namespaces import python_environment
from proxy.lab.wire import Wire

EXIT_PATIENCE = 5.0


class Line:
    """A running forwarder. Its methods may be called from any thread; each is done when it returns."""

    def __init__(self, wire: Wire) -> None:
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair()
        fds = (theirs.fileno(), wire.ends[0].fd, wire.ends[1].fd)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-m", "proxy.lab.forwarder", str(fds[0])],
                env=python_environment(), pass_fds=fds, start_new_session=True,
            )  # fmt: skip
        self._ask([wire.kind, *(dataclasses.asdict(end) for end in wire.ends)])

    def set_delays(self, up: float, down: float) -> None:
        """Seconds from client to server and back."""
        self._ask(["delays", float(up), float(down)])

    def set_rules(self, rules: Sequence[tuple[str, Mapping[str, object], str]]) -> None:
        """The middleboxes on the line, in order from the side a packet comes from; all start afresh.

        Each is a name, its parameters, and the server's address whose packets it sees ("": all packets).
        """
        self._ask(["rules", [(name, dict(params), host) for name, params, host in rules]])

    def records(self) -> Message:
        """What crossed so far, as `forwarder.Record`s."""
        return self._ask(["capture"])

    def forget(self) -> None:
        """Begin the capture anew."""
        self._ask(["forget"])

    def close(self) -> None:
        """End the process and wait for it."""
        with self._lock:
            self._control.close()
        try:
            self._process.wait(EXIT_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, request: Message) -> Message:
        with self._lock, contextlib.suppress(ConnectionError):
            send(self._control, request)
            answer = receive(self._control)
            if answer is not None:
                return answer
        raise RuntimeError(f"the lab's forwarder has gone (exit code {self._process.poll()})")
