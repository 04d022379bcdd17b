"""Modules read when they are asked for: the mechanism, and the whole program that relies on it."""

from __future__ import annotations

import importlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import pytest

import proxy
from proxy import later

NAME = "read_late_by_a_test"
SLOW = "import time\nx = 1\ntime.sleep(0.2)\nlast = 2\n"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a module that is on the list."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(later, "LATER", later.LATER | {NAME})
    yield tmp_path / f"{NAME}.py"
    sys.modules.pop(NAME, None)


def imported() -> ModuleType:
    return importlib.import_module(NAME)


def test_importing_reads_nothing(module: Path) -> None:
    module.write_text("raise AssertionError\n")
    assert imported() is imported()
    assert NAME in later.unread()


def test_an_attribute_has_it_read_once(module: Path) -> None:
    module.write_text("import sys\nsys.times_read = getattr(sys, 'times_read', 0) + 1\nx = 1\n")
    found = imported()
    assert (found.x, found.x, sys.__dict__.pop("times_read")) == (1, 1, 1)
    assert type(found) is ModuleType
    assert found.__spec__ is not None
    assert found.__spec__.loader is found.__loader__
    assert importlib.reload(found).x == 1
    assert sys.__dict__.pop("times_read") == 1


def test_from_import_takes_what_is_in_it(module: Path) -> None:
    module.write_text("__all__ = ['x']\nx = 1\n_y = 2\n")
    scope: dict[str, Any] = {}
    exec(f"from {NAME} import *", scope)
    assert scope["x"] == 1
    assert "_y" not in scope


def test_what_is_not_in_it_is_missed_as_ever(module: Path) -> None:
    module.write_text("x = 1\n")
    assert not hasattr(imported(), "y")
    assert imported().x == 1


def test_it_may_import_itself_while_it_is_read(module: Path) -> None:
    module.write_text(f"import {NAME} as me\nfirst = 1\nseen = me.first, hasattr(me, 'last')\nlast = 2\n")
    assert imported().seen == (1, False)
    assert imported().last == 2


def test_what_fails_fails_for_everybody_who_asks(module: Path) -> None:
    module.write_text("import nowhere_to_be_found\nx = 1\n")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="nowhere_to_be_found"):
            _ = imported().x
    module.write_text("x = 'mended'\n")
    os.utime(module, (1, 1))
    assert imported().x == "mended"


def test_threads_wait_for_the_one_that_reads(module: Path) -> None:
    module.write_text(SLOW)
    found, seen = imported(), []
    threads = [threading.Thread(target=lambda: seen.append(found.last)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [2] * 8


def test_read_leaves_alone_what_nobody_imports(module: Path) -> None:
    module.write_text("x = 1\n")
    later.read([NAME])
    assert NAME not in sys.modules
    imported()
    later.read([NAME])
    assert NAME not in later.unread()


# --- the program


class Program:
    """`tfo-proxy run` that can be asked which modules it has: it prints them when it gets SIGPROF."""

    MAIN = (
        "import signal, sys, types\n"
        "from proxy import later\n"
        "def modules():\n"
        "    return sorted(name for name, one in sys.modules.items() if type(one) is types.ModuleType)\n"
        "signal.signal(signal.SIGPROF, lambda *_: print(*modules(), flush=True))\n"
        "from proxy.__main__ import main\n"
        "sys.exit(main())\n"
    )

    def __init__(self, folder: Path, package: Path = Path(proxy.__file__).parent, **settings: Any) -> None:
        self.file = folder / "proxy.json"
        self._echo = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()
        self.listener = {
            "bind": "127.0.0.1:0",
            "mode": "forward",
            "to": f"127.0.0.1:{self._port(self._echo)}",
        }
        self.configure(**settings)
        self._lines: list[dict[str, Any]] = []
        path = [str(package.parent), *(entry for entry in sys.path if entry.endswith("site-packages"))]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", self.MAIN, "run", str(self.file)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/", bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        )  # fmt: skip
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._echo.close()

    def configure(self, **settings: Any) -> None:
        document = {"listeners": {"a": self.listener}, **settings}
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps(document))
        part.chmod(0o644)
        part.replace(self.file)

    def event(self, name: str, number: int = 1) -> dict[str, Any]:
        """The number-th line of its log that tells of this."""
        deadline = time.monotonic() + 30
        while True:
            found = [line for line in self._lines if line["event"] == name]
            if len(found) >= number:
                return found[number - 1]
            assert time.monotonic() < deadline, self._lines
            time.sleep(0.02)

    def modules(self) -> set[str]:
        self._process.send_signal(signal.SIGPROF)
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], 30)[0]
        return set(self._process.stdout.readline().split())

    def passes(self, port: int) -> bool:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(b"hello")
            return client.recv(100) == b"hello"

    def port(self) -> int:
        self.event("ready")
        return int(self.event("listening")["bind"].rpartition(":")[2])

    @staticmethod
    def _port(sock: socket.socket) -> int:
        port: int = sock.getsockname()[1]
        return port

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.append(json.loads(line) if line.startswith("{") else {"event": "", "said": line})

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._echo.accept()
            except OSError:
                return
            with client:
                client.sendall(client.recv(100))


FAR = {"bind": "127.0.0.1:0", "mode": "tunnel", "key": "0123456789abcdef" * 4}
ASKING = {"bind": "127.0.0.1:0", "mode": "mixed", "users": {"alice": "wonderland"}, "allow": ["loopback"]}
ADMIN_PARTS = {"proxy.admin.server", "proxy.admin.site", "proxy.admin.metrics", "h11"}
CIPHERS = {"ssl", "_ssl", "hashlib", "_hashlib", "hmac", "secrets"}


def admin_answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        client.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return client.recv(100).startswith(b"HTTP/1.1 200")


def test_a_plain_forward_reads_neither_admin_nor_ciphers_nor_what_draws(tmp_path: Path) -> None:
    with Program(tmp_path, log={"format": "json"}) as program:
        assert program.passes(program.port())
        program.event("session")
        modules = program.modules()
    assert "proxy.sessions.session" in modules
    unwanted = {"asyncio", "difflib", "dns", "idna", "multiprocessing", "rich"}
    assert modules & (ADMIN_PARTS | CIPHERS | unwanted) == set()
    rooms = {name.split(".")[1] for name in modules if name.startswith("proxy.")}
    assert rooms & {"lab", "demo", "diagnosis", "probe", "top"} == set()


def test_what_the_configuration_asks_for_is_there_before_anybody_comes(tmp_path: Path) -> None:
    listeners = {"far": FAR, "door": ASKING}
    with Program(tmp_path, listeners=listeners, admin={"bind": f"unix:{tmp_path}/admin"}) as program:
        program.event("ready")
        modules = program.modules()
        assert admin_answers(tmp_path / "admin")
    assert modules >= (ADMIN_PARTS | CIPHERS) - {"ssl", "_ssl"}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reload_may_ask_for_all_of_it(tmp_path: Path, workers: int) -> None:
    with Program(tmp_path, log={"format": "json"}, workers=workers) as program:
        port = program.port()
        assert not program.modules() & ADMIN_PARTS
        listeners = {"a": program.listener, "far": FAR, "door": ASKING}
        program.configure(
            log={"format": "json"},
            workers=workers,
            listeners=listeners,
            admin={"bind": f"unix:{tmp_path}/admin"},
        )
        program.event("reloaded")
        assert admin_answers(tmp_path / "admin")
        door = next(line for line in program._lines if line.get("listener") == "door")
        with socket.create_connection(
            ("127.0.0.1", int(door["bind"].rpartition(":")[2])), timeout=10
        ) as client:
            client.sendall(b"\x05\x01\x02\x01\x05alice\x0awonderland")
            assert client.recv(2) == b"\x05\x02"
            assert client.recv(2) == b"\x01\x00"
        assert program.passes(port)


def test_a_reload_that_finds_its_modules_gone_is_refused_and_nothing_else_happens(tmp_path: Path) -> None:
    package = tmp_path / "site" / "proxy"
    shutil.copytree(Path(proxy.__file__).parent, package)
    with Program(tmp_path, package, log={"format": "json"}) as program:
        port = program.port()
        package.parent.rename(tmp_path / "gone")
        program.configure(log={"format": "json"}, admin={"bind": f"unix:{tmp_path}/admin"})
        assert "proxy/admin/server.py" in program.event("not_reloaded")["why"]
        assert program.passes(port)
        (tmp_path / "gone").rename(package.parent)
        program._process.send_signal(signal.SIGHUP)
        program.event("reloaded")
        assert admin_answers(tmp_path / "admin")


@pytest.mark.root
def test_who_becomes_somebody_else_has_read_everything_before(tmp_path: Path) -> None:
    package = tmp_path / "site" / "proxy"
    shutil.copytree(Path(proxy.__file__).parent, package)
    for folder in (tmp_path, *tmp_path.parents[:3]):  # a process of several has a folder of its own
        folder.chmod(0o777)
    with Program(tmp_path, package, log={"format": "json"}, user="65534") as program:
        port = program.port()
        assert program.modules() >= ADMIN_PARTS | CIPHERS
        package.parent.chmod(0o700)  # as if it were root's alone
        listeners = {"a": program.listener, "door": ASKING}
        program.configure(
            log={"format": "json"},
            user="65534",
            listeners=listeners,
            admin={"bind": f"unix:{tmp_path}/admin"},
        )
        program.event("reloaded")
        assert admin_answers(tmp_path / "admin")
        assert program.passes(port)
