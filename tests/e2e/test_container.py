"""The image, run: a client's container, the proxy's, and an upstream's, on a network of their own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.containers import BASE, CLIENT, LIMITS, Engine
from tests.wire.program import until

pytestmark = [pytest.mark.podman, pytest.mark.root, pytest.mark.slow]

CONFIG = """
listeners:
  web: {{bind: "*:8080", mode: forward, to: "{upstream}:80", timeouts: {{first_bytes: 1s}}}}
defaults: {{fast_open: always, warm_up: false}}  # so near an upstream would be dialled plainly
log: {{format: json}}
drain: 120s
"""

# Answers each request with what it got, counted; says so slowly where the path is /slow. Takes SYN data.
UPSTREAM = """
import socket, threading, time
listener = socket.create_server(("", 80))
listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
def serve(connection):
    with connection:
        request = connection.recv(65536)
        connection.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n")
        if b"/slow" in request:
            print("slow", flush=True)
            time.sleep(5)
        connection.sendall(request)
while True:
    threading.Thread(target=serve, args=listener.accept()[:1]).start()
"""


@pytest.fixture(scope="module")
def upstream(engine: Engine, image: str) -> str:
    engine.podman("network", "create", "lan")
    return engine.start("upstream", "--sysctl", "net.ipv4.tcp_fastopen=3", "--user", "0", "--entrypoint", "python3",
                        image, "-c", UPSTREAM)  # fmt: skip


@pytest.fixture
def proxy(engine: Engine, image: str, upstream: str, tmp_path: Path) -> Iterator[str]:
    """A running proxy, read-only and without any capability; its address."""
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(upstream=upstream))
    tmp_path.chmod(0o755)
    address = engine.start("proxy", "--sysctl", "net.ipv4.tcp_fastopen=3", "--read-only", "--cap-drop", "all",
                           "--volume", f"{config}:/etc/tfo-proxy/config.yaml:ro", image)  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while "unhealthy" in engine.podman("healthcheck", "run", "proxy", check=False):
            assert time.monotonic() < deadline, engine.log("proxy")
            time.sleep(0.1)
        yield address
    finally:
        engine.podman("rm", "--force", "--time", "0", "proxy")


def exit_code(engine: Engine) -> int:
    state: dict[str, int] = json.loads(engine.podman("inspect", "proxy"))[0]["State"]
    return state["ExitCode"]


def test_the_image_says_how_it_is_run(engine: Engine, image: str) -> None:
    config = json.loads(engine.buildah("inspect", "--type", "image", image))["Docker"]["config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["tfo-proxy"]
    assert config["Cmd"] == ["run", "/etc/tfo-proxy/config.yaml"]
    assert config["Healthcheck"]["Test"] == ["CMD", "tfo-proxy", "healthcheck"]
    assert config["StopSignal"] in {"SIGTERM", "15"}


def test_the_image_holds_what_it_needs_and_no_more(engine: Engine, image: str) -> None:
    files = engine.podman("run", "--rm", "--network", "none", *LIMITS, "--entrypoint", "find", image,
                          "/app", "/src", "/wheels", "/build", "-type", "f", check=False).splitlines()  # fmt: skip
    assert all(file.startswith("/app/") for file in files)
    assert not [file for file in files if "/pip/" in file or "/hatchling/" in file or "/tests/" in file]
    sources = {file for file in files if file.endswith(".py") and "/proxy/" in file}
    compiled = {file for file in files if file.endswith(".pyc") and "/proxy/" in file}
    assert len(sources) == len(compiled) > 10


def test_the_image_says_what_is_in_it(engine: Engine, image: str) -> None:
    said = engine.podman("run", "--rm", "--network", "none", *LIMITS, "--entrypoint", "cat", image,
                         "/app/share/tfo-proxy/sbom.cdx.json")  # fmt: skip
    bill = json.loads(said)
    assert bill["bomFormat"] == "CycloneDX"
    assert {"trio", "structlog"} <= {part["name"] for part in bill["components"]}


def test_the_image_is_small(engine: Engine, image: str) -> None:
    sizes = [json.loads(engine.podman("image", "inspect", name))[0]["Size"] for name in (image, BASE)]
    assert sizes[0] - sizes[1] < 80 << 20


def test_the_image_is_made_twice_alike(
    engine: Engine, image: str, build: Callable[..., str], tmp_path: Path
) -> None:
    """Every file in /app (which COPY itself makes): its path, its mode, its time, its bytes."""
    program = """if True:
        import hashlib, os
        for folder, folders, files in os.walk("/app"):
            folders.sort()
            for path in (os.path.join(folder, name) for name in folders + files):
                status = os.lstat(path)
                regular = os.path.isfile(path) and not os.path.islink(path)
                digest = hashlib.sha256(open(path, "rb").read()).hexdigest() if regular else ""
                print(path, oct(status.st_mode), status.st_mtime_ns, digest)
    """
    again = build("again", "--no-cache")
    alone = ["run", "--rm", "--network", "none", *LIMITS, "--entrypoint", "python3"]
    listings = [engine.podman(*alone, name, "-c", program) for name in (image, again)]
    assert set(listings[0].splitlines()) ^ set(listings[1].splitlines()) == set()


def test_it_runs_as_anybody(engine: Engine, image: str) -> None:
    said = engine.podman("run", "--rm", "--network", "none", *LIMITS, "--user", "31337:0", "--read-only", "--cap-drop",
                         "all", image, "check", "/etc/tfo-proxy/config.yaml")  # fmt: skip
    assert "ok" in said


def test_a_request_through_the_proxy_is_answered(engine: Engine, proxy: str) -> None:
    for number in range(3):
        assert f"GET /{number} HTTP/1.1" in engine.client(f"http://{proxy}:8080/{number}")
    sessions = engine.sessions(3)
    assert [session["evidence"] for session in sessions] == [
        "cookie_requested",
        "syn_data_acked",
        "syn_data_acked",
    ]
    last = sessions[-1]
    assert last["syn_bytes"] == last["early_bytes"] == last["up_bytes"]


def test_it_runs_as_nobody_with_nothing_to_write_to(engine: Engine, proxy: str) -> None:
    program = (
        "import os; s = os.stat('/proc/1'); print(s.st_uid, s.st_gid); print(open('/proc/1/status').read())"
    )
    said = engine.podman("exec", "proxy", "python3", "-c", program)
    assert said.startswith("65532 65532\n")
    assert "CapEff:\t0000000000000000" in said
    assert json.loads(engine.podman("inspect", "proxy"))[0]["HostConfig"]["ReadonlyRootfs"]
    assert proxy


def test_health_is_what_the_proxy_does(engine: Engine, proxy: str) -> None:
    assert engine.podman("exec", "proxy", "tfo-proxy", "healthcheck") == "healthy"
    assert engine.podman("exec", "proxy", "tfo-proxy", "healthcheck", f"{proxy}:8080") == "healthy"
    refused = ["exec", "proxy", "tfo-proxy", "healthcheck", f"{proxy}:8081"]
    with pytest.raises(AssertionError, match="refused"):
        engine.podman(*refused)


def test_sigterm_lets_a_session_end_and_exits_0(engine: Engine, proxy: str) -> None:
    name = "client"
    engine.podman("run", "--detach", "--name", name, "--network", "lan", *LIMITS, "--entrypoint", "python3",
                  BASE, "-c", CLIENT, f"http://{proxy}:8080/slow")  # fmt: skip
    until(lambda: "slow" in engine.log("upstream").split(), 60)
    started = time.monotonic()
    engine.podman("stop", "--time", "180", "proxy")
    assert time.monotonic() - started < 60, "it waited for more than the session"
    assert exit_code(engine) == 0, engine.log("proxy")
    engine.podman("wait", name)
    assert "GET /slow HTTP/1.1" in engine.log(name)
