"""Whatever a client says, wherever it may say something: the log keeps one line for each thing that happened."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from contextlib import suppress

import pytest
import structlog
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.clusters import Cluster, Connect
from proxy.core.networks import NAMED
from proxy.core.outcomes import Reason
from proxy.core.routes import Routes
from proxy.core.snapshot import DIRECT, Dns, Listener, Mode, ProxyHeader, Snapshot
from proxy.core.users import Users, read_secret
from proxy.net.accept import listen
from proxy.service.memory import Memory
from proxy.service.worker import Worker
from proxy.telemetry import logs
from proxy.telemetry.events import Events
from tests.core import hellos
from tests.net.name_server import name_server
from tests.serving import HERE

TRICKS = [
    "\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\0", "\x1b[2J",
    "\x1b]0;x\x07", "\x9b31m", "\u202e", "\u2066", "\ufeff", "\x7f", '"', "'", "\\", "\\n", "{", "}", "%s", "%(x)s",
    "{0}", "$", "`", "\ud800", "\n12:00:00 [info     ] ready\n", "é", "😀", "\U000e0001",
    '\n{"time":"2026-01-01T00:00:00Z","level":"info","event":"ready"}\n',
]  # fmt: skip
texts = st.lists(
    st.sampled_from(TRICKS) | st.text(max_size=8) | st.sampled_from(["a", "example.com"]), max_size=5
).map("".join)
nasty = texts.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=40)


def socks5(name: bytes) -> bytes:
    return b"\x05\x01\0" + b"\x05\x01\0\x03" + hellos.vector(1, name[:255]) + b"\0\x50"


def socks5_user(name: bytes) -> bytes:
    word = hellos.vector(1, name[:255])
    return b"\x05\x01\x02" + b"\x01" + word + word + b"\x05\x01\0\x03\x01a\0\x50"


def basic(name: bytes) -> bytes:
    credentials = base64.b64encode(name + b":" + name)
    return (
        b"CONNECT a.invalid:80 HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic " + credentials + b"\r\n\r\n"
    )


CONNECT = b"CONNECT a.invalid:80 HTTP/1.1\r\nHost: a\r\n"
FIELDS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "socks4 user": ("socks", lambda word: b"\x04\x01\0\x50\0\0\0\x01" + word + b"\0a.invalid\0"),
    "socks4a name": ("socks", lambda word: b"\x04\x01\0\x50\0\0\0\x01me\0" + word + b"\0"),
    "socks5 name": ("socks", socks5),
    "socks5 user and password": ("login", socks5_user),
    "basic user and password": ("login", basic),
    "authorization": ("login", lambda word: CONNECT + b"Proxy-Authorization: " + word + b"\r\n\r\n"),
    "request line": ("http", lambda word: word + b"\r\nHost: a\r\n\r\n"),
    "method": ("http", lambda word: word + b" http://a.invalid/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "target": ("http", lambda word: b"GET " + word + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "path": ("http", lambda word: b"GET http://a.invalid/" + word + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "connect": ("http", lambda word: b"CONNECT " + word + b":80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "host": ("http", lambda word: b"GET http://a.invalid/ HTTP/1.1\r\nHost: " + word + b"\r\n\r\n"),
    "header name": ("http", lambda word: b"GET http://a.invalid/ HTTP/1.1\r\nHost: a\r\n" + word + b": x\r\n\r\n"),
    "header value": ("http", lambda word: b"GET http://a.invalid/ HTTP/1.1\r\nHost: a\r\nX: " + word + b"\r\n\r\n"),
    "server name": ("sni", lambda word: hellos.record(hellos.message(hellos.server_name(word)))),
    "proxy header": ("proxied", lambda word: b"PROXY TCP4 " + word + b" 192.0.2.1 1 2\r\n"),
    "anything": ("mixed", lambda word: word),
}  # fmt: skip

DIRECTLY = Cluster("direct", (), connect=Connect(timeout=0.2, retries=0), warm_up=False)
USERS = Users({"alice": read_secret("secret")})
LISTENERS = (
    Listener("socks", HERE, Mode.SOCKS, DIRECT),
    Listener("http", HERE, Mode.HTTP, DIRECT),
    Listener("mixed", HERE, Mode.MIXED, DIRECT),
    Listener("login", HERE, Mode.MIXED, DIRECT, users=USERS),
    Listener("sni", HERE, Mode.SNI, DIRECT),
    Listener("proxied", HERE, Mode.MIXED, DIRECT, proxy_header=ProxyHeader.REQUIRE, trust=NAMED["loopback"]),
)
SESSION = r"session +id=[0-9a-f]+-[0-9a-f]+ listener=\w+ client=\S+ cluster="
CONSOLE = re.compile(r"\d\d:\d\d:\d\d \[info +\] " + SESSION)


async def logged(form: str, requests: list[tuple[str, bytes]]) -> str:
    """What the real worker logs of these requests, one session each."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    events = Events(logs.configure(form=form, stream=out))
    sockets = {listener.name: [listen(listener, HERE[0])] for listener in LISTENERS}
    async with name_server() as names, trio.open_nursery() as nursery:
        snapshot = Snapshot(LISTENERS, {}, Routes((), DIRECTLY), dns=Dns(servers=(names.endpoint,)))
        worker = Worker(snapshot, Memory(None, events), events, takes_syn_data=False)
        await nursery.start(worker.run, sockets)
        for name, request in requests:
            await say(sockets[name][0].getsockname(), request)
        with trio.fail_after(60):
            while worker.sessions:  # noqa: ASYNC110
                await trio.sleep(0.002)
        await worker.drain(0.0)
        nursery.cancel_scope.cancel()
    out.flush()
    structlog.reset_defaults()
    assert isinstance(out.buffer, io.BytesIO)
    return out.buffer.getvalue().decode()


async def say(to: object, request: bytes) -> None:
    with trio.fail_after(60), trio.socket.socket() as sock:
        await sock.connect(to)
        stream = trio.SocketStream(sock)
        with suppress(trio.BrokenResourceError):
            await stream.send_all(request)
            await stream.send_eof()
            while await stream.receive_some():
                pass


requests = st.lists(st.tuples(st.sampled_from(sorted(FIELDS)), nasty), min_size=5, max_size=25)


def made(drawn: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    return [(FIELDS[field][0], FIELDS[field][1](word)) for field, word in drawn]


@settings(max_examples=25)
@given(requests)
async def test_json_is_one_object_a_session(drawn: list[tuple[str, bytes]]) -> None:
    text = await logged("json", made(drawn))
    assert text.endswith("\n")
    lines = text[:-1].split("\n")
    assert len(lines) == len(drawn), text
    for line in lines:
        assert line.isprintable(), line
        assert len(line) < 8192
        told = json.loads(line)
        assert (told["event"], told["level"]) == ("session", "info")
        assert told["reason"] in set(Reason) - {Reason.FAULT}


@settings(max_examples=25)
@given(requests)
async def test_the_console_has_one_line_a_session(drawn: list[tuple[str, bytes]]) -> None:
    text = await logged("console", made(drawn))
    lines = text.removesuffix("\n").split("\n")
    assert len(lines) == len(drawn), text
    for line in lines:
        assert CONSOLE.match(line), line
        assert line.isprintable(), line


@pytest.mark.parametrize("form", ["json", "console"])
async def test_every_trick_in_every_field(form: str) -> None:
    """As the drawn ones, all of them, and among other words."""
    words = [trick.encode("utf-8", "surrogatepass") for trick in TRICKS]
    drawn = [(field, b"a" + word + b"b") for field in FIELDS for word in words]
    text = await logged(form, made(drawn))
    lines = text.removesuffix("\n").split("\n")
    assert len(lines) == len(drawn)
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("form", ["json", "console"])
async def test_a_very_long_word_is_cut_short(form: str) -> None:
    drawn = [("target", b"x" * 30_000), ("basic user and password", b"u" * 20_000), ("host", b"h" * 40_000)]
    lines = (await logged(form, made(drawn))).removesuffix("\n").split("\n")
    assert len(lines) == 3
    assert max(map(len, lines)) < 6_000


@pytest.mark.parametrize("form", ["json", "console"])
@settings(max_examples=60)
@given(texts)
def test_what_is_wrong_inside_us_may_quote_a_client(form: str, text: str) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    log = logs.configure(form=form, stream=out)
    try:
        raise ValueError(text)
    except ValueError as fault:
        log.error("session_fault", id="a-1", exc_info=fault, nested={"x": [text]}, word=text)  # noqa: TRY400
    finally:
        structlog.reset_defaults()
    out.flush()
    assert isinstance(out.buffer, io.BytesIO)
    first, *rest = out.buffer.getvalue().decode().removesuffix("\n").split("\n")
    assert "session_fault" in first
    assert all(line.isprintable() for line in (first, *rest))
    assert all(line.startswith("    ") for line in rest), "nothing begins where a line of the log does"
    if form == "json":
        assert json.loads(first)["id"] == "a-1"
        assert not rest
