"""Sessions that come back to the proxy by what rewrites their addresses: few descriptors are taken, and all are freed.

The gateway is the server's end of the lab: it sends connections to its own address back (DNAT), from its own address
(masquerade), as a published port of a container does. Nothing in the addresses tells a dial of the proxy from a
client's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.lab.behaviours import answers
from proxy.lab.wan import CLIENT, Wan
from tests.wire.program import GET, Line, Program, until
from tests.wire.test_ways_in import hello, nft

pytestmark = [
    pytest.mark.netns,
    pytest.mark.wan(rtt=0.002),
    pytest.mark.skipif(not shutil.which("nft"), reason="needs nft"),
]

GATEWAY = "10.77.2.254"
MOST = 100  # descriptors that one looping client may take
BACK = f"""
table ip loop {{
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    ip daddr {GATEWAY} tcp dport 443 dnat to {CLIENT}:443
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    ip daddr {CLIENT} tcp dport 443 masquerade
  }}
}}
"""
BEHIND = "10.99.0.1"  # a network whose way leads through the proxy's machine
ROUTED = f"""
table ip loop {{
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    ip daddr {BEHIND} masquerade
  }}
}}
"""
REDIRECT = """
table ip redirected {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    iifname != "lo" tcp dport 443 redirect to :8500
  }
}
"""
FIRST_BYTES = {
    "a TLS hello": hello("loop.test"),
    "a request": GET,
    "something short": b"hi\n",
    "no bytes": b"",
}


@contextlib.contextmanager
def gateway(wan: Wan, rules: str) -> Iterator[None]:
    with wan.server.entered():
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    with nft(wan.server, rules):
        yield


def descriptors(proxy: Program) -> int:
    """Those of all its processes."""
    children = Path(f"/proc/{proxy.pid}/task/{proxy.pid}/children").read_text().split()
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in [proxy.pid, *children])


def goes_round(proxy: Program, address: tuple[str, int], first: bytes, *others: Program) -> None:
    """A client comes; the most descriptors that it took meanwhile are few, and it is refused for what it is."""
    before, peak = descriptors(proxy), 0
    with socket.create_connection(address, timeout=10) as sock:
        sock.sendall(first)
        ends = time.monotonic() + 1.0
        while time.monotonic() < ends:
            peak = max(peak, descriptors(proxy) - before)
            time.sleep(0.005)
        assert peak <= MOST, peak
        if first:
            sock.settimeout(10)
            with contextlib.suppress(ConnectionError):
                while sock.recv(100):
                    pass
    lines = [line for one in (proxy, *others) for line in one.events("session")]
    assert any(line["reason"] == "loop" for line in lines), lines[-3:]
    until(lambda: descriptors(proxy) <= before + 2)


def document(mode: str, **listener: object) -> Line:
    settings: Line = {"a": {"bind": f"{CLIENT}:443", "mode": mode, **listener}}
    clusters: Line = {"there": {"endpoints": [f"{GATEWAY}:443"], "warm_up": False}}
    return {"listeners": settings, "clusters": clusters}


@pytest.mark.parametrize("first", FIRST_BYTES)
def test_a_forward_listener_behind_a_published_port(wan: Wan, first: str) -> None:
    most = {"limits": {"per_destination": 40}} if first == "no bytes" else {}
    with gateway(wan, BACK), Program(wan.client, document=document("forward", to="there", **most)) as proxy:
        goes_round(proxy, (CLIENT, 443), FIRST_BYTES[first])


def test_a_tls_name_that_is_our_own_published_one(wan: Wan) -> None:
    server = wan.serve(answers(request=len(hello("good.test"))))
    routes = [
        {"match": {"host": "loop.test"}, "to": "there"},
        {"to": f"{server.address[0]}:{server.address[1]}"},
    ]
    listener = document("sni", allow=["0.0.0.0/0"]) | {"routes": routes}
    with gateway(wan, BACK), Program(wan.client, document=listener) as proxy:
        for _ in range(2):
            goes_round(proxy, (CLIENT, 443), hello("loop.test"))
            with socket.create_connection((CLIENT, 443), timeout=10) as sock:
                sock.sendall(hello("good.test"))
                assert sock.recv(10) == b"pong", "others are served"


@pytest.mark.parametrize("first", ["a request"])
def test_redirected_connections_that_come_by_again(wan: Wan, first: str) -> None:
    with wan.client.entered():
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    wan.server.run(["ip", "route", "add", BEHIND, "dev", "line"])
    with (
        gateway(wan, ROUTED),
        nft(wan.client, REDIRECT),
        Program(
            wan.client,
            document={"listeners": {"a": {"bind": "*:8500", "mode": "transparent", "allow": ["0.0.0.0/0"]}}},
        ) as proxy,
        wan.server.entered(),
    ):
        goes_round(proxy, (BEHIND, 443), FIRST_BYTES[first])


@pytest.mark.parametrize("first", ["a TLS hello", "no bytes"])
def test_two_proxies_that_send_to_each_other(wan: Wan, first: str) -> None:
    settings: Line = {"limits": {"per_destination": 20}, "fast_open": False}
    one = document("forward", to="there", **settings) | {"workers": 2}
    listener: Line = {"bind": f"{GATEWAY}:443", "mode": "forward", "to": f"{CLIENT}:443", **settings}
    with (
        Program(wan.client, document=one) as proxy,
        Program(wan.server, document={"listeners": {"b": listener}}) as other,
    ):
        goes_round(proxy, (CLIENT, 443), FIRST_BYTES[first], other)


@pytest.mark.parametrize("first", ["a request", "no bytes"])
def test_a_listener_everywhere_that_sends_to_the_machine_itself(wan: Wan, first: str) -> None:
    listener: Line = {"listeners": {"a": {"bind": "*:443", "mode": "forward", "to": f"{CLIENT}:443"}}}
    with Program(wan.client, document=listener) as proxy:
        goes_round(proxy, ("127.0.0.1", 443), FIRST_BYTES[first])
