from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import click
import pytest
from click.testing import CliRunner

from proxy.admin import views
from proxy.commands import remote
from proxy.commands.remote import Gone, Refused, Remote


class Admin(BaseHTTPRequestHandler):
    """Tells what it was asked; `/no` is refused, `/slow` takes its time, `/bye` closes without a word of it."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[tuple[str, str, dict[str, str]]]] = []

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append(
            (self.command, self.path, {key.lower(): value for key, value in self.headers.items()})
        )
        if self.path == "/slow":
            threading.Event().wait(1)
        status = {"/no": 403, "/token": 401}.get(self.path, 200)
        answer = body or (b'{"error": "no \\u001b[1m!"}' if self.path == "/no" else b"not \x1b[31mhere")
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        if self.path != "/html":
            self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(answer)
        self.close_connection = self.path == "/bye"

    do_POST = do_GET  # noqa: N815  # the name that its base class looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its signature
        pass


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    pass


class TcpServer(socketserver.ThreadingMixIn, HTTPServer):
    pass


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    Admin.seen.clear()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def here() -> Iterator[str]:
    with TcpServer(("127.0.0.1", 0), Admin) as server, serving(server):
        yield f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def there(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "admin.sock")

    class Handler(Admin):
        def address_string(self) -> str:
            return "unix"

    with UnixServer(path, Handler) as server, serving(server):
        yield f"unix:{path}"


def test_over_tcp(here: str) -> None:
    with Remote(here, "secret") as admin:
        assert admin.get("/api/v1/status") == b"not \x1b[31mhere"
        assert admin.post("/api/v1/loglevel", b'{"level":"debug"}') == b'{"level":"debug"}'
    (get, post) = Admin.seen
    assert (get[:2], post[:2]) == (("GET", "/api/v1/status"), ("POST", "/api/v1/loglevel"))
    assert get[2]["authorization"] == post[2]["authorization"] == "Bearer secret"
    assert "content-type" not in get[2]
    assert post[2]["content-type"] == "application/json"


def test_over_a_unix_socket(there: str) -> None:
    with Remote(there) as admin:
        assert admin.get("/") == admin.get("/") == b"not \x1b[31mhere"
    assert "authorization" not in Admin.seen[0][2]


def test_a_connection_that_the_server_has_closed_is_made_again(here: str) -> None:
    with Remote(here) as admin:
        for _ in range(3):
            assert admin.get("/bye")
            assert admin.post("/bye", b"{}") == b"{}"


def test_an_error_is_told_in_the_servers_words_without_its_escapes(here: str) -> None:
    with Remote(here) as admin, pytest.raises(Refused) as refused:
        admin.get("/no")
    assert refused.value.status == 403
    assert refused.value.message == f"{here} answered 403: no [1m!"
    assert refused.value.body == b'{"error": "no \\u001b[1m!"}'


@pytest.mark.parametrize("path", ["/html", "/no"])
def test_nothing_is_told_of_what_another_server_says(here: str, path: str) -> None:
    with Remote(here) as admin, pytest.raises(Refused) as refused:
        admin.view(path, views.Status) if path == "/html" else admin.post(path, b"[<html>\x1b[2J")
    assert "html" not in refused.value.message.removeprefix(here)
    with Remote(here) as admin, pytest.raises(Refused, match="another server"):
        admin.view("/", views.Status)


@pytest.mark.parametrize(("token", "says"), [(None, "it wants a token"), ("x", "its token is wrong")])
def test_a_token_is_asked_for(here: str, token: str | None, says: str) -> None:
    with Remote(here, token) as admin, pytest.raises(Refused, match=f"{says}; give --token-file"):
        admin.get("/token")


def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        for address in (f"http://127.0.0.1:{sock.getsockname()[1]}", f"unix:{tmp_path}/none", "unix:@none"):
            with Remote(address) as admin, pytest.raises(Gone, match=f"nobody answers at {address}: .*"):
                admin.get("/")


def test_where_the_address_was_a_guess_it_says_how_to_give_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "DEFAULT", "http://127.0.0.1:1")
    with (
        remote.find(None, None, None) as admin,
        pytest.raises(Gone, match="Name that CONFIG, or give --admin"),
    ):
        admin.get("/")
    with (
        remote.find(None, "127.0.0.1:1", None) as admin,
        pytest.raises(Gone, match=r"Connection refused$"),
    ):
        admin.get("/")


def test_nobody_who_speaks_http() -> None:
    def speak() -> None:
        with server.accept()[0] as client:
            client.sendall(b"SSH-2.0-x\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        speaker = threading.Thread(target=speak)
        speaker.start()
        with (
            Remote(f"127.0.0.1:{server.getsockname()[1]}") as admin,
            pytest.raises(Gone, match="nobody answers"),
        ):
            admin.get("/")
        speaker.join()


def test_it_waits_so_long_and_no_longer(here: str) -> None:
    with Remote(here, timeout=0.1) as admin, pytest.raises(Gone, match="no answer in time"):
        admin.get("/slow")


@pytest.mark.parametrize("address", ["", "ftp://x", "http://", "http://x:y", "http://x/path", "http://[::1"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(click.UsageError, match="neither"):
        Remote(address)


def _found(*arguments: str, **environment: str) -> Remote:
    found: list[Remote] = []

    @click.command()
    @remote.options
    def command(config: str | None, admin: str | None, token_file: str | None) -> None:
        found.append(remote.find(config, admin, token_file))

    done = CliRunner().invoke(
        command, arguments, env={remote.TOKEN: None, **environment}, standalone_mode=False
    )
    if done.exception is not None:
        raise done.exception
    return found[0]


def test_without_a_word_it_is_the_usual_address() -> None:
    found = _found()
    assert (found.address, found._token) == (remote.DEFAULT, None)


def test_a_token_from_the_environment_and_a_nearer_one_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of a file\n")
    assert _found(**{remote.TOKEN: "of the environment"})._token == "of the environment"
    arguments = ("--token-file", str(tmp_path / "token"))
    assert _found(*arguments, **{remote.TOKEN: "of the environment"})._token == "of a file"
    with pytest.raises(click.UsageError, match="No such file"):
        _found("--token-file", str(tmp_path / "none"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "proxy.yaml"


LISTENER = "listeners: {a: {bind: '127.0.0.1:18000', mode: forward, to: '10.77.2.10:80'}}\n"


@pytest.mark.parametrize(
    ("bind", "address"),
    [
        ("127.0.0.1:7000", "http://127.0.0.1:7000"),
        ('"[::1]:7000"', "http://[::1]:7000"),
        ('"0.0.0.0:7000"', "http://127.0.0.1:7000"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
    ],
)
def test_a_configuration_says_where(config: Path, bind: str, address: str) -> None:
    config.write_text(f"{LISTENER}admin: {{bind: {bind}, token: a-token-of-some-length}}\n")
    found = _found(str(config))
    assert (found.address, found._token) == (address, "a-token-of-some-length")
    assert _found(str(config), "--admin", "http://x:1").address == "http://x:1"


def test_a_configuration_without_an_admin(config: Path) -> None:
    config.write_text(LISTENER)
    with pytest.raises(click.UsageError, match="has no `admin`"):
        _found(str(config))
    assert _found(str(config), "--admin", "http://x:1").address == "http://x:1"


def test_a_bad_configuration(config: Path) -> None:
    config.write_text("drain: 5\n")
    with pytest.raises(click.ClickException) as bad:
        _found(str(config))
    assert bad.value.exit_code == 78
