"""The single-file program: made twice alike, and run where there is nothing but Python."""

from __future__ import annotations

import filecmp
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def network(machine_network: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Packages are installed from their index."""
    with machine_network():
        yield


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("pyz") / "tfo-proxy.pyz"
    subprocess.run([HOUSE / "tools" / "make-pyz", file], check=True, capture_output=True)
    return file


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment that has heard of no other Python files than the program's."""
    return {"PATH": os.environ["PATH"], "SHIV_ROOT": str(tmp_path / "unpacked")}


@pytest.fixture
def upstream() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(connection.recv(100).upper())

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def base_python() -> str:
    """The interpreter that the virtual environment stands on: it has none of our packages."""
    return str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")


def test_it_is_made_twice_alike(program: Path, tmp_path: Path) -> None:
    subprocess.run([HOUSE / "tools" / "make-pyz", tmp_path / "again.pyz"], check=True, capture_output=True)
    assert filecmp.cmp(tmp_path / "again.pyz", program, shallow=False)


def test_it_is_small_and_names_no_place(program: Path) -> None:
    assert program.stat().st_size < 8 << 20
    assert str(HOUSE).encode() not in program.read_bytes()


def test_it_needs_nothing_but_python(program: Path, bare: dict[str, str], tmp_path: Path) -> None:
    said = subprocess.run(
        [base_python(), "-I", program, "version"], env=bare, cwd=tmp_path, check=True, capture_output=True
    )
    assert said.stdout.startswith(b"tfo-proxy ")


@pytest.mark.parametrize("workers", [1, 2])
def test_it_relays(program: Path, bare: dict[str, str], tmp_path: Path, upstream: int, workers: int) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"""
listeners: {{one: {{bind: "unix:{tmp_path}/one", mode: forward, to: "127.0.0.1:{upstream}"}}}}
workers: {workers}
log: {{format: json}}
""")
    with subprocess.Popen([base_python(), program, "run", config], env=bare, cwd=tmp_path, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True) as proxy:  # fmt: skip
        try:
            assert proxy.stdout is not None
            said = []
            for line in proxy.stdout:
                said.append(line)
                if '"event":"ready"' in line:
                    break
            else:
                pytest.fail("".join(said))
            for _ in range(4):
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(10)
                    client.connect(f"{tmp_path}/one")
                    client.sendall(b"hello")
                    assert client.recv(100) == b"HELLO"
        finally:
            proxy.terminate()
            rest = proxy.communicate(timeout=20)[0]
        assert proxy.returncode == 0, rest
