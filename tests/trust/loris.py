"""Clients that never come to the point; run by a test, and by the benchmark as a program of its own."""

from __future__ import annotations

import heapq
import socket
import sys
import threading
import time


class Loris(threading.Thread):
    """Opens connections, so many a second, and says one byte a second on each, until each of them is closed.

    With nothing to say it says nothing, and keeps them.
    """

    def __init__(self, to: tuple[str, int], opening: bytes, rate: float) -> None:
        super().__init__(daemon=True)
        self._to, self._opening, self._rate = to, opening, rate
        self._over = threading.Event()
        self.opened = self.closed = 0
        self._socks: list[
            tuple[float, int, int, socket.socket]
        ] = []  # when to speak next, number, bytes said

    def run(self) -> None:
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due += 1 / self._rate
            try:
                sock = socket.create_connection(self._to, timeout=10)
            except OSError:  # who is refused comes again
                continue
            sock.setblocking(False)
            self.opened += 1
            heapq.heappush(self._socks, (time.monotonic(), self.opened, 0, sock))
            if self._opening:
                self._mumble()
        for *_, sock in self._socks:
            sock.close()

    def _mumble(self) -> None:
        now = time.monotonic()
        while self._socks and self._socks[0][0] <= now:
            _, number, said, sock = self._socks[0]
            try:
                sock.send(self._opening[said : said + 1] or b"x")
            except BlockingIOError:
                pass
            except OSError:
                heapq.heappop(self._socks)
                sock.close()
                self.closed += 1
                continue
            heapq.heapreplace(self._socks, (now + 1.0, number, said + 1, sock))

    def end(self) -> None:
        self._over.set()
        self.join(10)


if __name__ == "__main__":
    host, port, rate, opening = sys.argv[1:]
    loris = Loris((host, int(port)), opening.encode(), float(rate))
    loris.start()
    sys.stdin.read()
    loris.end()
    print(loris.opened, loris.closed)
