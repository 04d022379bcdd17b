"""The kernel's cookie cache: what really appears there, with iproute2 as the second opinion."""

from __future__ import annotations

import re
import socket
import time

import pytest

from proxy.lab.behaviours import answers
from proxy.lab.clients import ask
from proxy.lab.wan import Wan
from proxy.net import cookies
from proxy.net.cookies import Cookie, CookieCache

pytestmark = pytest.mark.wan(rtt=0.05)


@pytest.mark.parametrize("version", [4, 6])
def test_a_cold_dial_brings_the_cookie(wan: Wan, version: int) -> None:
    server = wan.serve(answers(), version=version)
    assert cookies.lookup(server.address[0]) == []
    cold = ask(server.address, b"ping")
    (cookie,) = cookies.lookup(server.address[0])
    assert cookie.has_cookie
    assert (cookie.address, cookie.source) == (server.address[0], cold.source[0])
    assert cookie.mss == (1460 if version == 4 else 1440)
    assert cookie.syn_drops == 0
    assert cookie.age is not None
    assert cookie.age < 60
    assert [again._replace(age=cookie.age) for again in cookies.dump()] == [cookie]


def test_a_server_without_fast_open_leaves_an_rtt_and_no_cookie(wan: Wan) -> None:
    server = wan.serve(answers(closes=True), fast_open=None)
    ask(server.address, b"ping")
    entry = _ended(server.address[0])
    assert not entry.has_cookie
    assert entry.rtt is not None
    assert 0.6 * wan.rtt < entry.rtt < 100 * wan.rtt, "in seconds; what this machine adds is its own"
    assert entry.rtt_variation is not None
    assert 0 < entry.rtt_variation < 100 * wan.rtt


def test_lost_syns_are_counted_until_one_is_answered(wan: Wan) -> None:
    server = wan.serve(answers())
    ask(server.address, b"ping")
    with wan.through("drops-syn-data"):
        for count in (1, 2):
            ask(server.address, b"ping")
            assert cookies.lookup(server.address[0])[0].syn_drops == count
    ask(server.address, b"ping")
    assert cookies.lookup(server.address[0])[0].syn_drops == 0


def test_each_source_has_its_own(wan: Wan) -> None:
    server, source = wan.serve(answers()), wan.fresh_source()
    ask(server.address, b"ping", source=source)
    assert cookies.lookup(server.address[0]) == []
    assert [one.source for one in cookies.lookup(server.address[0], source)] == [source]
    default = ask(server.address, b"ping").source[0]
    assert {one.source for one in cookies.dump()} == {source, default}
    assert [one.source for one in cookies.lookup(server.address[0])] == [default]


def test_a_mapped_address_is_the_ipv4_one(wan: Wan) -> None:
    server = wan.serve(answers())
    ask(server.address, b"ping")
    assert cookies.lookup(f"::ffff:{server.address[0]}")[0].address == server.address[0]


def _ended(host: str) -> Cookie:
    """The entry, once a connection's end has left its round trip there."""
    for _ in range(1000):
        (entry,) = cookies.lookup(host)
        if entry.rtt is not None:
            return entry
        time.sleep(0.02)
    raise TimeoutError(host)


def test_iproute2_agrees(wan: Wan) -> None:
    for version in (4, 6):
        for fast_open in (256, None):
            server = wan.serve(answers(closes=True), version=version, fast_open=fast_open)
            ask(server.address, b"ping")
            _ended(server.address[0])
    lost = wan.serve(answers())
    ask(lost.address, b"ping")
    with wan.through("drops-syn-data"):
        ask(lost.address, b"ping")
    told: list[str] = []
    ours: dict[str, Cookie] = {}
    for _ in range(50):  # connections that are just ending still teach the kernel something
        before = {cookie.address: cookie.rtt for cookie in cookies.dump()}
        told = wan.client.run(["ip", "tcp_metrics", "show"]).stdout.splitlines()
        told += wan.client.run(["ip", "-6", "tcp_metrics", "show"]).stdout.splitlines()
        ours = {cookie.address: cookie for cookie in cookies.dump()}
        if before == {address: cookie.rtt for address, cookie in ours.items()}:
            break
    theirs = {line.split()[0]: line for line in told}
    assert len(ours) == 5
    assert theirs.keys() == ours.keys()
    for address, cookie in ours.items():
        line = theirs[address]
        assert cookie.has_cookie == ("fo_cookie" in line)
        assert cookie.source == _said(line, r"source (\S+)")
        assert str(cookie.mss) == (_said(line, r"fo_mss (\d+)") or "None")
        assert str(cookie.syn_drops) == (_said(line, r"fo_syn_drops (\d+)/") or "0")
        for ours_seconds, word in ((cookie.rtt, "rtt"), (cookie.rtt_variation, "rttvar")):
            said = _said(line, rf"\b{word} (\d+)us")
            assert (said is None) == (ours_seconds is None)
            if said is not None and ours_seconds is not None:
                assert int(said) == pytest.approx(ours_seconds * 1e6, abs=1)


def _said(line: str, pattern: str) -> str | None:
    found = re.search(pattern, line)
    return found[1] if found else None


@pytest.mark.wan(rtt=0.001)
def test_a_dump_is_read_to_its_end_or_given_up_without_harm(wan: Wan) -> None:
    addresses = [wan.fresh_address() for _ in range(300)]
    for address in addresses:
        server = wan.serve(answers(), host=address)
        assert ask(server.address, b"ping").reply == b"pong"
        server.close()
    with CookieCache() as cache:
        assert {cookie.address for cookie in cache.dump()} == set(addresses)
        next(cache.dump())  # and no further
        assert [cookie.address for cookie in cache.lookup(addresses[7])] == [addresses[7]]
        assert cache.problem == ""


@pytest.mark.parametrize("host", ["example.com", "", "10.0.0", "/run/x.sock"])
def test_what_is_no_ip_has_no_entry(host: str) -> None:
    with CookieCache() as cache:
        assert cache.lookup(host) == []
        assert "not a numeric IP" in cache.problem


def test_where_netlink_is_missing_the_answer_is_empty_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cookies, "_GENERIC_NETLINK", 29)  # a protocol no kernel has
    with CookieCache() as cache:
        assert cache.lookup("127.0.0.1") == []
        assert "cannot be read" in cache.problem
        assert list(cache.dump()) == []


def test_a_kernel_without_the_family_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cookies, "_FAMILY", "tcp_no_metrics")
    with CookieCache() as cache:
        assert cache.lookup("127.0.0.1") == []
        assert "no netlink family" in cache.problem


@pytest.mark.wan(rtt=0.01)
def test_loopback_is_cached_too(wan: Wan) -> None:
    wan.client.sysctl("net.ipv4.tcp_fastopen", 3)
    wan.client.run(["ip", "link", "set", "lo", "up"])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5)
        with socket.socket() as client:
            client.sendto(b"x", 0x20000000, listener.getsockname())
    (cookie,) = cookies.lookup("127.0.0.1")
    assert cookie.has_cookie
