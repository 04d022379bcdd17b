"""The box itself: distances, namespaces, fresh addresses, both kinds of wire, and nothing left behind.

A machine that has other things to do only ever adds to a time, so the quickest of several tells how far it is.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest
import trio

from proxy.lab.behaviours import answers, echoes, sends
from proxy.lab.clients import ask
from proxy.lab.wan import Wan

pytestmark = pytest.mark.netns
ROOT = Path(__file__).parents[2]


def test_a_plain_connect_takes_one_round_trip_and_the_first_byte_two(wan: Wan) -> None:
    server = wan.serve(answers())
    tries = [ask(server.address, b"ping", fast_open=False) for _ in range(8)]
    assert wan.rtt <= min(one.connected or 9 for one in tries) <= 1.2 * wan.rtt
    assert 2 * wan.rtt <= min(one.first_byte or 9 for one in tries) <= 2.4 * wan.rtt
    server.wait(8)
    assert server.received == [b"ping"] * 8


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("kind", [pytest.param("tun", marks=pytest.mark.root), "veth"])
def test_the_second_fast_open_takes_one_round_trip(kind: str, version: int) -> None:
    with Wan(wire="tun" if kind == "tun" else "veth") as wan, wan.client.entered():
        servers = [wan.serve(answers(), version=version) for _ in range(7)]
        cold, warm = ([ask(server.address, b"ping") for server in servers] for _ in range(2))
        assert [(one.in_syn, other.in_syn) for one, other in zip(cold, warm, strict=True)] == [(None, 4)] * 7
        quickest = [min(one.first_byte or 0 for one in tries) for tries in (cold, warm)]
        assert [int(seconds / wan.rtt) for seconds in quickest] == [2, 1]


def test_delays_change_while_it_runs_and_may_differ_by_direction(wan: Wan) -> None:
    server = wan.serve(answers())
    wan.set_delays(0.03, 0.01)
    tries = [ask(server.address, b"ping", fast_open=False) for _ in range(8)]
    assert 0.04 <= min(one.connected or 9 for one in tries) < 0.055
    taken: dict[str, list[float]] = {"C>S": [], "S>C": []}
    for item in wan.capture().between(server.address):
        if item.left:
            taken[str(item.direction)].append(item.left - item.entered)
    assert 0.03 <= min(taken["C>S"]) < 0.04
    assert 0.01 <= min(taken["S>C"]) < 0.02


@pytest.mark.wan(rtt=0.01)
def test_addresses_are_fresh_and_nobody_is_behind_the_unrouted_ones(wan: Wan) -> None:
    addresses = [wan.fresh_address() for _ in range(600)]
    assert len(set(addresses)) == 600
    nobody = ask((wan.unrouted_address(), 80), b"", timeout=0.1)
    assert nobody.error_name == "ETIMEDOUT"
    for address in (addresses[0], addresses[-1], wan.fresh_address(6)):
        assert ask((address, 80), b"", fast_open=False).error_name == "ECONNREFUSED"
    source = wan.fresh_source()
    server = wan.serve(answers(), host=addresses[500])
    assert ask(server.address, b"x", source=source).source[0] == source
    assert server.wait(1)[0].peer[0] == source


@pytest.mark.wan(rtt=0.01)
def test_programs_threads_and_settings_live_where_they_are_put(wan: Wan) -> None:
    server = wan.serve(answers(b"HTTP/1.0 200 OK\r\n\r\nhello", closes=True))
    url = f"http://{server.address[0]}/"
    assert wan.client.run(["curl", "-s", "--max-time", "5", url]).stdout == "hello"
    assert wan.client.sysctl("net.ipv4.tcp_fastopen") == "1"
    assert wan.server.sysctl("net.ipv4.tcp_fastopen") == "3"
    wan.server.sysctl("net.ipv4.tcp_fastopen", 0)
    assert wan.server.call(Path("/proc/sys/net/ipv4/tcp_fastopen").read_text) == "0\n"
    outside = Path("/proc/thread-self/ns/net").readlink()
    with wan.server.entered():
        assert Path("/proc/thread-self/ns/net").readlink() != outside
    assert Path("/proc/thread-self/ns/net").readlink() == outside


@pytest.mark.wan(rtt=0.02)
async def test_trio_runs_in_the_clients_namespace(wan: Wan) -> None:
    server = wan.serve(echoes())
    started = trio.current_time()
    stream = await trio.open_tcp_stream(*server.address)
    assert trio.current_time() - started >= 0.02
    await stream.send_all(b"hello")
    assert await stream.receive_some() == b"hello"
    await stream.aclose()

    with wan.server.entered():
        listener = socket.create_server((wan.fresh_address(), 7))
    with trio.socket.from_stdlib_socket(listener) as far:
        async with await trio.open_tcp_stream(*listener.getsockname()):
            accepted, peer = await far.accept()
            accepted.close()
    assert peer[0] == "10.77.1.1"


@pytest.mark.wan(rtt=0.0)
def test_bulk_passes_and_the_capture_keeps_within_its_budget(wan: Wan) -> None:
    size = 96 << 20
    server = wan.serve(sends(size))
    with socket.create_connection(server.address) as client:
        got = 0
        while data := client.recv(1 << 20):
            got += len(data)
    assert got == size
    capture = wan.capture().between(server.address)
    assert sum(len(item.packet.raw) for item in capture) < 80 << 20
    assert sum(item.packet.payload_length for item in capture) >= size


def test_nothing_is_left_behind() -> None:
    def mine() -> tuple[set[str], set[str]]:
        fds = {str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if os.path.lexists(entry)}
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return {fd for fd in fds if not fd.startswith("/proc")}, set(children)

    before = mine()
    wan = Wan(rtt=0.0)
    server = wan.serve(echoes())
    with wan.client.entered(), socket.create_connection(server.address) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        assert mine() != before
        wan.close()
    assert mine() == before


def test_it_is_made_within_a_second() -> None:
    took: list[float] = []
    for _ in range(4):
        started = time.monotonic()
        with Wan(rtt=0.0):
            took.append(time.monotonic() - started)
    assert min(took) < 1.0


def test_it_works_without_root() -> None:
    script = textwrap.dedent("""
        import os
        from proxy.lab.behaviours import answers
        from proxy.lab.clients import ask
        from proxy.lab.wan import Wan
        assert os.geteuid() == {uid}
        with Wan() as wan:
            servers = [wan.serve(answers(), fast_open=16) for _ in range(4)]
            with wan.client.entered():
                cold, warm = ([ask(server.address, b"ping") for server in servers] for _ in range(2))
            wan.server.sysctl("net.ipv4.tcp_fastopen_key", "1-2-3-4")
            inside = wan.client.run(["cat", "/proc/net/dev"]).stdout
            assert "wan0" in inside, inside
            assert len(wan.capture().syns(dst=servers[0].address)) == 2
            quickest = [round(min(one.first_byte for one in tries), 1) for tries in (cold, warm)]
            print(wan.wire, {{one.in_syn for one in cold}}, {{one.in_syn for one in warm}}, *quickest)
    """)
    real_root = os.geteuid() == 0 and Path("/proc/self/uid_map").read_text().split()[2] == str(2**32 - 1)
    uid = 65534 if real_root else os.geteuid()
    program = [_interpreter_for_all(), "-c", script.format(uid=uid)]
    with tempfile.TemporaryDirectory() as folder:  # a checkout need not be readable for others
        Path(folder).chmod(0o755)
        shutil.copytree(ROOT / "proxy", Path(folder, "proxy"))
        if real_root:
            program = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *program]
        environment = {"PYTHONPATH": folder, "PATH": os.environ["PATH"]}
        done = subprocess.run(
            program, env=environment, capture_output=True, text=True, timeout=90, cwd="/", check=False
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("{None} {4} 0.2 0.1\n")
    assert done.stdout.startswith("veth") or not real_root


def _interpreter_for_all() -> str:
    """A Python that another user may run too: ours may live under /root."""
    if os.geteuid() != 0:
        return sys.executable
    path = Path(sys.executable).resolve()
    if all(parent.stat().st_mode & 0o001 for parent in (path, *path.parents)):
        return str(path)
    return "/usr/bin/python3"
