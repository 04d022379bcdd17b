"""What runs out on this machine is said as what it is, and keeps nobody waiting who does not need it."""

from __future__ import annotations

import ipaddress
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from proxy.lab.behaviours import echoes
from proxy.lab.servers import Server
from proxy.lab.wan import Wan
from tests.wire.program import Program, forward

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.0)]

PORTS = 10


@pytest.fixture
def servers(wan: Wan) -> Iterator[list[Server]]:
    with (
        Server(wan.client, ("127.0.0.1", 0), echoes()) as one,
        Server(wan.client, ("127.0.0.1", 0), echoes()) as other,
    ):
        yield [one, other]


def says(sock: socket.socket, word: bytes = b"hello") -> bytes:
    sock.settimeout(10)
    try:
        sock.sendall(word)
        return sock.recv(100)
    except ConnectionResetError:
        return b""


def test_local_ports_run_out_for_one_server_and_the_other_is_reached(wan: Wan, servers: list[Server]) -> None:
    ends = {"a": forward(servers[0]), "b": forward(servers[1])}
    with Program(wan.client, ends) as program, ExitStack() as stack:
        wan.client.sysctl("net.ipv4.ip_local_port_range", f"40000 {40000 + PORTS - 1}")

        def client(listener: str, number: int) -> socket.socket:
            """From a port of its own, so that it takes none from the program."""
            sock = stack.enter_context(socket.socket())
            sock.bind(("127.0.0.5", 20000 + number))
            sock.connect(program.address(listener))
            return sock

        answers = [says(client("a", number)) for number in range(PORTS + 5)]
        assert answers.count(b"hello") == PORTS
        line = program.session(5)
        assert (line["reason"], line["ended_by"]) == ("no_ports", "proxy")
        assert "EADDRNOTAVAIL" in line["detail"]
        assert says(client("b", 100)) == b"hello"
        assert {one["reason"] for one in program.events("session")} == {"no_ports"}


DIALS = [
    # a kind of route, or what a packet filter does with packets that go out here or come in there; where to; and what
    # follows: reason, SOCKS 5 reply (RFC 1928 section 6), HTTP status
    ("", "10.77.2.201", "refused", 5, 502),
    ("", "fd77:2::201", "refused", 5, 502),
    ("route: prohibit", "192.0.2.1", "not_permitted", 2, 502),
    ("route: unreachable", "192.0.2.2", "unreachable", 4, 502),
    ("route: blackhole", "192.0.2.3", "unreachable", 4, 502),
    ("route: throw", "192.0.2.4", "net_unreachable", 3, 502),
    ("route: prohibit", "fd00::1", "not_permitted", 2, 502),
    ("route: unreachable", "fd00::2", "unreachable", 4, 502),
    ("route: blackhole", "fd00::3", "unreachable", 4, 502),
    ("out: drop", "192.0.2.6", "connect_timeout", 6, 504),  # the kernel does not tell: tcp_connect() in tcp_output.c
    ("out: reject with tcp reset", "192.0.2.7", "refused", 5, 502),
    ("out: reject with icmp admin-prohibited", "192.0.2.8", "unreachable", 4, 502),
    ("out: reject with icmp net-unreachable", "192.0.2.9", "net_unreachable", 3, 502),
    ("out: reject with icmp prot-unreachable", "192.0.2.10", "refused", 5, 502),
    ("in: reject with icmp host-prohibited", "10.77.2.210", "unreachable", 4, 502),
    ("in: reject with icmp port-unreachable", "10.77.2.211", "refused", 5, 502),
    ("in: reject with icmpv6 admin-prohibited", "fd77:2::210", "unreachable", 4, 502),
    ("in: reject with icmpv6 port-unreachable", "fd77:2::211", "refused", 5, 502),
    # from here on without IPv6
    ("sysctl -qw net.ipv6.conf.all.disable_ipv6=1", "fd00::21", "net_unreachable", 3, 502),
]  # fmt: skip


def _obey(wan: Wan, rule: str, host: str) -> None:
    what, _, action = rule.partition(": ")
    is_ipv6 = ":" in host
    if what == "route":
        wan.client.run(["ip", "-6" if is_ipv6 else "-4", "route", "add", action, host])
    elif what in {"in", "out"}:
        namespace = wan.client if what == "out" else wan.server
        family = "ip6" if is_ipv6 else "ip"
        namespace.run(["nft", f"add rule inet t {what} {family} daddr {host} {action}"])
    elif rule:
        wan.client.run(rule.split())


@pytest.mark.root
@pytest.mark.skipif(shutil.which("nft") is None or shutil.which("ip") is None, reason="needs nft and ip")
def test_each_way_of_the_kernel_to_say_no_is_told_as_what_it_is(wan: Wan) -> None:
    """Real errnos, of connect(2), sendto(2) and SO_ERROR, for plain dials and both kinds of fast opens."""
    if not wan.ipv6:
        pytest.skip("this kernel has no IPv6")
    for namespace in (wan.client, wan.server):
        for words in ("add table inet t", "add chain inet t out { type filter hook output priority 0; }",
                      "add chain inet t in { type filter hook input priority 0; }"):  # fmt: skip
            namespace.run(["nft", words])
    document = {
        "listeners": {
            "socks": {"bind": "127.0.0.1:0", "mode": "socks"},
            "http": {"bind": "127.0.0.1:0", "mode": "http"},
        },
        "defaults": {"connect": {"timeout": "700ms"}},
        "direct": {"deny": []},
    }
    for setting in ("net.ipv4.icmp_ratelimit", "net.ipv6.icmp.ratelimit"):
        wan.server.sysctl(setting, 0)
    wrong: list[object] = []
    count = 0
    with Program(wan.client, None, document=document) as program:
        for rule, host, *expected in DIALS:
            _obey(wan, rule, host)
            packed = ipaddress.ip_address(host).packed
            request = b"\5\1\0\5\1\0" + (b"\4" if ":" in host else b"\1") + packed + b"\0\x50"
            for early in (b"", b"GET / HTTP/1.1\r\n\r\n"):
                with socket.create_connection(program.address("socks")) as sock:
                    reply = says(sock, request + early)
                    while len(reply) < 4 and (more := sock.recv(100)):
                        reply += more
                with socket.create_connection(program.address("http")) as sock:
                    authority = f"[{host}]:80" if ":" in host else f"{host}:80"
                    head = says(
                        sock, f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode() + early
                    )
                count += 2
                program.session(count)
                lines = program.events("session")
                seen = [lines[-1]["reason"], reply[3], int(head.split()[1])]
                if seen != expected or lines[-2]["reason"] != expected[0]:
                    wrong.append((rule or host, early, seen, expected, lines[-1]["detail"]))
    assert not wrong, "\n".join(map(str, wrong))
