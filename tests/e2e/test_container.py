"""The Dockerfile, built and run: a client's container, the proxy's, and an upstream's, on a network of their own.

There is no registry here: the base image is a small Debian made by debootstrap, and the packages are fetched
beforehand, so that the build itself needs no network. Both are kept between runs, in the cache directory. Storage
and network are the test's own, and go with it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest

pytestmark = [pytest.mark.podman, pytest.mark.root, pytest.mark.slow]

HOUSE = Path(__file__).parent.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tfo-proxy-tests"
LIMITS = ["--ulimit", "nofile=10000:20000", "--ulimit", "nproc=1000:1000"]
IMAGE = "localhost/tfo-proxy"
BASE = "localhost/tfo-proxy-base"

PIP_CONF = "[global]\nno-index = true\nfind-links = /wheels\n"

CONFIG = """
listeners:
  web: {{bind: "*:8080", mode: forward, to: "{upstream}:80", timeouts: {{first_bytes: 1s}}}}
defaults: {{fast_open: always, warm_up: false}}  # so near an upstream would be dialled plainly
log: {{format: json}}
drain: 10s
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
            time.sleep(2)
        connection.sendall(request)
while True:
    threading.Thread(target=serve, args=listener.accept()[:1]).start()
"""

CLIENT = """
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode(), flush=True)
"""


def run(*command: str | Path, check: bool = True, timeout: float = 300) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


@contextmanager
def kept(name: str) -> Iterator[Path]:
    """A path under the cache directory, to be made if it is not there; one maker at a time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield CACHE / name


def debian(scratch: Path) -> Path:
    """A root file system of this machine's own Debian release, with Python, from where this machine gets it."""
    sources = run("apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages")
    codename = next(line.partition("=")[2] for line in Path("/etc/os-release").read_text().splitlines()
                    if line.startswith("VERSION_CODENAME="))  # fmt: skip
    mirror = dict(line.split() for line in sources.splitlines())[codename]
    with kept(f"debian-{codename}-python.tar") as tar:
        if not tar.exists():
            include = "--include=python3,python3-venv,ca-certificates"
            run("debootstrap", "--variant=minbase", include, codename, scratch / "root", mirror, timeout=1200)
            run("tar", "--directory", scratch / "root", "--create", "--file", scratch / "tar", ".")
            shutil.rmtree(scratch / "root")
            shutil.move(scratch / "tar", tar)
    return tar


def wheels(version: str) -> Path:
    """A folder with all that the image installs, as wheels for Python ``version``; hashes checked by pip."""
    locks = [HOUSE / "requirements-build.lock", HOUSE / "requirements.lock"]
    digest = hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).hexdigest()[:16]
    with kept(f"wheels-{version}-{digest}") as folder:
        if not folder.exists():
            partial = folder.with_suffix(".part")
            for lock in locks:
                run(sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "-r", lock,
                    "--dest", partial, "--only-binary", ":all:", "--python-version", version)  # fmt: skip
            partial.rename(folder)
    return folder


class Engine:
    """podman and buildah on storage of their own, in a network namespace of its own."""

    def __init__(self, directory: Path, namespace: str) -> None:
        self.inside = ["nsenter", f"--net=/run/netns/{namespace}"]
        self.store = ["--root", f"{directory}/storage", "--runroot", f"{directory}/run"]
        self.settings = ["--network-config-dir", f"{directory}/networks", "--runtime", "runc",
                         "--cgroup-manager", "cgroupfs"]  # fmt: skip

    def podman(self, *arguments: str | Path, check: bool = True) -> str:
        return run(*self.inside, "podman", *self.store, *self.settings, *arguments, check=check)

    def buildah(self, *arguments: str | Path) -> str:
        return run(*self.inside, "buildah", *self.store, *arguments)

    def start(self, name: str, *arguments: str | Path) -> str:
        """Start a container, and return its address."""
        self.podman("run", "--detach", "--name", name, "--network", "lan", *LIMITS, *arguments)
        network = json.loads(self.podman("inspect", name))[0]["NetworkSettings"]["Networks"]["lan"]
        address: str = network["IPAddress"]
        return address

    def log(self, name: str) -> str:
        """What a container wrote, to stdout and to stderr."""
        command = [*self.inside, "podman", *self.store, *self.settings, "logs", name]
        return subprocess.run(command, stdout=PIPE, stderr=STDOUT, text=True, check=True, timeout=60).stdout

    def sessions(self, count: int) -> list[dict[str, object]]:
        """What the proxy logged of its first sessions; a session's line may come a moment after its last byte."""
        deadline = time.monotonic() + 10
        while True:
            events = [json.loads(line) for line in self.log("proxy").splitlines() if line.startswith("{")]
            sessions = [event for event in events if event["event"] == "session"]
            if len(sessions) >= count or time.monotonic() > deadline:
                return sessions
            time.sleep(0.1)

    def client(self, url: str) -> str:
        return self.podman("run", "--rm", "--network", "lan", *LIMITS, "--entrypoint", "python3",
                           BASE, "-c", CLIENT, url)  # fmt: skip


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    directory = tmp_path_factory.mktemp("podman")
    namespace = f"tfo-podman-{os.getpid()}"
    with ExitStack() as undo:
        run("ip", "netns", "add", namespace)
        undo.callback(run, "ip", "netns", "del", namespace)
        run("ip", "-n", namespace, "link", "set", "lo", "up")
        undo.callback(shutil.rmtree, directory)
        engine = Engine(directory, namespace)
        undo.callback(engine.podman, "rm", "--all", "--force", "--time", "0")
        yield engine


@pytest.fixture(scope="module")
def image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image on a base with Debian's Python. The build's network is the namespace's: it leads nowhere."""
    scratch = tmp_path_factory.mktemp("build")
    engine.podman("import", debian(scratch), BASE)
    version = engine.podman("run", "--rm", "--network", "none", *LIMITS, BASE, "python3", "-c",
                            "import sys; print('%d.%d' % sys.version_info[:2])")  # fmt: skip
    (scratch / "pip.conf").write_text(PIP_CONF)
    engine.buildah(
        "build", "--isolation", "chroot", "--format", "docker", "--network", "host", "--build-arg", f"BASE={BASE}",
        "--secret", f"id=pip.conf,src={scratch}/pip.conf", "--volume", f"{wheels(version)}:/wheels:ro",
        "--tag", IMAGE, HOUSE,
    )  # fmt: skip
    return IMAGE


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
        deadline = time.monotonic() + 10
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
    time.sleep(1)
    started = time.monotonic()
    engine.podman("stop", "--time", "20", "proxy")
    assert time.monotonic() - started < 8, "it waited for more than the session"
    assert exit_code(engine) == 0, engine.log("proxy")
    engine.podman("wait", name)
    assert "GET /slow HTTP/1.1" in engine.log(name)
