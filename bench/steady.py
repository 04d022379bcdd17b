"""So many new clients a second, come what may: `steady.c`, which costs a tenth of what `traffic` does."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path
from typing import IO, NamedTuple, Self

from bench.load import LoadError, build
from bench.traffic import Call
from proxy.lab.servers import Address

SOURCE = Path(__file__).with_name("steady.c")


class Offered(NamedTuple):
    """How many clients really came."""

    seconds: float
    clients: int
    least: int  # in any whole second

    @property
    def rate(self) -> float:
        """Clients a second."""
        return self.clients / self.seconds


class Steady:
    """A running generator with its echo server. Clients come between `begin` and `end`."""

    def __init__(self) -> None:
        command = [str(build(SOURCE))]
        pipe = subprocess.PIPE
        self._popen = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1)
        self.server: Address = ("127.0.0.1", int(self._output().readline()))
        self._said = ""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._popen.kill()
        self._listener.join()
        self._popen.communicate()

    def begin(self, rate: float, forward: Address, socks: Address) -> None:
        """So many a second, most of them to a listener that forwards to `server`, the others to one of mode socks."""
        self._tell(f"go {rate} {forward[1]} {socks[1]}")

    def end(self) -> tuple[list[Call], Offered]:
        """No more of them; what became of all, once the last one has ended. Their listeners are called a and s."""
        self._tell("stop")
        self._listener.join()
        *lines, last = self._said.splitlines()
        if self._popen.wait() or not last.startswith("rate "):
            raise LoadError(f"the clients ended early, with status {self._popen.returncode}")
        _, seconds, clients, least = last.split()
        return [_call(line) for line in lines], Offered(float(seconds), int(clients), int(least))

    def _tell(self, command: str) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.write(command + "\n")
        self._popen.stdin.flush()

    def _listen(self) -> None:
        self._said = self._output().read()

    def _output(self) -> IO[str]:
        assert self._popen.stdout is not None
        return self._popen.stdout


def _call(line: str) -> Call:
    kind, listener, port, began, ended, up, down, outcome = line.split()
    return Call(
        kind, listener, float(began), f"127.0.0.1:{port}", int(up), int(down), float(ended), outcome
    )  # fmt: skip
