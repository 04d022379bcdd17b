"""The admin of the real program, asked by curl, as docs/admin.md tells people to."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from proxy.lab.namespaces import python_environment
from tests.admin.house import TOKEN
from tests.admin.test_abuse import echo, program


class Running(NamedTuple):
    """A proxy, where its listener is, its admin, and its folder."""

    pid: int
    port: int
    admin: str
    folder: Path


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with echo() as server, program(tmp_path, server, "127.0.0.1:0") as (pid, port, admin):
        yield Running(pid, port, f"127.0.0.1:{admin}", tmp_path)


def curl(*arguments: str) -> str:
    return subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "10", *arguments],
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def code(*arguments: str) -> int:
    return int(curl("--output", "/dev/null", "--write-out", "%{http_code}", *arguments))


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proxy", *arguments],
        env=python_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def test_everything_curl_can_ask(running: Running) -> None:
    at = f"http://{running.admin}"
    unix = ("--unix-socket", f"{running.folder}/admin.sock")
    bearer = ("--header", f"Authorization: Bearer {TOKEN}")
    assert curl(f"{at}/readyz") == "ready\n"
    assert curl(*unix, "http://any.name/livez") == "ok\n"
    assert "tfoproxy_ready 1" in curl(f"{at}/metrics")
    assert "<html" in curl(f"{at}/")
    assert curl("--head", f"{at}/").startswith("HTTP/1.1 200")
    assert json.loads(curl(f"{at}/api/v1/status"))["config"] == f"{running.folder}/c.yaml"
    assert TOKEN not in curl(f"{at}/api/v1/config")
    assert code(f"{at}/api/v1/status", "--header", "Host: evil.example") == 421
    assert code("--data", "", f"{at}/api/v1/reload") == 401
    assert (
        code("--data", "", *bearer, "--header", "Origin: http://evil.example", f"{at}/api/v1/reload") == 403
    )
    assert json.loads(curl("--data", "", *bearer, f"{at}/api/v1/reload"))["ok"] is True
    assert (
        json.loads(curl(*unix, "--data", '{"level": "debug"}', "http://x/api/v1/loglevel"))["log_level"]
        == "debug"
    )
    assert json.loads(curl(f"{at}/api/v1/status"))["log_level"] == "debug"
    config = running.folder / "c.yaml"
    good = config.read_text()
    config.write_text(good.replace("forward", "forwrd"))
    refused = json.loads(curl(*unix, "--data", "", "http://x/api/v1/reload"))
    assert refused["ok"] is False
    assert "did you mean forward?" in refused["mistakes"][0]
    assert curl(f"{at}/readyz") == "ready\n", "what ran before runs on"
    config.write_text(good)


def test_our_own_commands(running: Running) -> None:
    file, unix = str(running.folder / "c.yaml"), f"unix:{running.folder}/admin.sock"
    for where in (["--admin", f"http://{running.admin}"], ["--admin", unix]):
        done = cli("status", *where)
        assert done.returncode == 0, done.stderr
        assert "ready for" in done.stdout
    assert cli("healthcheck", f"http://{running.admin}").stdout == "healthy\n"
    assert cli("healthcheck", unix).returncode == 0
    assert cli("check", file).returncode == 0
    assert curl(f"http://{running.admin}/readyz") == "ready\n"


def test_ready_until_it_drains(running: Running) -> None:
    unix = ("--unix-socket", f"{running.folder}/admin.sock")
    held = subprocess.Popen(
        ["nc", "127.0.0.1", str(running.port)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        at = f"http://{running.admin}"
        while json.loads(curl(f"{at}/api/v1/sessions"))["total_open"] == 0:
            pass
        assert json.loads(curl(*unix, "--data", "", "http://x/api/v1/drain"))["ok"] is True
        while code(f"{at}/readyz") != 503:
            pass
        assert code(f"{at}/livez") == 200
        assert curl(f"{at}/readyz") == "draining\n"
        assert cli("healthcheck", f"http://{running.admin}").returncode == 1
    finally:
        held.kill()
        held.communicate()
