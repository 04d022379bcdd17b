"""The ways in that ask nothing of the client: by TLS name, by redirection, by PROXY header; real rules, real kernel."""

from __future__ import annotations

import shutil
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proxy.core.address import Endpoint
from proxy.core.proxy_header import version1, version2
from proxy.lab.behaviours import answers, speaks_first
from proxy.lab.namespaces import Namespace
from proxy.lab.servers import Address
from proxy.lab.wan import CLIENT, CLIENT6, Wan
from tests.wire.program import GET, Line, Program, until

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.04)]

NFT = shutil.which("nft")
needs_nft = pytest.mark.skipif(NFT is None, reason="needs nft")


def program(wan: Wan, document: Line) -> Program:
    return Program(wan.client, None, document=document)


def said(proxy: Address, data: bytes, expect: int = 4) -> bytes:
    """What comes back; b"" after an end, None-like b"RST" after a reset."""
    reply = b""
    try:
        with socket.create_connection(proxy, timeout=10) as sock:  # who is turned away may hear of it here
            sock.sendall(data)
            while len(reply) < expect and (more := sock.recv(1000)):
                reply += more
    except ConnectionResetError:
        return b"RST"
    return reply


# --- PROXY headers, both ways


def forward(to: str, **listener: object) -> Line:
    return {
        "listeners": {"a": {"bind": "127.0.0.1:0", "mode": "forward", "to": "b", **listener}},
        "clusters": {"b": {"endpoints": [to], "warm_up": False}},
    }


SOURCE, DESTINATION = Endpoint("192.0.2.7", 4711), Endpoint("198.51.100.1", 443)


@pytest.mark.parametrize("header", [version1(SOURCE, DESTINATION), version2(SOURCE, DESTINATION)])
@pytest.mark.parametrize("split", [False, True])
def test_a_header_tells_who_the_client_is(wan: Wan, header: bytes, split: bool) -> None:
    server = wan.serve(answers(request=len(GET)))
    document = forward(f"{server.address[0]}:80", proxy_protocol="require", trust=["loopback"])
    with program(wan, document) as proxy:
        with socket.create_connection(proxy.address(), timeout=10) as sock:
            for piece in [bytes([byte]) for byte in header] if split else [header]:
                sock.sendall(piece)
            sock.sendall(GET)
            assert sock.recv(10) == b"pong"
        assert proxy.session()["client"] == "192.0.2.7:4711"
    server.wait(1)
    assert server.received == [GET]


@pytest.mark.parametrize(
    ("keys", "data", "reason"),
    [
        ({"proxy_protocol": "require", "trust": ["loopback"]}, GET, "bad_request"),
        ({"proxy_protocol": "require", "trust": ["10.0.0.0/8"]}, version1(SOURCE, DESTINATION) + GET, "not_allowed"),
        ({"proxy_protocol": "require", "trust": ["loopback"]}, b"PROXY TCP4 x\r\n", "bad_request"),
        ({"proxy_protocol": "require", "trust": ["loopback"], "allow": ["10.0.0.0/8"]},
         version1(SOURCE, DESTINATION) + GET, "not_allowed"),
        ({"allow": ["10.0.0.0/8"]}, GET, "not_allowed"),
    ],
)  # fmt: skip
def test_who_is_not_let_in(wan: Wan, keys: Line, data: bytes, reason: str) -> None:
    server = wan.serve(answers())
    with program(wan, forward(f"{server.address[0]}:80", **keys)) as proxy:
        assert said(proxy.address(), data) in {b"", b"RST"}
        assert proxy.session()["reason"] == reason
    assert server.received == []


def test_accept_takes_those_without_a_header_too(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)))
    keys = {"proxy_protocol": "accept", "trust": ["loopback"], "allow": ["loopback"]}
    with program(wan, forward(f"{server.address[0]}:80", **keys)) as proxy:
        assert said(proxy.address(), GET) == b"pong"
        assert proxy.session()["client"].startswith("127.0.0.1:")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_header_for_the_server_rides_in_the_syn_with_the_first_bytes(wan: Wan, version: str) -> None:
    server = wan.serve(answers(request=len(GET)))
    document = forward(f"{server.address[0]}:80")
    document["clusters"]["b"] |= {"proxy_protocol": version, "hedge": "off"}
    with program(wan, document) as proxy:
        for number in (1, 2):
            wan.forget()
            with socket.create_connection(proxy.address(), timeout=10) as sock:
                here = Endpoint(*sock.getsockname())
                sock.sendall(GET)
                assert sock.recv(10) == b"pong"
            line = proxy.session(number)
            assert line["up_bytes"] == line["early_bytes"] == len(GET)
        there = Endpoint(*proxy.address())
        expected = (version1 if version == "v1" else version2)(here, there) + GET
        (syn,) = wan.capture().syns(dst=server.address)
        assert syn.payload == expected
    server.wait(2)
    assert server.received[1] == expected


def test_a_server_that_speaks_first_gets_its_header_in_the_syn_alone(wan: Wan) -> None:
    server = wan.serve(speaks_first(b"220 hi\r\n"))
    document = forward(f"{server.address[0]}:80")
    document["clusters"]["b"] |= {"proxy_protocol": "v1", "server_first": "yes", "hedge": "off"}
    with program(wan, document) as proxy:
        for number in (1, 2):
            wan.forget()
            assert said(proxy.address(), b"", expect=8) == b"220 hi\r\n"
            assert proxy.session(number)["up_bytes"] == 0
        (syn,) = wan.capture().syns(dst=server.address)
        assert syn.payload.startswith(b"PROXY TCP4 127.0.0.1 ")


# --- by name


def hello(name: str | None, size: int = 0) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = False
    if size:
        context.set_alpn_protocols(["x" * 200] * (size // 201))
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def records(data: bytes, size: int) -> bytes:
    """The same hello in records of `size` bytes."""
    body, framed = data[5:], b""
    for at in range(0, len(body), size):
        part = body[at : at + size]
        framed += b"\x16\x03\x01" + struct.pack("!H", len(part)) + part
    return framed


@pytest.mark.parametrize("size", [0, 4000])
@pytest.mark.parametrize("shape", ["whole", "records", "bytes"])
def test_a_name_finds_its_route(wan: Wan, shape: str, size: int) -> None:
    first = hello("www.example.com", size)
    if shape == "records":
        first = records(first, 100)
    server = wan.serve(answers(request=len(first)))
    document: Line = {
        "listeners": {"a": {"bind": "127.0.0.1:0", "mode": "sni"}},
        "routes": [
            {"match": {"sni": "*.example.com"}, "to": f"{server.address[0]}:80"},
            {"refuse": "unknown"},
        ],
    }
    with program(wan, document) as proxy:
        with socket.create_connection(proxy.address(), timeout=10) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(0, len(first), 50 if shape == "bytes" else len(first)):
                sock.sendall(first[at : at + (50 if shape == "bytes" else len(first))])
            assert sock.recv(10) == b"pong"
        line = proxy.session()
        assert (line["mode"], line["protocol"]) == ("tls", "tls")
        assert line["authority"].startswith("www.example.com:")
        assert said(proxy.address(), hello("other.test")) == b"\x15\x03\x03\x00\x02\x02\x70"
        assert proxy.session(2)["reason"] == "denied"
        assert said(proxy.address(), hello(None)) == b"\x15\x03\x03\x00\x02\x02\x70"
        assert said(proxy.address(), GET) in {b"", b"RST"}
        assert proxy.session(4)["reason"] == "bad_request"
    server.wait(1)
    assert [data for data in server.received if data] == [first], "and a warm-up"


@pytest.mark.parametrize("first", [GET, hello(None), b"SSH-2.0-x\r\n", b"\x16\x03\x01\xff\xff"])
def test_what_has_no_name_goes_where_the_listener_says(wan: Wan, first: bytes) -> None:
    server = wan.serve(answers(request=len(first)))
    document: Line = {
        "listeners": {"a": {"bind": "127.0.0.1:0", "mode": "sni", "to": f"{server.address[0]}:80"}},
    }
    with program(wan, document) as proxy:
        assert said(proxy.address(), first) == b"pong"
    server.wait(1)
    assert [data for data in server.received if data] == [first], "and a warm-up"


# --- by redirection


@contextmanager
def nft(namespace: Namespace, rules: str) -> Iterator[None]:
    namespace.run(["nft", rules])
    try:
        yield
    finally:
        namespace.run(["nft", "flush ruleset"])


def transparent(mode: str = "transparent") -> Line:
    return {
        "listeners": {"a": {"bind": "*:8500", "mode": mode, "allow": ["0.0.0.0/0", "::/0"]}},
        "direct": {"allow": ["10.0.0.0/8", "fd00::/8"]},  # servers on the gateway itself
    }


# What docs/transparent.md says, with this lab's addresses.
GATEWAY = """
table inet tfo {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    iifname != "lo" tcp dport 80 redirect to :8500
  }
}
"""
TPROXY = """
table inet tfo {
  chain prerouting {
    type filter hook prerouting priority mangle;
    iifname != "lo" tcp dport 80 meta nfproto ipv4 tproxy ip to :8500 meta mark set 1 accept
    iifname != "lo" tcp dport 80 meta nfproto ipv6 tproxy ip6 to :8500 meta mark set 1 accept
  }
}
"""
OUTPUT = """
table inet tfo {
  chain output {
    type nat hook output priority -100;
    tcp dport 80 redirect to :8500
  }
}
"""


@needs_nft
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("mode", "rules"), [("transparent", GATEWAY), pytest.param("tproxy", TPROXY, marks=pytest.mark.root)]
)
def test_a_redirected_client_gets_where_it_wanted(wan: Wan, mode: str, rules: str, version: int) -> None:
    server = wan.serve(answers(request=len(GET)), version=version)
    if mode == "tproxy":
        for family in ("-4", "-6"):
            wan.server.run(["ip", family, "rule", "add", "fwmark", "1", "lookup", "100"])
            wan.server.run(["ip", family, "route", "add", "local", "default", "dev", "lo", "table", "100"])
    with Program(wan.server, None, document=transparent(mode)) as proxy, nft(wan.server, rules):
        reply = said(server.address, GET)
        assert reply == b"pong"
        line = proxy.session()
        assert line["mode"] == mode
        assert line["authority"] == line["endpoint"] == str(Endpoint(*server.address))
        assert line["client"].startswith("[" + CLIENT6 if version == 6 else CLIENT)
    server.wait(1)
    assert server.received == [GET]


@pytest.mark.parametrize("mode", ["transparent", pytest.param("tproxy", marks=pytest.mark.root)])
def test_a_client_that_dials_the_listener_itself_is_refused(wan: Wan, mode: str) -> None:
    with Program(wan.server, None, document=transparent(mode)) as proxy:
        for host in ("10.77.2.254", "fd77:2::ffff"):
            assert said((host, 8500), GET) == b"RST"
        assert proxy.session(2)["reason"] == "loop"


@needs_nft
def test_a_dial_of_ours_that_comes_back_is_refused(wan: Wan) -> None:
    server = wan.serve(answers())
    with program(wan, transparent()) as proxy, nft(wan.client, OUTPUT):
        assert said(server.address, GET) in {b"", b"RST"}  # no rule spares the proxy here
        until(lambda: any(line["reason"] == "loop" for line in proxy.events("session")))
        time.sleep(0.3)
        assert len(proxy.events("session")) <= 4, "it does not go round"
    assert server.received == []


def test_a_name_that_leads_back_to_us_is_refused(wan: Wan) -> None:
    document: Line = {
        "listeners": {"a": {"bind": "127.0.0.1:8443", "mode": "sni"}},
        "routes": [{"to": "127.0.0.1:8443"}],
    }
    with program(wan, document) as proxy:
        assert said(proxy.address(), hello("loop.test")) in {b"", b"RST", b"\x15\x03\x03\x00\x02\x02\x70"}
        until(lambda: any(line["reason"] == "loop" for line in proxy.events("session")))
        sent_on = [
            line for line in proxy.events("session") if line["reason"] != "no_request"
        ]  # warm-ups say nothing
        assert len(sent_on) <= 2
