"""The README's two commands where there is nothing but Python and make: each does all its own set-up."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import PIP_CONF, Network
from tests.e2e.containers import BASE, HOUSE, LIMITS, Engine, wheels

pytestmark = [pytest.mark.podman, pytest.mark.root, pytest.mark.slow]

MADE_HERE = shutil.ignore_patterns(".*", "__pycache__", "out", "dist")

# Starts it, asks it for a page of its own machine's, and ends it.
RUN = """
set -e
make run >log 2>&1 &
for second in $(seq 60); do grep -q '"event":"ready"' log && break; sleep 1; done
python3 - <<'END'
import socket
with socket.create_connection(("127.0.0.1", 8080), 5) as client:
    client.sendall(b"CONNECT 127.0.0.1:1 HTTP/1.1\\r\\nHost: 127.0.0.1:1\\r\\n\\r\\n")
    print(client.recv(1000).decode())
END
kill -TERM $!
wait || true
cat log
"""


def test_both_commands_need_only_python_and_make(
    engine: Engine, python_version: str, tmp_path: Path, machine_network: Network
) -> None:
    shutil.copytree(HOUSE, tmp_path / "house", ignore=MADE_HERE)
    (tmp_path / "pip.conf").write_text(PIP_CONF)
    with machine_network():
        folder = wheels(python_version, ("requirements.lock", "requirements-dev.lock"))
    inside = ["run", "--rm", "--network", "none", *LIMITS, "--volume", f"{tmp_path}/house:/house",
              "--volume", f"{folder}:/wheels:ro", "--volume", f"{tmp_path}/pip.conf:/pip.conf:ro",
              "--env", "PIP_CONFIG_FILE=/pip.conf", "--workdir", "/house", BASE]  # fmt: skip
    said = engine.podman(*inside, "sh", "-c", RUN)
    assert "403" in said, said  # an upstream on the machine itself is not for those who only name it
    assert '"event":"stopped"' in said
    said = engine.podman(*inside, "make", "test", "TESTS=tests/core")
    assert " passed" in said.splitlines()[-1]
