"""Link-local addresses with a zone (RFC 4007 section 11): as binds, endpoints and sources, and in an upgrade."""

from __future__ import annotations

import socket

import pytest

from proxy.lab.behaviours import answers
from proxy.lab.servers import Server
from proxy.lab.wan import Wan
from tests.wire.program import GET, Line, Program
from tests.wire.test_upgrade import upgraded

pytestmark = [pytest.mark.netns, pytest.mark.root, pytest.mark.wan(rtt=0.02)]


def link_local(wan: Wan) -> int:
    """Give this namespace an interface v0 with the addresses fe80::77:1 and fe80::77:2; its number."""
    if not wan.ipv6:
        pytest.skip("this kernel has no IPv6")
    wan.client.run(["ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"])
    for link in ("v0", "v1"):
        wan.client.run(["ip", "link", "set", link, "up"])
    for address in ("fe80::77:1/64", "fe80::77:2/64"):
        wan.client.run(["ip", "-6", "addr", "add", address, "dev", "v0", "nodad"])
    return socket.if_nametoindex("v0")


def fetch(host: str, port: int) -> bytes:
    address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(address[0], socket.SOCK_STREAM) as sock:
        sock.settimeout(10)
        sock.connect(address[4])
        sock.sendall(GET)
        try:
            return sock.recv(100)
        except ConnectionResetError:
            return b""


def test_a_zone_is_carried_through(wan: Wan) -> None:
    number = link_local(wan)
    wan.client.sysctl("net.ipv4.tcp_fastopen", 3)
    with Server(wan.client, ("::", 8080), answers(request=len(GET))):
        clusters = {
            "name": {"endpoints": "[fe80::77:2%v0]:8080", "health": {"every": "1s"}},
            "number": {"endpoints": f"[fe80::77:2%{number}]:8080"},
            "source": {"endpoints": "[fe80::77:2%v0]:8080", "source": "fe80::77:1%v0"},
            "nowhere": {"endpoints": "[fe80::77:2%nowhere0]:8080"},
            "off": {"endpoints": "[fe80::77:2%v0]:8080", "fast_open": "off"},
        }
        listeners: dict[str, Line] = {
            name: {"bind": f"127.0.0.1:{7001 + n}", "mode": "forward", "to": name}
            for n, name in enumerate(clusters)
        }
        binds = ["[fe80::77:1%v0]:7000", f"[fe80::77:2%{number}]:7000"]
        listeners["zoned"] = {"bind": binds, "mode": "forward", "to": "name"}
        document = {"listeners": listeners, "clusters": clusters}
        with Program(wan.client, None, document=document) as program:
            for name in clusters:
                for _ in range(2):  # the second one fast-opens
                    reply = fetch(*program.address(name))
                    assert reply == (b"" if name == "nowhere" else b"pong"), name
            program.session(2 * len(clusters))
            lines = {line["cluster"]: line for line in program.events("session")}
            assert lines["source"]["local"].startswith("[fe80::77:1%v0]:")
            assert lines["nowhere"]["reason"] == "net_unreachable"
            assert "there is no network interface nowhere0" in lines["nowhere"]["detail"]
            assert fetch("fe80::77:1%v0", 7000) == fetch("fe80::77:2%v0", 7000) == b"pong"
            with upgraded(program):
                program.wait_for("ready", 2)
                program.wait_for("stopped")
                assert not program.events("background_fault")
                assert fetch("fe80::77:1%v0", 7000) == fetch("fe80::77:2%v0", 7000) == b"pong"
