"""`make run` in a fresh copy of the house: its own environment, the example as it stands, a request through it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HOUSE = Path(__file__).parent.parent.parent
MADE_HERE = shutil.ignore_patterns(".*", "__pycache__", "out")


@pytest.fixture(scope="module", autouse=True)
def network(machine_network: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Packages are installed from their index."""
    with machine_network():
        yield


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone holds: no environment, no caches."""
    house = tmp_path_factory.mktemp("fresh") / "tfo-proxy"
    shutil.copytree(HOUSE, house, ignore=MADE_HERE)
    return house


@pytest.fixture
def upstream() -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"you asked for {self.path}".encode())

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def wait_until_it_listens(port: int, patience: float, make: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert make.poll() is None, "it ended"
            assert time.monotonic() < deadline, "it does not listen"
            time.sleep(0.05)
        else:
            return


@pytest.mark.parametrize(("patience", "which"), [(180, "first"), (60, "second")])
def test_make_run_serves_the_example(fresh: Path, upstream: str, patience: float, which: str) -> None:
    port = free_port()
    example = (HOUSE / "config.example.yaml").read_text()
    assert example.count("127.0.0.1:8080") == 2
    example = example.replace("127.0.0.1:8080", f"127.0.0.1:{port}").replace(
        "http://example.com", f"http://{upstream}"
    )
    # The upstream is on this machine, where nobody may go unless it is said.
    (fresh / "config.example.yaml").write_text(f"{example}\ndirect: {{allow: [127.0.0.1]}}\n")
    admin = f"127.0.0.1:{free_port()}"
    environment = {**os.environ, "PYTHON": sys.executable, "ADMIN": admin}
    log = fresh / f"{which}.log"
    with log.open("wb") as output:
        make = subprocess.Popen(
            ["make", "run"], cwd=fresh, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_until_it_listens(port, patience, make)
        to_try = re.search(r"^To try it: (curl .*)$", log.read_text(), re.MULTILINE)
        assert to_try, "it says what to try"
        answer = subprocess.run(to_try[1], shell=True, capture_output=True, text=True, timeout=60, check=True)
        assert answer.stdout == "you asked for /"
        to_watch = re.search(r"^To watch it: (http://\S+)$", log.read_text(), re.MULTILINE)
        assert to_watch, "and where to watch"
        assert to_watch[1] == f"http://{admin}/"
        with urllib.request.urlopen(to_watch[1], timeout=10) as page:
            assert b"<title>tfo-proxy</title>" in page.read()
        os.killpg(make.pid, signal.SIGINT)
        make.wait(60)
    except BaseException:
        print(log.read_text())
        raise
    finally:
        if make.poll() is None:
            os.killpg(make.pid, signal.SIGKILL)
            make.wait()
    said = log.read_text()
    assert said.count(f"127.0.0.1:{port}") >= 2, "it says where it listens"
    assert "Traceback" not in said
    assert ("Installing" in said) == (which == "first")
