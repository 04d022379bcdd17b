"""The HTTP clients people have, through the proxy to web servers that people have: as without a proxy."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e.programs import needs

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def run(*command: str | Path, **environment: str) -> str:
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=60,
        env=env | environment, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextmanager
def running(*command: str | Path, port: int) -> Iterator[None]:
    """A server, once it listens."""
    server = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{command[0]} does not listen", pytrace=False)
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(10)
        server.kill()
        server.wait(10)


class Place(NamedTuple):
    proxy: int
    site: int
    log: Path


class Site(BaseHTTPRequestHandler):
    """Answers of every framing, and the body that came."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002  # the base class's name

    def do_GET(self) -> None:
        if self.path.startswith("/chunked"):
            self._head("Transfer-Encoding", "chunked")
            self.wfile.write(b"3\r\nabc\r\n" * 5 + b"0\r\n\r\n")
        elif self.path.startswith("/close"):
            self._head("Connection", "close")
            self.wfile.write(b"until the end")
            self.close_connection = True
        else:
            self._answer(f"{self.path} {self.headers.get('Host', '')}".encode())

    def do_HEAD(self) -> None:
        self._head("Content-Length", "7")

    def do_POST(self) -> None:
        said = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                said += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            said = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(b"%d %d" % (len(said), sum(said)))

    def do_PUT(self) -> None:
        self.do_POST()

    def _head(self, name: str, value: str) -> None:
        self.send_response(200)
        self.send_header(name, value)
        self.end_headers()

    def _answer(self, body: bytes) -> None:
        self._head("Content-Length", str(len(body)))
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("plain")
    port = free_port()
    log = folder / "log"
    listener = f"listeners: {{a: {{bind: 127.0.0.1:{port}, mode: http}}}}"
    (folder / "proxy.yaml").write_text(f"{listener}\ndirect: {{allow: [loopback]}}\nlog: {{format: json}}\n")
    with Server(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever).start()
        command = f"exec {sys.executable} -m proxy run {folder / 'proxy.yaml'} 2>{log}"
        with running("sh", "-c", command, port=port):
            yield Place(port, server.server_address[1], log)
        server.shutdown()
    text = log.read_text()
    assert "session_fault" not in text
    assert "s3cret" not in text, "a password in a URL is nobody's business"


PYTHON = """
import sys, urllib.request as request
base = sys.argv[1]
said = [request.urlopen(base + path).read() for path in ("/a", "/chunked", "/close", "/b")]
said.append(request.urlopen(base + "/post", data=b"x" * 100_000).read())
print(b" ".join(said).decode())
"""

NODE = """
const http = require("http"), agent = new http.Agent({keepAlive: true, maxSockets: 1});
const [site, proxy] = process.argv.slice(1);
const ask = (path, body) => new Promise((done, failed) => {
  const there = proxy ? {port: proxy, path: `http://127.0.0.1:${site}${path}`, headers: {Host: `127.0.0.1:${site}`}}
                      : {port: site, path};
  const asked = http.request({host: "127.0.0.1", method: body ? "POST" : "GET", agent, ...there}, answer => {
    let said = ""; answer.on("data", data => said += data); answer.on("end", () => done(said)); });
  asked.on("error", failed); asked.end(body); });
(async () => { const said = [];
  for (const path of ["/a", "/chunked", "/close", "/b"]) said.push(await ask(path));
  said.push(await ask("/post", "x".repeat(100000))); console.log(said.join(" ")); agent.destroy(); })();
"""

JAVA = """
import java.net.*; import java.net.http.*; import java.net.http.HttpResponse.BodyHandlers;
public class Ask { public static void main(String[] args) throws Exception {
  var builder = HttpClient.newBuilder();
  if (args.length > 1) builder.proxy(ProxySelector.of(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[1]))));
  var client = builder.build(); var base = "http://127.0.0.1:" + args[0]; var said = new StringBuilder();
  for (var path : new String[] {"/a", "/chunked", "/close", "/b"})
    said.append(client.send(HttpRequest.newBuilder(URI.create(base + path)).build(), BodyHandlers.ofString()).body())
      .append(" ");
  var body = HttpRequest.BodyPublishers.ofString("x".repeat(100000));
  var post = HttpRequest.newBuilder(URI.create(base + "/post")).POST(body);
  System.out.println(said.append(client.send(post.build(), BodyHandlers.ofString()).body())); } }
"""


def commands(place: Place, folder: Path, client: str, *, proxied: bool) -> list[str]:
    site, base = str(place.site), f"http://127.0.0.1:{place.site}"
    through = [str(place.proxy)] if proxied else []
    proxy = ["-x", f"http://127.0.0.1:{place.proxy}"] if proxied else ["--noproxy", "*"]
    (folder / "body").write_bytes(b"x" * 3_000_000)
    (folder / "Ask.java").write_text(JAVA)
    curl = ["curl", "-sS", "-w", " ", *proxy]
    upload = ["--data-binary", f"@{folder / 'body'}", f"{base}/post"]
    command = {
        "curl": [*curl, f"{base}/a", f"{base}/chunked", f"{base}/close", f"{base}/b?c=%C3%BC"],
        "curl-1.0": [*curl, "-0", f"{base}/a", f"{base}/chunked", f"{base}/close"],
        "curl-upload": [*curl, "-T", str(folder / "body"), f"{base}/put", f"{base}/a"],
        "curl-chunked": [*curl, "-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue", *upload],
        "curl-userinfo": [*curl, f"http://user:s3cret@127.0.0.1:{site}/a"],
        "wget": ["wget", "-q", "-O-", f"{base}/a", f"{base}/chunked", f"http://u:s3cret@127.0.0.1:{site}/b"],
        "urllib": ["python3", "-c", PYTHON, base],
        "node": ["node", "-e", NODE, "--", site, *through],
        "java": ["java", str(folder / "Ask.java"), site, *through],
    }[client]
    return [needs(command[0]), *command[1:]]


CLIENTS = [
    "curl",
    "curl-1.0",
    "curl-upload",
    "curl-chunked",
    "curl-userinfo",
    "wget",
    "urllib",
    "node",
    "java",
]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_gets_what_it_gets_without_a_proxy(place: Place, tmp_path: Path, client: str) -> None:
    directly = run(*commands(place, tmp_path, client, proxied=False))
    through = run(
        *commands(place, tmp_path, client, proxied=True), http_proxy=f"http://127.0.0.1:{place.proxy}"
    )
    assert through == directly
    assert directly.strip()


NODE_SERVER = """
const server = require("http").createServer((asked, answer) => {
  let size = 0; asked.on("data", data => size += data.length);
  asked.on("aborted", () => console.log("aborted"));
  asked.on("end", () => setTimeout(() => answer.end(`${asked.method} ${size}`), 100)); });
server.listen(process.argv[1], "127.0.0.1");
"""


def test_a_server_that_aborts_what_is_half_closed_answers(place: Place) -> None:
    port = free_port()
    with (
        running(needs("node"), "-e", NODE_SERVER, "--", str(port), port=port),
        socket.create_connection(("127.0.0.1", place.proxy), timeout=10) as sock,
    ):
        for number in range(3):
            head = f"POST http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: x\r\nContent-Length: {number}\r\n\r\n"
            sock.sendall(head.encode() + b"x" * number)
            sock.sendall(b"\r\n")  # as old browsers send it behind a body
            said = b""
            while f"POST {number}".encode() not in said:
                more = sock.recv(1000)
                assert more, said
                said += more


def test_squid_and_we_tell_a_server_the_same(place: Place, tmp_path: Path) -> None:
    """What both send on for requests that both take, but for the headers in which proxies name themselves."""
    squid = needs("squid")
    port = free_port()
    tmp_path.chmod(0o777)
    (tmp_path / "squid.conf").write_text(
        f"http_port 127.0.0.1:{port}\nhttp_access allow all\naccess_log none\ncache_log {tmp_path}/cache.log\n"
        f"cache deny all\npid_filename {tmp_path}/squid.pid\ncoredump_dir {tmp_path}\npinger_enable off\n"
        "shutdown_lifetime 0 seconds\nvisible_hostname gateway.test\nnetdb_filename none\n"
    )
    requests = [
        b"GET %b/a?b=c HTTP/1.1\r\nHost: other\r\nX-A:  b \r\nAccept: */*\r\n\r\n",
        b"GET %b/\xc3\xbc HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET %b HTTP/1.2\r\nHost: x\r\nConnection: X-B, keep-alive\r\nX-B: c\r\nKeep-Alive: 5\r\nTE: trailers\r\n\r\n",
        b"GET %b?q HTTP/1.0\r\n\r\n",
        b"\r\nHEAD %b/ HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic eDp5\r\nProxy-Connection: close\r\n\r\n",
        b"POST %b/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nCookie: a=b\r\n\r\nhello",
    ]
    with (
        socket.create_server(("127.0.0.1", 0)) as origin,
        running(squid, "-N", "-f", tmp_path / "squid.conf", port=port),
    ):
        base = b"http://127.0.0.1:%d" % origin.getsockname()[1]
        for request in requests:
            theirs, ours = (heard(origin, proxy, request % base) for proxy in (port, place.proxy))
            assert ours == theirs


OWN = {b"via", b"x-forwarded-for", b"cache-control", b"connection"}


def heard(origin: socket.socket, proxy: int, request: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """The request's line, fields and body as the server gets them through the proxy at that port."""
    with socket.create_connection(("127.0.0.1", proxy), timeout=10) as client:
        client.sendall(request)
        origin.settimeout(10)
        server, _ = origin.accept()
        with server:
            server.settimeout(10)
            said = b""
            while b"\r\n\r\n" not in said or (request.endswith(b"hello") and not said.endswith(b"hello")):
                said += server.recv(10_000)
            server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
    head, _, body = said.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    pairs = [field.partition(b": ") for field in fields]
    return line, {name: value for name, _, value in pairs if name.lower() not in OWN}, body
