from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import subprocess
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.address import (
    Authority,
    BadAddress,
    Endpoint,
    check_name,
    is_absolute,
    is_numeric,
    join_host_port,
    normal_ip,
    parse_target,
    parse_unix,
    split_host_port,
)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("example.com:443", Authority("example.com", 443)),
        ("Example.COM.:443", Authority("example.com.", 443)),
        ("_sip.example:5060", Authority("_sip.example", 5060)),
        ("bücher.example:80", Authority("xn--bcher-kva.example", 80)),
        ("192.0.2.1:1", Endpoint("192.0.2.1", 1)),
        ("[2001:DB8:0::1]:65535", Endpoint("2001:db8::1", 65535)),
        ("[fe80::1%eth0]:80", Endpoint("fe80::1%eth0", 80)),
        ("unix:/run/app.sock", Endpoint("/run/app.sock", 0)),
        ("unix:@app", Endpoint("@app", 0)),
    ],
)
def test_what_is_asked_for_and_what_is_dialled(text: str, target: Authority | Endpoint) -> None:
    found = parse_target(text)
    assert found == target
    assert type(found) is type(target)
    assert parse_target(str(found)) == target


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("example.com", "has no port"),
        ("", "has no port"),
        (":80", "has no host"),
        ("a:0", "port 0"),
        ("a:65536", "0 to 65535"),
        ("a:", "0 to 65535"),
        ("a:-1", "0 to 65535"),
        ("a:000080", "0 to 65535"),
        ("a:٣", "0 to 65535"),
        ("::1:80", "brackets"),
        ("[example.com]:80", "not an IPv6 address"),
        ("[]:80", "not an IPv6 address"),
        ("127.1:80", "four decimal numbers"),
        ("0x7f.0.0.1:80", "four decimal numbers"),
        ("2130706433:80", "four decimal numbers"),
        ("0177.0.0.1:80", "four decimal numbers"),
        ("a..b:80", "not a valid host name"),
        ("a b:80", "not a valid host name"),
        (f"{'a' * 64}.example:80", "not a valid host name"),
        ("unix:relative", "unix:/absolute/path"),
        ("unix:@", "unix:/absolute/path"),
        (f"unix:/{'x' * 107}", "107 bytes"),
    ],
)
def test_what_is_none_says_what_it_should_have_been(text: str, says: str) -> None:
    with pytest.raises(BadAddress, match=says):
        parse_target(text)


# What curl 7.88.1 with libidn2 2.3.3 makes of a name, and so do browsers (UTS 46, non-transitional).
NAMES = {
    "faß.de": "xn--fa-hia.de",
    "FASS.de": "fass.de",
    "ς.gr": "xn--3xa.gr",
    "☃.de": "xn--n3h.de",
    "💩.la": "xn--ls8h.la",
    "münchen.de": "xn--mnchen-3ya.de",
    "MÜNCHEN.de": "xn--mnchen-3ya.de",
    "mu\u0308nchen.de": "xn--mnchen-3ya.de",
    "_x.münchen.de": "_x.xn--mnchen-3ya.de",
    "EXAMPLE。com": "example.com",
    "ⓛocalhost": "localhost",
    "İ.tr": "xn--i-9bb.tr",
    "½.com": "xn--12-c6t.com",
    "１.com": "1.com",
    "㍿.com": "xn--6oqv20b1zgzxr.com",
    "क्\u200dष.de": "xn--11b2ezcw70k.de",
    "a--b.ü": "a--b.xn--tda",
    "-foo.example": "-foo.example",
    "foo-.example": "foo-.example",
    "-.com": "-.com",
    "_.com": "_.com",
    "a_b.com": "a_b.com",
    "xn--a.de": "xn--a.de",
    "XN--FA-HIA.de": "xn--fa-hia.de",
}


@pytest.mark.parametrize(("name", "normal"), NAMES.items())
def test_the_normal_form_of_a_name(name: str, normal: str) -> None:
    for dot in ("", ".", "。"):
        assert check_name(name + dot) == check_name(normal) == normal
        assert is_absolute(name + dot) == bool(dot)
    assert check_name(name.upper() if name.isascii() else name) == normal


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_names_become_what_curl_makes_of_them() -> None:
    """curl is given each name, and a proxy's socket hears what it asks for."""
    asked: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            for _ in NAMES:
                sock, _ = server.accept()
                with sock:
                    asked.append(
                        sock.recv(4096).split()[1].decode().removeprefix("http://").removesuffix("/")
                    )
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        proxy = f"http://127.0.0.1:{server.getsockname()[1]}"
        urls = [f"http://{name}/" for name in NAMES]
        env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        subprocess.run(["curl", "-sS", "-m", "5", "-x", proxy, *urls], check=True, env=env, timeout=30)
        thread.join()
    assert [name.lower() for name in asked] == list(NAMES.values())


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "a..", ".a", "a..b", "a。。b", "a b", "a\0b", "a\tb", "a/b", "a@b", "a:b", "a%2eb", "a*b", "*.a",
        "[a]", "127.1", "0x7f.1", "127.0.0.1.", "１２７.0.0.1", "127。1", "0x7F.1", "017700000001", "²¹³⁰⁷⁰⁶⁴³³",
        "\u200blocalhost", "local\u00adhost", "localhost\ufeff", "local\u2060host", "a\ufe0fb", "\u200d", "a\u200cb",
        "\u202elocalhost", "\u0301a", "ab--ü", "a" * 64, "ü" * 60, "a." * 127 + "a", "\ud800", "\uffff", "\U000e0001a",
    ],
)  # fmt: skip
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(BadAddress):
        check_name(name)


@settings(max_examples=200)
@given(st.text(st.characters() | st.sampled_from("-._xn。ß\u0301\u200d"), max_size=20))
def test_a_normal_form_is_its_own_normal_form(text: str) -> None:
    try:
        name = check_name(text)
    except BadAddress:
        return
    assert check_name(name) == check_name(name.upper()) == check_name(name + ".") == name
    assert name.isascii()
    with pytest.raises(OSError, match="illegal IP address"):
        socket.inet_aton(name)  # what the C library takes for an address is no name


def test_families() -> None:
    assert Endpoint("/a:b", 0).is_unix
    assert not Endpoint("/a:b", 0).is_ipv6
    assert Endpoint("::1", 1).is_ipv6
    assert not Endpoint("127.0.0.1", 1).is_ipv6
    assert not Endpoint("127.0.0.1", 1).is_unix


def test_one_endpoint_has_one_name() -> None:
    assert normal_ip("2001:0db8::0:1") == normal_ip("2001:DB8::1") == "2001:db8::1"
    assert is_numeric("::ffff:192.0.2.1")
    assert not is_numeric("192.0.2")
    assert parse_unix("unix:/a") == Endpoint("/a", 0)


def test_the_longest_name() -> None:
    name = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert len(name) == 253
    assert check_name(name + ".") == name
    with pytest.raises(BadAddress, match="not a valid host name"):
        check_name(name + "b")


hosts = st.ip_addresses().map(str) | st.from_regex(r"[a-z][a-z0-9]{0,20}(\.[a-z]{1,10}){0,3}", fullmatch=True)


@settings(max_examples=12)
@given(hosts, st.integers(1, 65535))
def test_what_is_written_is_read_back(host: str, port: int) -> None:
    assert split_host_port(join_host_port(host, port)) == (host, port)
    target = parse_target(join_host_port(host, port))
    assert (target.host, target.port) == (host, port)
    assert isinstance(target, Endpoint) == is_numeric(host)


@settings(max_examples=50)
@given(st.text(max_size=30))
def test_no_text_makes_it_fail_otherwise(text: str) -> None:
    for wild in (text, f"{text}:80", f"[{text}]:80", f"unix:{text}"):
        try:
            target = parse_target(wild)
        except BadAddress:
            continue
        assert target.port == 0 or 1 <= target.port <= 65535
        if isinstance(target, Endpoint) and not target.is_unix:
            ipaddress.ip_address(target.host)
