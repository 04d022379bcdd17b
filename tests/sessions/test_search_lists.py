"""Names and the resolver's search list, with both resolvers, a real name server, and a resolv.conf(5) of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, os, subprocess, sys
import trio
from proxy.core.address import Authority, Endpoint, parse_target
from proxy.core.clusters import Cluster
from proxy.core.destinations import Destinations
from proxy.core.request import target_of
from proxy.core.routes import Route, RouteQuery, Routes, Rule
from proxy.core.rules import Names as NameCondition
from proxy.core.snapshot import Dns
from proxy.net.resolve import NoSuchHost, Resolver
from proxy.sessions.pools import Pools
from proxy.sessions.routing import Refused, Routing
from tests.net.name_server import NameServer

folder, servers = sys.argv[1], (Endpoint("127.0.0.1", 53),) if sys.argv[2] == "dnspython" else ()
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
for name in ("resolv.conf", "hosts", "nsswitch.conf"):
    subprocess.run(["mount", "--bind", f"{folder}/{name}", os.path.realpath(f"/etc/{name}")], check=True)
direct = Cluster("direct", ())
never = Rule(Route(None, "never", 1, "f:1:1"), host=NameCondition(frozenset({"db.corp.example"})))

async def main():
    server = NameServer()
    server.records = {
        ("db.corp.example", "A"): ["192.0.2.66"],
        ("api.example.com.corp.example", "A"): ["192.0.2.67"],
        ("single", "A"): ["192.0.2.68"],
    }
    said = {}
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 53))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, sock)
            resolver = Resolver(Dns(servers=servers))
            routing = Routing(Routes((never,), direct), Destinations(()), Pools(resolver))
            hosts = ("db", "DB.", "db.corp.example", "db.corp.example.", "api.example.com", "single", "host1", "host1.")
            for host in hosts:
                try:
                    way = await routing.way(RouteQuery(target_of(host, 80), "192.0.2.9", "web"))
                    said[f"client: {host}"] = [one.host for one in way.candidates]
                except NoSuchHost:
                    said[f"client: {host}"] = "no such host"
                except Refused as refused:
                    said[f"client: {host}"] = str(refused)
            for host in ("db", "db.", "api.example.com", "api.example.com.", "single", "single.", "host1", "host1."):
                try:
                    said[f"file: {host}"] = [one.host for one in await resolver.lookup(parse_target(f"{host}:80"))]
                except NoSuchHost:
                    said[f"file: {host}"] = "no such host"
            nursery.cancel_scope.cancel()
    print(json.dumps(said))

trio.run(main)
"""


@pytest.mark.parametrize("resolver", ["dnspython", "the C library"])
def test_only_names_of_the_configuration_are_completed(resolver: str, tmp_path: Path) -> None:
    """A client's name is looked up as the rules have judged it; a last dot does the same for a name of the file."""
    (tmp_path / "resolv.conf").write_text(
        "nameserver 127.0.0.1\nsearch corp.example\noptions ndots:5 timeout:1\n"
    )
    (tmp_path / "hosts").write_text("192.0.2.69 host1\n")
    (tmp_path / "nsswitch.conf").write_text("hosts: files dns\n")
    done = subprocess.run(
        ["unshare", "--net", "--mount", sys.executable, "-c", SCRIPT, str(tmp_path), resolver],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": "."},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "client: db": "no such host",
        "client: DB.": "no such host",
        "client: db.corp.example": "never (rule 1, f:1:1)",
        "client: db.corp.example.": "never (rule 1, f:1:1)",
        "client: api.example.com": "no such host",
        "client: single": ["192.0.2.68"],
        "client: host1": ["192.0.2.69"],
        "client: host1.": ["192.0.2.69"],
        "file: db": ["192.0.2.66"],
        "file: db.": "no such host",
        # The search list belongs to the system's resolver; other servers are asked for names with a dot as they stand.
        "file: api.example.com": ["192.0.2.67"] if resolver == "the C library" else "no such host",
        "file: api.example.com.": "no such host",
        "file: single": ["192.0.2.68"],
        "file: single.": ["192.0.2.68"],
        "file: host1": ["192.0.2.69"],
        "file: host1.": ["192.0.2.69"],
    }
