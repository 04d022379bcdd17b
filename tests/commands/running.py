"""The real program on loopback with an echo server behind it, for commands that speak to one."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

PROXY = [sys.executable, "-m", "proxy"]


def said(*arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of one command."""
    done = subprocess.run([*PROXY, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


class Running:
    """`tfo-proxy run`, ready; killed when the block is left. Keywords are keys of its file."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.file, self._log = folder / "proxy.yaml", folder / "log"
        self.admin = f"unix:{folder}/admin"
        self._settings = settings
        self._upstream = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()
        self.configure()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen([*PROXY, "run", str(self.file)], stderr=log)
        self.until('"ready"')

    def configure(self, **settings: Any) -> None:
        """Write its file anew."""
        to = f"127.0.0.1:{self._upstream.getsockname()[1]}"
        listener = {"bind": "127.0.0.1:0", "mode": "forward", "to": to}
        document = {"listeners": {"a": listener}, "admin": {"bind": self.admin}, **self._settings, **settings}
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps(document))
        part.replace(self.file)

    def until(self, text: str) -> None:
        """Wait for this to stand in its log."""
        deadline = time.monotonic() + 30
        while text not in self._log.read_text():
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)

    def address(self) -> tuple[str, int]:
        found = re.search(r'"bind":"127\.0\.0\.1:(\d+)"', self._log.read_text())
        assert found
        return "127.0.0.1", int(found[1])

    def ready(self) -> bool:
        """What /readyz says."""
        connection = http.client.HTTPConnection("localhost", timeout=5)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self.admin.removeprefix("unix:"))
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
        connection.close()
        return status == 200

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(15)
        self._upstream.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._upstream.accept()
            except OSError:
                return
            threading.Thread(target=_echo, args=(client,), daemon=True).start()


def _echo(client: socket.socket) -> None:
    with client, suppress(OSError):
        while data := client.recv(4096):
            client.sendall(data)
