"""The system's resolver as a user has it, with real name servers: a resolv.conf(5) of its own in a mount namespace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

PRELUDE = """
import json, os, subprocess, sys, time
import dns.message
import trio
from proxy.core.address import Authority
from proxy.core.snapshot import Dns
from proxy.net.resolve import Early, NoSuchHost, Resolver
from tests.net.name_server import NameServer

folder = sys.argv[1]
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["mount", "--bind", folder, "/etc"], check=True)
server = NameServer()
server.records = {
    ("both.test", "A"): ["192.0.2.1"], ("both.test", "AAAA"): ["2001:db8::1"],
    ("late.test", "A"): ["192.0.2.1"], ("late.test", "AAAA"): ["2001:db8::1"],
    ("_x._tcp.test", "SRV"): ["1 1 80 both.test."],
}

def resolv_conf(text):
    with open("/etc/resolv.conf.part", "w") as file:
        file.write(text)
    os.replace("/etc/resolv.conf.part", "/etc/resolv.conf")

async def serve(address):
    sock = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    await sock.bind((address, 53))
    nursery.start_soon(server.serve, sock)

async def find(resolver, name):
    try:
        return sorted(one.host for one in await resolver.lookup(Authority(name, 80)))
    except NoSuchHost as problem:
        return str(problem)

async def whole(resolver, name):
    return sorted(one.host for one in (await resolver.find(Authority(name, 80), whole=True)).endpoints)

async def scenario(main):
    global nursery
    async with trio.open_nursery() as nursery:
        await main()
        nursery.cancel_scope.cancel()
"""


def run(tmp_path: Path, script: str, resolv_conf: str | None) -> list[object]:
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n")
    (tmp_path / "nsswitch.conf").write_text("hosts: files dns\n")
    if resolv_conf is not None:
        (tmp_path / "resolv.conf").write_text(resolv_conf)
    done = subprocess.run(
        ["unshare", "--net", "--mount", sys.executable, "-c", PRELUDE + script, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=os.environ | {"PYTHONPATH": "."},
    )
    assert done.returncode == 0, done.stderr
    found: list[object] = json.loads(done.stdout)
    return found


def test_the_second_server_is_asked_where_the_first_is_dead(tmp_path: Path) -> None:
    """And an answer for which nobody waits any more is kept."""
    script = """
async def main():
    silent = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    await silent.bind(("127.0.0.3", 53))
    await serve("127.0.0.2")
    resolver, said = Resolver(), []
    began = time.monotonic()
    said.append(await whole(resolver, "both.test."))
    said.append(time.monotonic() - began > 0.9)
    with trio.move_on_after(0.3):
        await find(resolver, "late.test.")
    await trio.sleep(2)
    asked = server.asked.total()
    began = time.monotonic()
    said.append(await find(resolver, "late.test."))
    said += [time.monotonic() - began < 0.3, server.asked.total() == asked]
    said.append((await resolver.service("_x._tcp.test")).servers)
    print(json.dumps(said))

trio.run(scenario, main)
"""
    both = ["192.0.2.1", "2001:db8::1"]
    resolv_conf = "nameserver 127.0.0.3\nnameserver 127.0.0.2\noptions timeout:1\n"
    said = run(tmp_path, script, resolv_conf)
    assert said[:5] == [both, True, both, True, True]
    assert said[5] == [[["both.test.", 80], 1]]


def test_changes_of_resolv_conf_are_seen(tmp_path: Path) -> None:
    """By addresses and by SRV records; where there is no server at first, that is a lookup error like any other."""
    script = """
async def main():
    resolver, said = Resolver(Dns(negative_ttl=0.0)), []
    async def service():
        try:
            return [str(one) for one, _ in (await resolver.service("_x._tcp.test")).servers]
        except NoSuchHost as problem:
            return str(problem)
    os.path.exists("/etc/resolv.conf") and os.unlink("/etc/resolv.conf")
    said.append(await find(resolver, "both.test."))
    said.append(await service())
    await serve("127.0.0.2")
    resolv_conf("nameserver 127.0.0.2\\noptions timeout:1\\n")
    said.append(await whole(resolver, "both.test."))
    said.append(await service())
    print(json.dumps(said))

trio.run(scenario, main)
"""
    said = run(tmp_path, script, None)
    assert isinstance(said[0], str)
    assert said[0].startswith("both.test.: ")
    assert said[1] == "/etc/resolv.conf names no server, or cannot be read"
    assert said[2:] == [["192.0.2.1", "2001:db8::1"], ["both.test.:80"]]


@pytest.mark.parametrize("servers", ["", "servers=(Endpoint('127.0.0.2', 53),)"], ids=["system", "servers"])
@pytest.mark.parametrize("late", ["A", "AAAA"])
def test_one_family_comes_later(tmp_path: Path, late: str, servers: str) -> None:
    """The other one is given at once, and never remembered as the answer (RFC 8305 section 3)."""
    script = f"""
from proxy.core.address import Endpoint
async def main():
    await serve("127.0.0.2")
    resolver, said = Resolver(Dns({servers})), []
    await find(resolver, "warm.test.")
    server.delays["{late}"] = 1.0
    began = time.monotonic()
    found = await resolver.lookup(Authority("late.test.", 80))
    said += [type(found).__name__, [one.host for one in found], time.monotonic() - began < 0.6]
    said.append(await find(resolver, "late.test."))
    whole = await found.whole()
    said.append(sorted(one.host for one in whole))
    said.append(await find(resolver, "late.test."))
    print(json.dumps(said))

trio.run(scenario, main)
"""
    first = ["2001:db8::1"] if late == "A" else ["192.0.2.1"]
    both = ["192.0.2.1", "2001:db8::1"]
    said = run(tmp_path, script, "nameserver 127.0.0.2\noptions timeout:5\n")
    assert said == ["Early", first, True, first, both, both]


def test_one_client_and_one_zone_leave_places_for_others(tmp_path: Path) -> None:
    """Names that are never answered: other clients' names of other zones are still looked up."""
    script = """
async def main():
    server.records |= {(f"{n}.good{n}.test", "A"): ["192.0.2.1"] for n in range(20)}
    resolver, said = Resolver(), []

    async def dead(name, client):
        try:
            await resolver.lookup(Authority(name, 80), client)
        except NoSuchHost as problem:
            refused.append("too many" in str(problem))

    sock = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    await sock.bind(("127.0.0.4", 53))
    async def silent_for_dead():
        while True:
            wire, peer = await sock.recvfrom(4096)
            query = dns.message.from_wire(wire)
            if not query.question[0].name.to_text().endswith("dead."):
                await sock.sendto(server.answer(query).to_wire(), peer)

    nursery.start_soon(silent_for_dead)
    for names in ([(f"{n}.zone{n}.dead.", "10.0.0.1") for n in range(200)],
                  [(f"{n}.one.dead.", f"10.1.0.{n}") for n in range(200)]):
        refused = []
        async with trio.open_nursery() as askers:
            for name, client in names:
                askers.start_soon(dead, name, client)
            await trio.sleep(0.1)
            good, began = [], time.monotonic()
            for n in range(6):
                good.append(await find(resolver, f"{n}.good{n}.test."))
            said += [good == [["192.0.2.1"]] * 6, time.monotonic() - began < 2, sum(refused) > 100]
            askers.cancel_scope.cancel()
        await trio.sleep(2.2)
    print(json.dumps(said))

trio.run(scenario, main)
"""
    assert run(tmp_path, script, "nameserver 127.0.0.4\noptions timeout:2 attempts:1\n") == [True] * 6
