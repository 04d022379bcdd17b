"""`tfo-proxy run` from outside: what it accepts, what it refuses, and with which exit status."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

RUN = [sys.executable, "-m", "proxy", "run"]


def refused(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([*RUN, *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.skipif(Path("/etc/tfo-proxy/config.yaml").exists(), reason="there is a configuration to serve")
def test_nothing_to_serve_is_a_usage_error() -> None:
    status, said = refused()
    assert status == 2
    assert "/etc/tfo-proxy/config.yaml" in said
    assert "--forward" in said


@pytest.mark.parametrize("forward", ["127.0.0.1:0", "=127.0.0.1:80", "127.0.0.1:0=nowhere"])
def test_a_bad_flag_is_a_bad_configuration(forward: str) -> None:
    status, said = refused("--forward", forward)
    assert status == 78
    assert "--forward" in said


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "nowhere", "*:8080"])
def test_a_mixed_proxy_for_everybody_or_nowhere_is_a_bad_configuration(bind: str) -> None:
    status, said = refused("--mixed", bind)
    assert status == 78
    assert "--mixed" in said


def test_a_bad_file_is_told_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text("listeners:\n  web: {bind: 127.0.0.1:0, mode: fourward, to: 127.0.0.1:80}\n")
    status, said = refused(str(file))
    assert status == 78
    assert f"{file}:2:" in said
    assert "forward" in said


def test_a_bind_that_is_taken_is_named_and_nothing_lingers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as other:
        free = other.getsockname()[1]
        other.close()
        port = taken.getsockname()[1]
        flags = [f"--forward=127.0.0.1:{free}=127.0.0.1:9", f"--forward=127.0.0.1:{port}=127.0.0.1:9"]
        status, said = refused(*flags)
        assert status == 1
        assert f"127.0.0.1:{port}" in said
        assert "Address already in use (EADDRINUSE)" in said
    with socket.create_server(("127.0.0.1", free)):
        pass


def test_file_and_flags_serve_together(tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text('listeners: {one: {bind: "127.0.0.1:0", mode: forward, to: "127.0.0.1:9"}}\n')
    command = [*RUN, str(file), "--forward", "127.0.0.1:0=127.0.0.1:9", "--log-level", "info"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
        assert program.stderr is not None
        listening = 0
        for line in program.stderr:
            listening += '"listening"' in line
            if '"ready"' in line:
                break
        program.send_signal(signal.SIGINT)
        rest = program.stderr.read()
        assert program.wait(30) == 0
    assert listening == 2
    assert '"stopped"' in rest


def test_a_higher_log_level_says_less(tmp_path: Path) -> None:
    here = tmp_path / "here"
    command = [*RUN, "--forward", f"unix:{here}=127.0.0.1:9", "--log-level", "error"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
        for _ in range(300):
            if here.exists():
                break
            with pytest.raises(subprocess.TimeoutExpired):
                program.wait(0.1)
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(1)  # it says what it has to say of its start
        program.send_signal(signal.SIGTERM)
        _, said = program.communicate(timeout=30)
    assert program.returncode == 0
    assert said == ""


def through(proxy: str, url: str) -> str:
    """The status that curl gets for ``url`` through ``proxy``."""
    command = [
        "curl",
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "--max-time",
        "20",
        "-x",
        f"http://{proxy}",
        url,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize("allowed", [True, False])
def test_options_come_from_the_environment_and_loopback_is_allowed_on_request(
    tmp_path: Path, allowed: bool
) -> None:
    (tmp_path / "index.html").write_text("here")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        environ = {**os.environ, "TFO_PROXY_MIXED": "127.0.0.1:0", "TFO_PROXY_LOG_LEVEL": "info"}
        if allowed:
            environ["TFO_PROXY_ALLOW_LOOPBACK"] = "1"
        with subprocess.Popen(RUN, stderr=subprocess.PIPE, text=True, env=environ) as proxy:
            try:
                assert proxy.stderr is not None
                lines = (json.loads(line) for line in proxy.stderr if line.startswith("{"))
                bind = next(line["bind"] for line in lines if line["event"] == "listening")
                assert through(bind, f"http://127.0.0.1:{site.server_address[1]}/") == (
                    "200" if allowed else "403"
                )
                session = next(line for line in lines if line["event"] == "session")
                assert allowed or "allow" in str(session), "the refusal says what would allow it"
            finally:
                proxy.terminate()
        site.shutdown()
