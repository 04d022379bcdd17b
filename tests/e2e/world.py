"""A world for real clients: servers behind a long line, their names and certificates, and the proxy beside clients."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
import trustme

from proxy.lab.namespaces import Namespace, python_environment
from proxy.lab.wan import Wan

RTT = 0.02
DOMAIN = "servers.test"
NAMES = 600
HTTP, HTTPS, SSH, GIT, POSTGRES, MARIADB, REDIS = 8000, 8443, 2222, 9418, 5432, 3306, 6379
MIXED, WITH_USERS, HEADED, FORWARDS = 7401, 7402, 7403, 7410
USER, PASSWORD = "alice", "opensesame"
PAGE = "<html><body><p id=said>it works</p></body></html>"
MSG_FASTOPEN = 0x20000000
EVERY_LISTENER = 0x403  # each takes SYN data, whether it asked for it or not (ip-sysctl.rst, tcp_fastopen)
NOBODY = 65534
PATIENCE = 120.0


class World:
    """Servers on every address of the far side, by name; one proxy that has met none of them."""

    def __init__(self) -> None:
        self._undo = contextlib.ExitStack()
        self._names: Iterator[str] = iter(())
        self._addresses: dict[str, str] = {}

    def __enter__(self) -> Self:
        with self._undo:
            # Not pytest's folder: databases run as another user, who may not go there.
            self.folder = Path(self._undo.enter_context(tempfile.TemporaryDirectory(prefix="clients-")))
            self.folder.chmod(0o755)
            self.site = self.folder / "site"
            self.site.mkdir()
            (self.site / "page.html").write_text(PAGE)
            authority = trustme.CA()
            self.ca = self.folder / "ca.pem"
            authority.cert_pem.write_to_path(str(self.ca))
            self._certificate = authority.issue_cert(f"*.{DOMAIN}")
            self.wan = self._undo.enter_context(Wan(rtt=RTT))
            self.wan.server.sysctl("net.ipv4.tcp_fastopen", EVERY_LISTENER)
            self._undo.enter_context(self.wan.client.entered())
            for number in range(NAMES):
                self._addresses[f"s{number}.{DOMAIN}"] = self.wan.fresh_address()
            self._names = iter(self._addresses)
            lines = [f"{address} {name}" for name, address in self._addresses.items()]
            (self.folder / "hosts").write_text("127.0.0.1 localhost\n" + "\n".join(lines) + "\n")
            (self.folder / "resolv.conf").write_text(
                "nameserver 127.0.0.1\n"
            )  # where nothing answers, at once
            self.databases = {port: self.fresh() for port in (POSTGRES, MARIADB, REDIS)}
            self._serve(HTTP, None)
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._certificate.configure_cert(context)
            self._serve(HTTPS, context)
            self._start_proxy()
            self._undo = self._undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def fresh(self, port: int = 0) -> str:
        """The name of a server that the proxy has not met; with a port, the kernel has its cookie already."""
        name = next(self._names)
        if port:
            self.fetch_cookie(name, port)
        return name

    def urls(self) -> list[str]:
        """The page on a server that the proxy has not met, once by HTTP and once by HTTPS."""
        return [
            f"http://{self.fresh(HTTP)}:{HTTP}/page.html",
            f"https://{self.fresh(HTTPS)}:{HTTPS}/page.html",
        ]

    def fetch_cookie(self, name: str, port: int) -> None:
        """Let the kernel have the cookie of this server, as an earlier run of the proxy would have left it."""
        with socket.socket() as sock:
            sock.settimeout(2)
            with contextlib.suppress(OSError):
                sock.sendto(b"", MSG_FASTOPEN, (self._addresses[name], port))
        time.sleep(2 * RTT)

    # Programs

    def command(self, command: Sequence[str | Path]) -> list[str]:
        """This command, in a world where the names are known."""
        rights = [] if os.geteuid() == 0 else ["--map-root-user"]
        files = " && ".join(
            f"mount --bind {self.folder}/{name} /etc/{name}" for name in ("hosts", "resolv.conf")
        )
        script = f'{files} && exec "$@"'
        return ["unshare", "--mount", *rights, "sh", "-c", script, "sh", *(str(part) for part in command)]

    def run(self, *command: str | Path, env: Mapping[str, str] | None = None) -> str:
        """What a client said on stdout; it must end well. It knows nothing of this machine's settings."""
        mine = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "HOME": str(self.folder), "LANG": "C.UTF-8"}
        done = subprocess.run(
            self.command(command), capture_output=True, text=True, check=False, timeout=PATIENCE,
            env=mine | dict(env or {}), stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def serving(self, port: int, *command: str | Path, patience: float = 30) -> Iterator[None]:
        """A server of others on the far side, once it listens."""
        with self._running(self.wan.server, command, port, patience):
            yield

    @contextlib.contextmanager
    def _running(
        self, namespace: Namespace, command: Sequence[str | Path], port: int, patience: float,
        env: Mapping[str, str] | None = None,
    ) -> Iterator[None]:  # fmt: skip
        with tempfile.TemporaryFile() as said, namespace.entered():
            process = subprocess.Popen(
                self.command(command), stdout=said, stderr=said, stdin=subprocess.DEVNULL, env=env,
                start_new_session=True,
            )  # fmt: skip
            try:
                deadline = time.monotonic() + patience
                while not listens(port):
                    if process.poll() is not None or time.monotonic() > deadline:
                        said.seek(0)
                        text = said.read().decode(errors="replace")
                        pytest.fail(f"{command[0]} does not listen:\n{text[-3000:]}", pytrace=False)
                    time.sleep(0.02)
                with self.wan.client.entered():
                    yield
            finally:
                for number in (signal.SIGTERM, signal.SIGKILL):
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, number)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(5)
                        break

    def _serve(self, port: int, context: ssl.SSLContext | None) -> None:
        """A web server of the site, which keeps connections."""

        class Handler(SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002  # the base class's name

        server = ThreadingHTTPServer(
            ("0.0.0.0", port), functools.partial(Handler, directory=str(self.site)), bind_and_activate=False
        )
        server.socket.close()
        server.socket = self.wan.server.socket()
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.server_bind()
        server.server_activate()
        if context is not None:
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        self._undo.callback(server.server_close)
        self._undo.callback(thread.join)
        self._undo.callback(server.shutdown)

    def _start_proxy(self) -> None:
        forwards: dict[str, Any] = {
            f"port{port}": {
                "bind": f"127.0.0.1:{FORWARDS + index}",
                "mode": "forward",
                "to": f"{name}:{port}",
            }
            for index, (port, name) in enumerate(self.databases.items())
        }
        document = {
            "listeners": {
                "mixed": {"bind": f"127.0.0.1:{MIXED}", "mode": "mixed"},
                "users": {"bind": f"127.0.0.1:{WITH_USERS}", "mode": "mixed", "users": {USER: PASSWORD}},
                "headed": {
                    "bind": f"127.0.0.1:{HEADED}",
                    "mode": "mixed",
                    "proxy_protocol": "require",
                    "trust": ["loopback"],
                },
                **forwards,
            },
            "defaults": {"warm_up": False},
            "log": {"format": "json"},
        }
        file = self.folder / "proxy.yaml"
        file.write_text(json.dumps(document))
        command = [sys.executable, "-m", "proxy", "run", str(file)]
        self._undo.enter_context(self._running(self.wan.client, command, MIXED, 20, python_environment()))

    def forward(self, port: int) -> int:
        """The proxy's port that leads to the database on this one."""
        return FORWARDS + list(self.databases).index(port)


def listens(port: int) -> bool:
    """Whether something in this thread's namespace listens there (without a connection to it)."""
    text = Path("/proc/thread-self/net/tcp").read_text() + Path("/proc/thread-self/net/tcp6").read_text()
    rows = [line.split() for line in text.splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows if row[0] != "sl")
