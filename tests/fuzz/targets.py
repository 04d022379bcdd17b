"""What is fuzzed: everything that takes apart what somebody else has written. A target raises for what must not be."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from proxy.config import ConfigError, load
from proxy.config.endpoints import read_endpoints
from proxy.config.interpolate import BadReference, expand, files_in
from proxy.core import gateway, http1, proxy_header, replay, sni, socks, tcp_metrics, tls, tunnel
from proxy.core.address import BadAddress, Endpoint, parse_target, split_host_port
from proxy.core.clusters import Via
from proxy.core.evidence import TcpInfo
from proxy.core.framing import Chunked
from proxy.core.gateway import Declined
from proxy.core.networks import BadNetwork, is_within, meanings, numeric, parse_network
from proxy.core.patterns import BadPattern, compile_pattern
from proxy.core.reader import Malformed, NotMine, Parser, Reader, Reading
from proxy.core.request import Refused, Turn
from proxy.core.users import BadSecret, read_secret
from proxy.service import state
from tests.core import hellos
from tests.fuzz.answers import ANSWERS
from tests.fuzz.inside import INSIDE
from tests.fuzz.mutation import Fuzzed, Target, without_data

_MOST = 65536
Parse = Callable[[Reader], Parser[object]]


# --- what is read from a stream


def read(parse: Parse, data: bytes, step: int) -> tuple[str, int]:
    """The kind of what comes of ``data``, fed ``step`` bytes at a time, and how much of it was taken."""
    reading = Reading(parse, _MOST)
    for start in range(0, len(data) or 1, step):
        try:
            parsed = reading.feed(data[start : start + step])
        except (NotMine, Malformed, Refused, Declined) as refusal:
            return f"{type(refusal).__name__} {without_data(str(refusal))}", -1
        if parsed is not None:
            assert 0 <= parsed.consumed <= len(data)
            value = parsed.value
            if isinstance(value, Turn):
                return f"turn {without_data(repr(value.reply))}", parsed.consumed
            return f"{type(value).__name__} {getattr(value, 'protocol', '')}", parsed.consumed
    return "more", 0


def stream(parse: Parse) -> Target:
    """However it is cut, the same comes of it."""

    def target(data: bytes) -> str:
        whole = read(parse, data, len(data) or 1)
        for step in (1, 7) if len(data) < 200 else (61,):
            pieces = read(parse, data, step)
            assert (pieces[1], pieces[0].split()[0]) == (whole[1], whole[0].split()[0]), (whole, pieces)
        return whole[0]

    return target


def both_turns(parse: Parse) -> Target:
    """A way in, and what it asks for next."""
    first = stream(parse)

    def target(data: bytes) -> str:
        shape = first(data)
        reading = Reading(parse, _MOST)
        with suppress(NotMine, Malformed, Refused):
            parsed = reading.feed(data)
            if parsed is not None and isinstance(parsed.value, Turn):
                return f"{shape}, {stream(parsed.value.proceed('alice'))(data[parsed.consumed :])}"
        return shape

    return target


VIA = Via("socks", Endpoint("192.0.2.1", 1080), "alice", "sesame")
SOCKS_STEPS = gateway.steps(VIA, Endpoint("192.0.2.2", 443))
HTTP_STEPS = gateway.steps(Via("http", VIA.gateway), VIA.gateway)


def first_flight(data: bytes) -> str:
    safe, protocol = replay.classify(data)
    assert 0 <= safe <= len(data)
    assert replay.classify(data[:safe])[0] == safe or not safe, "what is safe is safe without what follows it"
    return f"{protocol} {bool(safe)} {safe == len(data)}"


def hello(data: bytes) -> str:
    try:
        span = tls.hello_span(data)
    except (NotMine, Malformed) as refusal:
        return f"{type(refusal).__name__} {without_data(str(refusal))}"
    assert 0 <= span[0] <= len(data)
    return f"{type(span).__name__} {without_data(repr(span))}"


def chunks(data: bytes) -> str:
    whole, pieces = Chunked(), Chunked()
    content = [b"", b""]
    taken = [0, 0]
    for which, (body, step) in enumerate(((whole, len(data) or 1), (pieces, 1))):
        try:
            for at in range(0, len(data), step):
                size, piece = body.take(data[at : at + step])
                taken[which] += size
                content[which] += bytes(piece)
        except Malformed:
            taken[which] = -1
    assert taken[0] == taken[1] or -1 in taken, taken
    if whole.done:
        again = Chunked()
        assert again.take(content[0]) == (len(content[0]), content[0]), (
            "what is sent on is read as it was meant"
        )
        assert again.done
    return f"{(taken[0] > 0) + (taken[0] == len(data))} {taken[0] < 0}"


# --- what the kernel and files say


def metrics(data: bytes) -> str:
    shapes: list[str] = []
    with suppress(ValueError):
        for message in tcp_metrics.split(data):
            found = tcp_metrics.read_cookie(message), tcp_metrics.read_family(message)
            tcp_metrics.read_error(message)
            shapes.append(without_data(repr(found)))
    return " ".join(shapes[:3])


def tcp_info(data: bytes) -> str:
    info = TcpInfo.parse(data.ljust(104, b"\0"))  # never less than that
    return f"{info.established} {info.rtt > 0}"


class OnDisk:
    """A target that wants a file."""

    def __init__(self, name: str, target: Callable[[str], str]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name, name)
        self._target = target

    def __call__(self, data: bytes) -> str:
        self._path.write_bytes(data)
        return self._target(str(self._path))


def configuration(path: str) -> str:
    try:
        loaded = load(path)
    except ConfigError as mistakes:
        return without_data(mistakes.mistakes[0].problem)
    files_in(Path(path).read_text("utf-8-sig"))
    return f"{len(loaded.snapshot.listeners)} listeners"


def endpoints(path: str) -> str:
    try:
        return f"{len(read_endpoints(path)) > 0}"
    except ConfigError as mistakes:
        return without_data(mistakes.mistakes[0].problem)


def remembered(path: str) -> str:
    learned = state.load(path)
    return without_data(learned.reason) if isinstance(learned, state.Damaged) else "learned"


# --- what is written on one line


def text(read_it: Callable[[str], object], *refusals: type[Exception]) -> Target:
    def target(data: bytes) -> str:
        try:
            value = read_it(data.decode("utf-8", "replace"))
        except refusals as refusal:
            return f"{type(refusal).__name__} {without_data(str(refusal))}"
        return type(value).__name__

    return target


def address(written: str) -> object:
    found = parse_target(written)
    assert parse_target(str(found)) == found, (written, found)
    return found


def network(written: str) -> object:
    found = parse_network(written)
    assert parse_network(str(found)) == found
    return found


def host(written: str) -> object:
    numeric(written)
    return meanings(written), is_within(written, (parse_network("10.0.0.0/8"),))


# --- all of them

_CONFIG = json.dumps({
    "listeners": {"a": {"bind": "127.0.0.1:1", "mode": "mixed", "allow": ["10.0.0.0/8"], "users": {"a": "b"}}},
    "clusters": {"c": {"endpoints": ["192.0.2.1:1"], "health": {"every": "1s"}, "connect": {"timeout": "5s"}}},
    "routes": [{"match": {"host": "*.example.com", "port": [1, 2]}, "to": "c"}, {"refuse": "no"}],
    "dns": {"ttl": "1m"}, "log": {"level": "info"}, "workers": 1, "drain": "3s",
}).encode()  # fmt: skip
_YAML = b"""%YAML 1.2
---
listeners: &all
  web: {bind: ["127.0.0.1:80", "unix:/x"], mode: forward, to: "a:1", timeouts: {idle: 10m}}
  x: !!map
    <<: *all
    bind: "${A:-1}$$ ${file:/x}"
# note
clusters: {c: {endpoints: [!!str "1.2.3.4:5", "srv:_a._tcp.b"], via: {socks: "u:p@h:1"}}}
"""
_YAML_WORDS = (
    *b"listeners clusters routes bind mode to forward mixed !!str !!int & * << : - ? | > { } [ ] , #".split(b" "),
    *b"' \" \t \n  ${ } $$ %TAG --- ... ~ null .inf 0x1 1e9 10m 64KiB".split(b" "),
    b"\xef\xbb\xbf", b"\xff\xfe", b"\xe2\x80\xa8", b"\r\n", b"\0",
)  # fmt: skip
_HTTP = (
    b"GET http://example.com/a HTTP/1.1\r\nHost: example.com\r\n\r\n",
    b"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nProxy-Authorization: Basic YWxpY2U6c2VzYW1l\r\n\r\n",
    (
        b"POST http://e/ HTTP/1.0\r\nHost: e\r\nTransfer-Encoding: chunked\r\nConnection: close, x\r\n\r\n"
        b"1\r\na\r\n0\r\n\r\n"
    ),
)
_HTTP_WORDS = tuple(
    b"GET|POST|CONNECT|HTTP/1.1|HTTP/1.0|http://|Host: |Content-Length: |Transfer-Encoding: chunked|"
    b"\r\n|\r\n\r\n|:443|[::1]".split(b"|")
)
_HELLO = hellos.record(hellos.message(hellos.server_name(b"a.example.com") + hellos.alpn(b"h2")))
_STATE = msgspec.json.encode({"version": state.VERSION, "learned": {"standings": [], "patience": []}})

FUZZED: dict[str, Fuzzed] = (
    ANSWERS
    | INSIDE
    | {
        "client_hello": Fuzzed(stream(tls.client_hello), (_HELLO,)),
        "hello_span": Fuzzed(hello, (_HELLO, _HELLO + b"\x14\x03\x03\0\1\1")),
        "sni": Fuzzed(stream(partial(sni.opening, port=443)), (_HELLO,)),
        "socks": Fuzzed(
            both_turns(socks.opening),
            (
                b"\5\1\0\5\1\0\3\x07a.b.com\1\xbb",
                b"\5\1\0\5\1\0\1\1\2\3\4\0\x50",
                b"\4\1\0\x50\0\0\0\1u\0host\0",
            ),
        ),
        "socks_login": Fuzzed(
            both_turns(partial(socks.opening, login=True)),
            (b"\5\2\0\2\1\5alice\6sesame\5\1\0\1\1\2\3\4\0\x50",),
        ),
        "http": Fuzzed(stream(http1.opening), _HTTP, _HTTP_WORDS),
        "http_login": Fuzzed(both_turns(partial(http1.opening, login=True)), _HTTP, _HTTP_WORDS),
        "proxy_header": Fuzzed(
            stream(proxy_header.header),
            (
                b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
                b"PROXY UNKNOWN\r\n",
                proxy_header.version2(Endpoint("192.0.2.1", 1), Endpoint("192.0.2.2", 2)),
                proxy_header.version2(Endpoint("2001:db8::1", 1), Endpoint("2001:db8::2", 2)),
            ),
        ),
        "tunnel": Fuzzed(stream(tunnel.opening), (b"\0" * 80,)),
        "gateway_socks": Fuzzed(stream(SOCKS_STEPS[-1].hear), (b"\5\0\0\1\0\0\0\0\0\0", b"\5\5\0\3\1a\0\0")),
        "gateway_method": Fuzzed(stream(SOCKS_STEPS[0].hear), (b"\5\2\1\0",)),
        "gateway_http": Fuzzed(
            stream(HTTP_STEPS[0].hear),
            (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", b"HTTP/1.0 407 x\r\n\r\n"),
            _HTTP_WORDS,
        ),
        "first_flight": Fuzzed(
            first_flight,
            (
                _HELLO,
                *_HTTP,
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
                b"SSH-2.0-x\r\n",
                b"*1\r\n$4\r\nPING\r\n",
                b"get a\r\n",
                b"\0\0\0\x08\x04\xd2\x16\x2f",
                b"\5\1\0",
                b"\0\x1d" + b"\xab\xcd\1\0\0\1\0\0\0\0\0\0\1a\3com\0\0\1\0\1",
            ),
            (*_HTTP_WORDS, b"PING", b"GET", b"MGET", b"gets ", b"user\0"),
        ),
        "chunks": Fuzzed(
            chunks,
            (b"5\r\nhello\r\n0\r\n\r\n", b"1;a=b\r\nx\r\n0\r\nA: b\r\n\r\n"),
            (b"\r\n", b"0\r\n", b"ffffffff"),
        ),
        "tcp_metrics": Fuzzed(
            metrics, (tcp_metrics.ask_all(20, 1), tcp_metrics.ask_family("tcp_metrics", 2))
        ),
        "tcp_info": Fuzzed(tcp_info, (bytes(104), bytes(range(232)))),
        "configuration": Fuzzed(OnDisk("proxy.yaml", configuration), (_CONFIG, _YAML), _YAML_WORDS),
        "endpoints": Fuzzed(
            OnDisk("endpoints.yaml", endpoints),
            (b"- 192.0.2.1:443\n- {address: a:1, weight: 2}\n", b"endpoints: [a:1]"),
            _YAML_WORDS,
        ),
        "state": Fuzzed(OnDisk("state.json", remembered), (_STATE,), (b"null", b"[]", b"1e999", b'"')),
        "references": Fuzzed(
            text(expand, BadReference),
            (b"a${A:-b}$$${env:HOME}${file:/x}",),
            (b"${", b"}", b"$$", b"file:", b":-"),
        ),
        "address": Fuzzed(
            text(address, BadAddress),
            (b"example.com:443", b"[2001:db8::1]:1", b"unix:/x", b"@a", b"0x7f.1:1"),
        ),
        "host_port": Fuzzed(text(split_host_port, BadAddress), (b"a:1", b"[::1]:2")),
        "network": Fuzzed(
            text(network, BadNetwork), (b"10.0.0.0/8", b"2001:db8::/32", b"loopback", b"::ffff:1.2.3.4")
        ),
        "host": Fuzzed(
            text(host, ValueError), (b"127.0.0.1", b"::ffff:127.0.0.1", b"64:ff9b::7f00:1", b"a.b.")
        ),
        "pattern": Fuzzed(
            text(compile_pattern, BadPattern),
            (b"*.example.com", b"/a(b|c)+[0-9]{1,3}/", b"a?.b"),
            (b"(", b"|", b"*", b"{9}"),
        ),
        "secret": Fuzzed(
            text(read_secret, BadSecret), (b"sesame", b"$scrypt$ln=14,r=8,p=1$c2FsdHNhbHQ$aGFzaGhhc2g")
        ),
    }
)
