"""Every parser of bytes from outside, with its documented limit, as `tests.laws.search` wants them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import dns.exception
import dns.message
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import h11

from proxy.admin.exchange import LARGEST_HEAD
from proxy.config import ConfigError
from proxy.config.compose import read_document
from proxy.config.interpolate import BadReference, expand
from proxy.config.mistakes import Source
from proxy.config.scalars import BadScalar, Duration
from proxy.core import gateway, http1, http_response, openings, proxy_header, replay, sni, socks, tls, tunnel
from proxy.core.address import Authority, BadAddress, Endpoint, check_name, parse_target
from proxy.core.clusters import Via
from proxy.core.framing import Chunked
from proxy.core.gateway import Declined
from proxy.core.networks import BadNetwork, meanings, parse_network
from proxy.core.patterns import LONGEST_PATTERN, BadPattern, compile_pattern
from proxy.core.reader import Malformed, NotMine, Parser, Reader, Reading
from proxy.core.request import Forwarded, Refused, Turn, target_of
from proxy.core.users import BadSecret, read_secret
from proxy.net.records import MOST_ANSWER
from proxy.net.sniff import MOST_EARLY_DATA
from proxy.telemetry.logs import _not_plain
from tests.core import hellos
from tests.fuzz.answers import ANSWERS
from tests.fuzz.targets import _HTTP, _HTTP_WORDS, _YAML, _YAML_WORDS, FUZZED
from tests.laws.search import Judged, Shape

_REFUSALS = (NotMine, Malformed, Refused, Declined)
_HELLO = hellos.record(hellos.message(hellos.server_name(b"a.example.com") + hellos.alpn(b"h2")))
_KEY = bytes(16)


def stream(parse: Callable[[Reader], Parser[object]], limit: int, piece: int = 0) -> Callable[[bytes], None]:
    """Read all messages of ``data``, given at once or in pieces; what a `Turn` goes on with, too."""

    def read(data: bytes) -> None:
        with suppress(*_REFUSALS):
            parser = parse
            while data:
                reading = Reading(parser, limit)
                step = piece or len(data)
                for at in range(0, len(data), step):
                    parsed = reading.feed(data[at : at + step])
                    if parsed is not None:
                        break
                else:
                    return
                if not isinstance(parsed.value, Turn):
                    return
                parser, data = parsed.value.proceed("alice"), data[parsed.consumed :]

    return read


def text(read: Callable[[str], object], *refusals: type[Exception]) -> Callable[[bytes], None]:
    def parse(data: bytes) -> None:
        with suppress(*refusals):
            read(data.decode("utf-8", "replace"))

    return parse


def span(data: bytes) -> None:
    with suppress(NotMine, Malformed):
        tls.hello_span(data)


def chunks(data: bytes) -> None:
    with suppress(Malformed):
        Chunked().take(data)


def chunks_in_pieces(data: bytes) -> None:
    body = Chunked()
    with suppress(Malformed):
        for at in range(0, len(data), 16):
            body.take(data[at : at + 16])


def a_response() -> http_response.Response:
    forwarded = Forwarded(b"GET", 1, keep=True, upgrade=False, body=Chunked())
    return http_response.Response(forwarded, b"me")


def response(data: bytes) -> None:
    with suppress(Malformed):
        a_response().take(data, may_stay=True)


def response_in_pieces(data: bytes) -> None:
    whole = a_response()
    with suppress(Malformed):
        for at in range(0, len(data), 64):
            whole.take(data[at : at + 64], may_stay=True)


def document(data: bytes) -> None:
    with suppress(ConfigError):
        read_document(Source("x.yaml", data.decode("utf-8", "replace")), [])


def admin(data: bytes) -> None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST_HEAD)
    with suppress(h11.RemoteProtocolError):
        for at in range(0, len(data), 512):
            connection.receive_data(data[at : at + 512])
            if connection.next_event() is h11.PAUSED:
                return


def answered(data: bytes) -> None:
    """An answer of a name server to a question for addresses, as dnspython and `net.records` read it."""
    question = dns.message.make_query("a.example.com", "A")
    asked = question.to_wire()
    with suppress(dns.exception.DNSException, ValueError):
        reply = dns.message.from_wire(asked[:2] + data[:10] + asked[12:] + data[10:])
        assert isinstance(reply, dns.message.QueryMessage)
        answer = dns.resolver.Answer(question.question[0].name, dns.rdatatype.A, dns.rdataclass.IN, reply)
        assert all(str(row.address) for row in answer)


# --- inputs whose lengths and checksums are right


def extensions(
    kind: int, value: bytes, *, behind: tuple[tuple[int, bytes], ...] = ()
) -> Callable[[int], bytes]:
    """A PROXY header full of extensions."""
    ends = Endpoint("2001:db8::1", 1), Endpoint("2001:db8::2", 2)

    def make(size: int) -> bytes:
        count = max(1, (size - 60) // (3 + max(len(value), 4 if kind == proxy_header.PP2_CRC32C else 0)))
        return proxy_header.version2(*ends, [*[(kind, value)] * count, *behind])

    return make


def sealed(size: int) -> bytes:
    early = bytes(max(0, min(size, tunnel.LIMIT) - 512))
    ticket = tunnel.Ticket(bytes(16), 1e9, Authority("a" * 63 + ".b" * 90, 443))
    return tunnel.seal(_KEY, ticket, 1, early, final=False) + early


def believed(data: bytes) -> None:
    reading = Reading(tunnel.opening, tunnel.LIMIT)
    with suppress(NotMine, Malformed, tunnel.Rejected):
        parsed = reading.feed(data)
        if parsed is not None:
            tunnel.verify([_KEY, b"x" * 16], parsed.value, 1e9)


def small_records(size: int) -> bytes:
    """A hello in records of one byte each."""
    body = hellos.message(hellos.extension(21, bytes(max(1, size // 6 - 60))))
    return b"".join(b"\x16\x03\x01\0\1" + body[at : at + 1] for at in range(len(body)))


def many_extensions(size: int) -> bytes:
    count = max(1, min(size, tls.MAX_HELLO - 200) // 4 - 20)
    body = b"".join(hellos.extension(1000 + number, b"") for number in range(count))
    return _in_records(hellos.message(body))


def large_alpn(size: int) -> bytes:
    return _in_records(
        hellos.message(hellos.alpn(*[b"h"] * max(1, min(size, tls.MAX_HELLO - 200) // 2 - 40)))
    )


def _in_records(message: bytes) -> bytes:
    pieces = (message[at : at + 16_000] for at in range(0, len(message), 16_000))
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def addresses(kind: int, size_of_one: int) -> Callable[[int], bytes]:
    """An answer full of addresses of the name that was asked for."""

    def make(size: int) -> bytes:
        count = max(1, (size - 40) // (12 + size_of_one))
        rows = (
            b"\xc0\x0c"
            + kind.to_bytes(2, "big")
            + b"\0\1\0\0\0\x3c"
            + size_of_one.to_bytes(2, "big")
            + number.to_bytes(size_of_one, "big")
            for number in range(1, count + 1)
        )
        return b"\x81\x80\0\1" + count.to_bytes(2, "big") + bytes(4) + b"".join(rows)

    return make


def aliases(size: int) -> bytes:
    """Each anchor stands for many of the one before (a "billion laughs")."""
    lines = [b"a0: &a0 [x,x,x,x,x,x,x,x,x]\n"]
    while sum(map(len, lines)) < size:
        number = len(lines)
        lines.append(b"a%d: &a%d [%s]\n" % (number, number, b",".join([b"*a%d" % (number - 1)] * 9)))
    return b"".join(lines)[:size]


def deep(unit: bytes) -> Callable[[int], bytes]:
    return lambda size: unit * (size // len(unit))


def indented(size: int) -> bytes:
    lines: list[bytes] = []
    while sum(map(len, lines[-1:])) * len(lines) // 2 < size:
        lines.append(b" " * len(lines) + b"a:\n")
    return b"".join(lines)


_VIA = Via("socks", Endpoint("192.0.2.1", 1080), "alice", "sesame")
_SOCKS_WORDS = (
    b"\5\1\0",
    b"\5\1\0\3",
    b"\4\1\0\x50\0\0\0\1",
    b"\0",
    b"\xff",
    b"a",
    b".",
    b"\1\5alice\6sesame",
)
_HEADER_WORDS = (
    b"A: b\r\n",
    b"Host: a\r\n",
    b"Connection: ",
    b"a, ",
    b", ",
    b"\r\n ",
    b"Content-Length: 0\r\n",
    b"Via: x\r\n",
    b"Proxy-Authorization: Basic ",
    b"QUFB",
    b"%41",
    b"@",
    b"[",
    b"::",
    b";",
    b"=",
    b"\t",
)
_NAME_WORDS = (
    b"a",
    b".",
    b"-",
    b"xn--",
    "ß".encode(),
    "。".encode(),
    "\u0301".encode(),
    "\u200d".encode(),
    b"1.",
    b"0x",
    b":",
    b"[",
    b"]",
    b"%",
    "א".encode(),
    "İ".encode(),
    "㍿".encode(),
    "क्".encode(),
)
_FLIGHTS = FUZZED["first_flight"]

# Heads that have been slow once, or were made to be.
_HEADS = [
    Shape(b"GET http://a.test/ HTTP/1.1\r\nA:", b" ", b"\x01\r\n\r\n").of,
    Shape(b"GET http://a.test/ HTTP/1.1\r\nA: x", b" ", b"y\r\n\r\n").of,
    Shape(b"GET http://a.test/ HTTP/1.1\r\nA: x", b"\t ", b"\x01\r\n\r\n").of,
    Shape(b"GET http://a.test/ HTTP/1.1\r\n", b"A", b"\x01: x\r\n\r\n").of,
    Shape(b"GET http://a.test/ HTTP/1.1\r\nHost: ", b"a", b"\x80\r\n\r\n").of,
    Shape(b"GET http://a.test/ HTTP/1.1\r\nHost: a\r\nConnection: ", b"a,", b"\r\n\r\n").of,
    Shape(b"GET http://", b"a", b"# HTTP/1.1\r\n\r\n").of,
    Shape(b"GET http://", b":1", b"x HTTP/1.1\r\nHost: a\r\n\r\n").of,
    Shape(b"GET http://", b"?", b"# HTTP/1.1\r\n\r\n").of,
    Shape(b"GET http://[", b":", b"]/ HTTP/1.1\r\nHost: a\r\n\r\n").of,
    Shape(b"GET http://", b"1.", b"/ HTTP/1.1\r\nHost: a\r\n\r\n").of,
    Shape(b"GET", b" ", b"HTTP/1.1\r\n\r\n").of,
    Shape(b"", b"G", b" http://a.test/ HTTP/1.1\r\n\r\n").of,
    Shape(b"CONNECT ", b"1.", b":443 HTTP/1.1\r\nHost: a\r\n\r\n").of,
    Shape(b"CONNECT ", b"xn--a-.", b":443 HTTP/1.1\r\nHost: a\r\n\r\n").of,
    Shape(b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic ", b"=", b"\r\n\r\n").of,
]

_RESPONSES = [
    Shape(b"HTTP/1.1 200 OK\r\n", b"\r", b"").of,
    Shape(b"HTTP/1.1 200 OK\r\nA:", b" ", b"\x01\r\n\r\n").of,
    Shape(b"HTTP/1.1 200 OK\r\nA: b\r\n", b" c\r\n", b"\r\n").of,
    Shape(b"HTTP/1.1 200 OK\r\nConnection: ", b"a,", b"\r\n\r\n").of,
    Shape(b"HTTP/1.1 200 OK\r\nContent-Length: 1", b",1", b"\r\n\r\n").of,
    Shape(b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"").of,
]
_RESPONSE_WORDS = (
    *_HEADER_WORDS,
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 \n\n",
    b"\n",
    b"\r",
    b"Transfer-Encoding: chunked\r\n",
)

PARSERS: dict[str, Judged] = {
    "http response": Judged(
        response,
        http_response.LIMIT,
        _RESPONSE_WORDS,
        (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n",),
        tuple(_RESPONSES),
    ),
    "http response in pieces": Judged(
        response_in_pieces,
        http_response.LIMIT,
        _RESPONSE_WORDS,
        (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n",),
        tuple(_RESPONSES),
        on_the_loop=False,
        effort=60,
    ),
    "http": Judged(stream(http1.opening, openings.LIMIT), openings.LIMIT, _HTTP_WORDS + _HEADER_WORDS, _HTTP),
    "http with users": Judged(
        stream(partial(http1.opening, login=True), openings.LIMIT),
        openings.LIMIT,
        _HTTP_WORDS + _HEADER_WORDS,
        _HTTP,
        tuple(_HEADS),
    ),
    "http in pieces": Judged(
        stream(http1.opening, openings.LIMIT, 16),
        openings.LIMIT,
        _HTTP_WORDS + _HEADER_WORDS,
        _HTTP,
        on_the_loop=False,
        effort=100,
    ),
    "chunks": Judged(
        chunks,
        MOST_EARLY_DATA,
        (b"1\r\na\r\n", b"0\r\n", b"1;", b"a=b;", b"A: b\r\n", b"f", b"\r\n"),
        (b"1;a=b\r\nx\r\n0\r\nA: b\r\n\r\n",),
    ),
    "chunks in pieces": Judged(
        chunks_in_pieces,
        MOST_EARLY_DATA,
        (b"1\r\na\r\n", b"0\r\n", b"1;", b"a=b;", b"A: b\r\n", b"f"),
        (b"0\r\n",),
        on_the_loop=False,
        effort=60,
    ),
    "socks": Judged(
        stream(socks.opening, openings.LIMIT), openings.LIMIT, _SOCKS_WORDS, FUZZED["socks"].seeds
    ),
    "socks with users": Judged(
        stream(partial(socks.opening, login=True), openings.LIMIT),
        openings.LIMIT,
        _SOCKS_WORDS,
        FUZZED["socks_login"].seeds,
    ),
    "socks in pieces": Judged(
        stream(socks.opening, openings.LIMIT, 1),
        openings.LIMIT,
        _SOCKS_WORDS,
        FUZZED["socks"].seeds,
        on_the_loop=False,
        effort=60,
    ),
    "sni": Judged(
        stream(partial(sni.opening, port=443), sni.LIMIT),
        sni.LIMIT,
        (b"\x16\x03\x01\0\1", b"\1", b"\0\0", b"\x16\x03\x01\x40\0"),
        (_HELLO,),
        (small_records, many_extensions, large_alpn),
    ),
    "sni in pieces": Judged(
        stream(partial(sni.opening, port=443), sni.LIMIT, 16),
        sni.LIMIT,
        (b"\x16\x03\x01\0\1",),
        (_HELLO,),
        (small_records, many_extensions, large_alpn),
        on_the_loop=False,
        effort=60,
    ),
    "hello_span": Judged(
        span,
        MOST_EARLY_DATA,
        (b"\x16\x03\x01\0\1", b"\1", b"\0\0"),
        (_HELLO,),
        (small_records, many_extensions, large_alpn),
    ),
    "PROXY header": Judged(
        stream(proxy_header.header, proxy_header.LIMIT),
        proxy_header.LIMIT,
        (
            b"PROXY ",
            b"TCP4 ",
            b"TCP6 ",
            b"UNKNOWN ",
            b"192.0.2.1 ",
            b":",
            b"\3\0\4abcd",
            b"\4\0\0",
            proxy_header.SIGNATURE,
            b"\x21\x11\x10\0",
        ),
        FUZZED["proxy_header"].seeds,
        (
            extensions(proxy_header.PP2_CRC32C, b""),
            extensions(4, b""),
            extensions(4, bytes(20)),
            extensions(4, bytes(20), behind=((proxy_header.PP2_CRC32C, b""),)),
        ),
    ),
    "PROXY header in pieces": Judged(
        stream(proxy_header.header, proxy_header.LIMIT, 1),
        proxy_header.LIMIT,
        (b"PROXY ", b"TCP4 ", b":"),
        FUZZED["proxy_header"].seeds,
        (
            extensions(proxy_header.PP2_CRC32C, b""),
            extensions(4, bytes(20), behind=((proxy_header.PP2_CRC32C, b""),)),
        ),
        on_the_loop=False,
        effort=60,
    ),
    "tunnel": Judged(
        believed,
        tunnel.LIMIT,
        (b"\2\0\1a", b"\xe0\0\x30"),
        (sealed(600),),
        (sealed, extensions(2, b"a"), extensions(proxy_header.PP2_CRC32C, b"")),
    ),
    "tunnel in pieces": Judged(
        stream(tunnel.opening, tunnel.LIMIT, 16),
        tunnel.LIMIT,
        (b"\2\0\1a",),
        (sealed(600),),
        (sealed,),
        on_the_loop=False,
        effort=60,
    ),
    "gateway, SOCKS": Judged(
        stream(gateway.steps(_VIA, Endpoint("192.0.2.2", 443))[-1].hear, gateway.MOST_REPLY),
        gateway.MOST_REPLY,
        _SOCKS_WORDS,
        FUZZED["gateway_socks"].seeds,
    ),
    "gateway, HTTP": Judged(
        stream(gateway.steps(Via("http", _VIA.gateway), _VIA.gateway)[0].hear, gateway.MOST_REPLY),
        gateway.MOST_REPLY,
        (*_HTTP_WORDS, *_HEADER_WORDS, b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
        FUZZED["gateway_http"].seeds,
    ),
    "gateway, HTTP in pieces": Judged(
        stream(gateway.steps(Via("http", _VIA.gateway), _VIA.gateway)[0].hear, gateway.MOST_REPLY, 16),
        gateway.MOST_REPLY,
        (*_HTTP_WORDS, b"HTTP/1.1 100 Continue\r\n\r\n"),
        FUZZED["gateway_http"].seeds,
        on_the_loop=False,
        effort=60,
    ),
    "first flights": Judged(
        replay.classify,
        MOST_EARLY_DATA,
        (
            *_FLIGHTS.words,
            *_HEADER_WORDS,
            b"*1\r\n$4\r\nPING\r\n",
            b"GET a\r\n",
            b"get a\r\n",
            b"PING ",
            b"\0\0\0\4\0\0\0\0\0",
            b"\0\0\4\1\0\0\0\0\0",
            b"\0\x1d\xab\xcd\1\0\0\1",
            b"user\0a\0",
            b"$1\r\na\r\n",
            b"\x80\0\0\1" + bytes(20) + b"a",
        ),
        _FLIGHTS.seeds,
        (small_records, many_extensions),
        effort=1200,
    ),
    "DNS answers": Judged(
        answered,
        MOST_ANSWER,
        (
            b"\xc0\x0c",
            b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4",
            b"\1a",
            b"\0",
            b"\xc0\x0c\0\5\0\1\0\0\0\x3c\0\2\xc0\x0c",
        ),
        (b"\x81\x80\0\1\xff\xff\0\0\0\0",),
        (addresses(1, 4), addresses(28, 16)),
        effort=60,
    ),
    "admin": Judged(admin, 2 * LARGEST_HEAD, _HTTP_WORDS + _HEADER_WORDS, ANSWERS["admin"].seeds),
    "names": Judged(text(check_name, BadAddress), 32_768, _NAME_WORDS, (b"a.example.com",)),
    "destinations": Judged(
        text(lambda host: target_of(host, 80), BadAddress), 32_768, _NAME_WORDS, (b"2001:db8::1",)
    ),
    "addresses": Judged(
        text(parse_target, BadAddress), 32_768, (*_NAME_WORDS, b"unix:/", b":1"), (b"[2001:db8::1]:443",)
    ),
    "networks": Judged(text(parse_network, BadNetwork), 32_768, (*_NAME_WORDS, b"/"), (b"10.0.0.0/8",)),
    "embedded addresses": Judged(
        text(meanings, ValueError), 32_768, _NAME_WORDS, (b"64:ff9b:1::7f00:1", b"2002::")
    ),
    "patterns": Judged(
        text(compile_pattern, BadPattern),
        LONGEST_PATTERN,
        (b"a", b"(", b"(a", b"|", b")", b"*", b"a?", b"{9}", b"[a-z]", b"\\.", b"(?:", b".*"),
        (b"(a|b)+",),
        on_the_loop=False,
    ),
    "passwords": Judged(
        text(read_secret, BadSecret),
        65_536,
        (b"$scrypt$ln=14,r=8,p=1$", b"a", b"$", b"="),
        FUZZED["secret"].seeds,
        on_the_loop=False,
    ),
    "YAML": Judged(
        document,
        32_768,
        _YAML_WORDS,
        (_YAML,),
        (aliases, indented, deep(b"["), deep(b"{a: "), deep(b"- "), deep(b"? "), deep(b"&a [")),
        on_the_loop=False,
        effort=150,
    ),
    "references": Judged(
        text(expand, BadReference),
        65_536,
        (b"${", b"}", b"$$", b"${A:-", b"file:", b"a"),
        (b"a${A:-b}$$",),
        on_the_loop=False,
    ),
    "durations": Judged(
        text(Duration.read, BadScalar),
        65_536,
        (b"1", b".", b"ms", b"1s", b"1.1h"),
        (b"1s",),
        on_the_loop=False,
    ),
    "log": Judged(text(lambda words: _not_plain("?", words)), 65_536, (b"a", b"\n", "ä".encode())),
}
