"""How a command speaks to a proxy that runs: where its admin address is, with which token, one request at a time."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, Self, TypeVar
from urllib.parse import urlsplit

import click

from proxy.commands.group import FAILED, load_config
from proxy.core.address import join_host_port

DEFAULT = "http://127.0.0.1:7414"
_GUESSED = "; does a proxy with `admin` in its configuration, or --admin, run here? Name that CONFIG, or give --admin"
TOKEN = "TFO_PROXY_TOKEN"  # noqa: S105  # the name of the variable
PATIENCE = 5.0
MOST_ANSWER = 64 << 20
_UNIX = "unix:"
_STRANGER = "is another server, or the admin of another version of tfo-proxy; give --admin"
_HERE = frozenset({"127.0.0.1", "::1", "localhost"})
_EVERYWHERE = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Gone(click.ClickException):
    """Nobody answers there."""

    exit_code = FAILED


class Refused(click.ClickException):
    """The admin server answered with an error: HTTP's ``status``, its words as the message, and all of its ``body``."""

    exit_code = FAILED

    def __init__(self, status: int, message: str, body: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class Remote:
    """One admin server, over one connection that is made when it is needed, and made again when it broke.

    ``address`` is ``http://host:port``, ``https://…`` or ``unix:/path``; anything else raises `click.UsageError`.
    """

    def __init__(self, address: str, token: str | None = None, timeout: float = PATIENCE) -> None:
        self.address = address
        self.hint = ""  # what could be meant instead, where nobody answers
        self._connect = _connector(address, timeout)
        self._connection: http.client.HTTPConnection | None = None
        self._token = token

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def local_port(self) -> int | None:
        """The TCP port on this machine's loopback where it listens; None: it is elsewhere, or a unix socket."""
        parts = urlsplit(self.address if "://" in self.address else f"http://{self.address}")
        if self.address.startswith(_UNIX) or parts.hostname not in _HERE:
            return None
        return parts.port

    def get(self, path: str) -> bytes:
        """The body of an answer that is not an error; raises `Gone` and `Refused`."""
        return self._ask("GET", path, b"")

    def view(self, path: str, kind: type[T]) -> T:
        """An answer as one of `proxy.admin.views`; raises `Gone` and `Refused`."""
        return self.decoded(self.get(path), kind)

    def decoded(self, body: bytes, kind: type[T]) -> T:
        """A body as one of `proxy.admin.views`; raises `Refused` where it is something else."""
        import msgspec

        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError:
            raise Refused(200, f"{self.address} {_STRANGER}") from None

    def post(self, path: str, body: bytes = b"") -> bytes:
        """The same for a request that changes something; a JSON body or none. Asked once, never again."""
        return self._ask("POST", path, body)

    def close(self) -> None:
        """Let the connection go."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, method: str, path: str, body: bytes) -> bytes:
        headers = {"Accept": "application/json"}
        if body:
            headers["Content-Type"] = "application/json"
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if method == "POST":
            self.close()  # what was kept may be closed over there, and this cannot be asked twice
        kept = self._connection is not None
        try:
            return self._exchange(method, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if not kept or isinstance(error, TimeoutError):
                raise Gone(f"nobody answers at {self.address}: {_words(error)}{self.hint}") from None
        return self._ask(method, path, body)  # the server had closed what we kept: that says nothing

    def _exchange(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        if self._connection is None:
            self._connection = self._connect()
        self._connection.request(method, path, body or None, headers)
        answer = self._connection.getresponse()
        content = answer.read(MOST_ANSWER)
        if answer.getheader("content-type", "").partition(";")[0].strip() != "application/json":
            raise Refused(answer.status, f"{self.address} {_STRANGER}")
        if answer.status >= 400:
            raise Refused(answer.status, self._complaint(answer.status, content), content)
        return content

    def _complaint(self, status: int, content: bytes) -> str:
        if status == 401:
            known = "its token is wrong" if self._token is not None else "it wants a token"
            return f"{self.address}: {known}; give --token-file FILE, or {TOKEN}"
        return f"{self.address} answered {status}: {_told(content)}"


def options(command: Callable[P, R]) -> Callable[P, R]:
    """``[CONFIG] --admin --token-file`` for a click command: the parameters config, admin and token_file."""
    for decorate in (
        click.option(
            "--token-file",
            type=click.Path(dir_okay=False),
            metavar="FILE",
            help=f"What holds the admin's token; else {TOKEN}, else CONFIG says.",
        ),
        click.option(
            "--admin",
            metavar="ADDRESS",
            help=f"Where the proxy's admin listens: http://host:port or unix:/path; else CONFIG says, else {DEFAULT}.",
        ),
        click.argument("config", required=False, type=click.Path()),
    ):
        command = decorate(command)
    return command


def find(config: str | None, admin: str | None, token_file: str | None, timeout: float = PATIENCE) -> Remote:
    """The admin server that these options mean; raises `click.UsageError`, or `BadConfiguration` for a bad CONFIG."""
    token = os.environ.get(TOKEN)
    if token_file is not None:
        try:
            token = Path(token_file).read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            raise click.UsageError(f"--token-file {token_file}: {_words(error)}") from None
    if config is not None and (admin is None or token is None):
        configured = load_config(config).snapshot.admin
        if configured is None and admin is None:
            raise click.UsageError(
                f"{config} has no `admin`: add one (admin: {{bind: 127.0.0.1:7414}}), or give --admin"
            )
        if configured is not None:
            bind = configured.bind
            here = (
                _UNIX + bind.host
                if bind.is_unix
                else f"http://{join_host_port(_reached(bind.host), bind.port)}"
            )
            admin, token = admin or here, token if token is not None else configured.token
    remote = Remote(admin or DEFAULT, token, timeout)
    if admin is None:
        remote.hint = _GUESSED
    return remote


def _reached(host: str) -> str:
    """Where a server that listens everywhere is reached from here."""
    return _EVERYWHERE.get(host, host)


def _connector(address: str, timeout: float) -> Callable[[], http.client.HTTPConnection]:
    if address.startswith(_UNIX):
        path = address.removeprefix(_UNIX)
        return lambda: _UnixConnection(path, timeout)
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if not host or parts.path.strip("/") or parts.scheme not in {"http", "https"}:
        raise click.UsageError(f"--admin {address!r} is neither http://host:port nor unix:/path")
    if parts.scheme == "https":
        return lambda: http.client.HTTPSConnection(host, port, timeout=timeout)
    return lambda: http.client.HTTPConnection(host, port, timeout=timeout)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket; a path that begins with @ is an abstract one."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect("\0" + self._path[1:] if self._path.startswith("@") else self._path)


def _told(content: bytes) -> str:
    """What an error's body says, without escapes."""
    text = ""
    with suppress(ValueError, KeyError, TypeError):
        text = str(json.loads(content)["error"])
    return "".join(c for c in text[:2000] if c == "\n" or c.isprintable())


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
