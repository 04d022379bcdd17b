"""Clients that never come to the point; run by a test, and by the benchmark as a program of its own."""

from __future__ import annotations

import socket
import sys
import threading
import time


class Loris(threading.Thread):
    """Opens connections, so many a second, and says one byte a second on each, until each of them is closed."""

    def __init__(self, to: tuple[str, int], opening: bytes, rate: float) -> None:
        super().__init__(daemon=True)
        self._to, self._opening, self._rate = to, opening, rate
        self._over = threading.Event()
        self.opened = self.closed = 0
        self._socks: list[tuple[socket.socket, float, int]] = []

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
            self._socks.append((sock, 0.0, 0))
            self._mumble()
        for sock, _, _ in self._socks:
            sock.close()

    def _mumble(self) -> None:
        now, still = time.monotonic(), []
        for sock, due, said in self._socks:
            if now < due:
                still.append((sock, due, said))
                continue
            try:
                sock.send(self._opening[said : said + 1] or b"x")
            except BlockingIOError:
                still.append((sock, now + 1.0, said))
            except OSError:
                sock.close()
                self.closed += 1
            else:
                still.append((sock, now + 1.0, said + 1))
        self._socks = still

    def end(self) -> None:
        self._over.set()
        self.join(10)


if __name__ == "__main__":
    host, port, rate = sys.argv[1:]
    loris = Loris((host, int(port)), b"GET http://example.com/ HTTP/1.1\r\n", float(rate))
    loris.start()
    sys.stdin.read()
    loris.end()
    print(loris.opened, loris.closed)
