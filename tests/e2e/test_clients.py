"""The clients people have, through the proxy and over real protocols, to servers that this test starts."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e.programs import needs

pytestmark = pytest.mark.slow

NOBODY = 65534
PAGE = "<html><body><p id=said>it works</p></body></html>"


class Proxy(NamedTuple):
    mixed: int
    postgres: int
    redis: int
    headed: int  # wants a PROXY header first


def free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


def run(*command: str | Path, timeout: float = 60, **environment: str) -> str:
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=timeout,
        env=env | environment, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextmanager
def running(*command: str | Path, port: int, patience: float = 20) -> Iterator[None]:
    """A server, once it listens."""
    with tempfile.TemporaryFile() as said:
        server = subprocess.Popen(
            [str(part) for part in command], stdout=said, stderr=said, stdin=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + patience
            while True:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                if server.poll() is not None or time.monotonic() > deadline:
                    said.seek(0)
                    text = said.read().decode(errors="replace")
                    pytest.fail(f"{command[0]} does not listen:\n{text}", pytrace=False)
                time.sleep(0.05)
            yield
        finally:
            server.terminate()
            with suppress(subprocess.TimeoutExpired):
                server.wait(10)
            server.kill()
            server.wait(10)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """A web server's port and folder."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "page.html").write_text(PAGE)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002  # the base class's name

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_address[1], folder
        server.shutdown()


POSTGRES, REDIS = free_ports(2)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    proxy = Proxy(*free_ports(4))
    config = tmp_path_factory.mktemp("proxy") / "proxy.yaml"
    config.write_text(
        f"""
        listeners:
          mixed: {{bind: 127.0.0.1:{proxy.mixed}, mode: mixed}}
          postgres: {{bind: 127.0.0.1:{proxy.postgres}, mode: forward, to: "127.0.0.1:{POSTGRES}"}}
          redis: {{bind: 127.0.0.1:{proxy.redis}, mode: forward, to: "127.0.0.1:{REDIS}"}}
          headed: {{bind: 127.0.0.1:{proxy.headed}, mode: mixed, proxy_protocol: require, trust: [loopback]}}
        direct: {{allow: [loopback]}}
        log: {{format: json}}
        """
    )
    with running(sys.executable, "-m", "proxy", "run", config, port=proxy.mixed):
        yield proxy


@pytest.mark.parametrize("how", [
    "--socks4", "--socks4a", "--socks5", "--socks5-hostname", "-x http://", "--proxytunnel -x http://",
])  # fmt: skip
def test_curl(proxy: Proxy, site: tuple[int, Path], how: str) -> None:
    needs("curl")
    options = f"{how}127.0.0.1:{proxy.mixed}" if how.endswith("//") else f"{how} 127.0.0.1:{proxy.mixed}"
    for _ in range(3):
        assert run("curl", "-sS", *options.split(), f"http://localhost:{site[0]}/page.html") == PAGE


def test_curl_twice_through_one_command(proxy: Proxy, site: tuple[int, Path]) -> None:
    needs("curl")
    url = f"http://localhost:{site[0]}/page.html"
    assert run("curl", "-sS", "-x", f"http://127.0.0.1:{proxy.mixed}", url, url) == PAGE * 2


def test_curl_haproxy_protocol(proxy: Proxy, site: tuple[int, Path]) -> None:
    """curl tells the last server of a chain who it is, so the proxy must be what it takes for that."""
    needs("curl")
    url = f"http://127.0.0.1:{site[0]}/page.html"
    headed = f"http://127.0.0.1:{proxy.headed}/"
    assert run("curl", "-sS", "--haproxy-protocol", "--request-target", url, headed) == PAGE


@pytest.mark.account
@pytest.mark.parametrize("version", ["4", "5", "connect"])
def test_ssh(proxy: Proxy, tmp_path: Path, version: str) -> None:
    sshd, _ = needs("sshd"), needs("nc")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    (port,) = free_ports(1)
    for name in ("host", "user"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name)
    shutil.copy(tmp_path / "user.pub", tmp_path / "authorized")
    options = [f"Port={port}", "ListenAddress=127.0.0.1", f"HostKey={tmp_path}/host", "StrictModes=no", "UsePAM=no",
               f"AuthorizedKeysFile={tmp_path}/authorized", f"PidFile={tmp_path}/pid"]  # fmt: skip
    server = [part for option in options for part in ("-o", option)]
    command = f"nc -X {version} -x 127.0.0.1:{proxy.mixed} %h %p"
    client = ["BatchMode=yes", "StrictHostKeyChecking=no", f"UserKnownHostsFile={tmp_path}/known",
              f"IdentityFile={tmp_path}/user", f"ProxyCommand={command}"]  # fmt: skip
    with running(sshd, "-D", "-e", "-f", "/dev/null", *server, port=port):
        arguments = [part for option in client for part in ("-o", option)]
        for _ in range(2):
            said = run("ssh", "-F", "none", "-p", str(port), *arguments, "127.0.0.1", "echo it works")
            assert said == "it works\n"


@pytest.mark.parametrize("scheme", ["http", "socks5h", "socks4a"])
def test_git(proxy: Proxy, site: tuple[int, Path], tmp_path: Path, scheme: str) -> None:
    needs("git")
    port, folder = site
    served = folder / f"{scheme}.git"
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    run("git", "init", "-q", tmp_path / "work")
    (tmp_path / "work" / "file").write_text(scheme)
    run("git", "-C", tmp_path / "work", "add", "file")
    run("git", "-C", tmp_path / "work", *who, "commit", "-q", "-m", "x")
    run("git", "clone", "-q", "--bare", tmp_path / "work", served)
    run("git", "-C", served, "update-server-info")
    through = f"http.proxy={scheme}://127.0.0.1:{proxy.mixed}"
    run("git", "-c", through, "clone", "-q", f"http://localhost:{port}/{scheme}.git", tmp_path / "copy")
    assert (tmp_path / "copy" / "file").read_text() == scheme


@pytest.mark.account
def test_psql(proxy: Proxy, tmp_path: Path) -> None:
    needs("psql")
    bin_folder = Path(needs("postgres")).resolve().parent
    data = tmp_path / "data"
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:2]:
        parent.chmod(0o755)
    as_nobody = []
    if os.geteuid() == 0:
        as_nobody = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
        data.mkdir()
        os.chown(data, NOBODY, NOBODY)
    run(*as_nobody, bin_folder / "initdb", "-D", data, "-A", "trust", "-U", "alice", "--no-sync", timeout=120)
    settings = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"]
    with running(
        *as_nobody, bin_folder / "postgres", "-D", data, "-p", str(POSTGRES), *settings, port=POSTGRES
    ):
        for _ in range(3):
            url = f"postgresql://alice@127.0.0.1:{proxy.postgres}/postgres?sslmode=prefer"
            assert run("psql", "-X", "-At", url, "-c", "select 6 * 7") == "42\n"


def test_redis_cli(proxy: Proxy, tmp_path: Path) -> None:
    needs("redis-cli")
    with running(needs("redis-server"), "--port", str(REDIS), "--save", "", "--dir", tmp_path, port=REDIS):
        assert run("redis-cli", "-p", str(proxy.redis), "set", "a", "it works") == "OK\n"
        assert run("redis-cli", "-p", str(proxy.redis), "get", "a") == "it works\n"


def test_pip(proxy: Proxy, site: tuple[int, Path], tmp_path: Path) -> None:
    port, folder = site
    index = folder / "simple" / "nothing"
    index.mkdir(parents=True, exist_ok=True)
    name = "nothing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(index / name, "w") as wheel:
        wheel.writestr("nothing.py", "")
        wheel.writestr(
            "nothing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: nothing\nVersion: 1.0\n"
        )
        wheel.writestr(
            "nothing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("nothing-1.0.dist-info/RECORD", "")
    (index / "index.html").write_text(f"<a href='{name}'>{name}</a>")
    pip = [sys.executable, "-m", "pip", "download", "-q", "--isolated", "--no-deps", "--no-cache-dir"]
    through = [
        "--proxy",
        f"http://127.0.0.1:{proxy.mixed}",
        "--index-url",
        f"http://localhost:{port}/simple/",
    ]
    run(
        *pip,
        *through,
        "--trusted-host",
        "localhost",
        "--dest",
        tmp_path,
        "nothing==1.0",
        PIP_CONFIG_FILE="/dev/null",
    )
    assert (tmp_path / name).exists()


@pytest.mark.parametrize("scheme", ["socks5", "socks4", "http"])
def test_chromium(proxy: Proxy, site: tuple[int, Path], tmp_path: Path, scheme: str) -> None:
    arguments: Sequence[str] = [
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path}",
        f"--proxy-server={scheme}://127.0.0.1:{proxy.mixed}", "--proxy-bypass-list=<-loopback>", "--dump-dom",
    ]  # fmt: skip
    said = run(needs("chromium"), *arguments, f"http://127.0.0.1:{site[0]}/page.html", timeout=120)
    assert "it works" in said
