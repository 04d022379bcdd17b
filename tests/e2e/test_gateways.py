"""Chains through the proxies people have: dante, microsocks, squid, tinyproxy, pproxy; on the far side of a line.

They were not written for a handshake that comes in one piece with the client's bytes behind it. Whatever one makes of
that, every session gets through, and the ones after the first cost no more than what this gateway allows.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from proxy.lab.behaviours import answers
from proxy.lab.clients import ask
from proxy.lab.wan import Wan
from tests.core import hellos
from tests.e2e.programs import needs
from tests.wire.program import GET, Program, forward

pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.wan(rtt=0.05)]

SERVER_TAKES_ALL = (
    0x403  # every listener takes SYN data, whether it asked for it or not (ip-sysctl.rst, tcp_fastopen)
)
PORT = 1080


class Gateway(NamedTuple):
    """``at_once``: it reads on behind the handshake, so a session costs one round trip; else ``steps``."""

    name: str
    kind: str
    command: Callable[[str, str, Path], list[str]]
    at_once: bool
    steps: int


def _dante(host: str, device: str, folder: Path) -> list[str]:
    config = folder / "danted.conf"
    config.write_text(
        f"logoutput: stderr\ninternal: {host} port = {PORT}\nexternal: {device}\nclientmethod: none\n"
        "socksmethod: none\nclient pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\n"
        "socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\n"
    )
    return [needs("danted"), "-f", str(config), "-p", str(folder / "danted.pid")]


def _microsocks(host: str, _: str, __: Path) -> list[str]:
    return [needs("microsocks"), "-i", host, "-p", str(PORT)]


def _squid(host: str, _: str, folder: Path) -> list[str]:
    config = folder / "squid.conf"
    folder.chmod(0o777)
    config.write_text(
        f"http_port {host}:{PORT}\nhttp_access allow all\naccess_log none\ncache_log {folder}/cache.log\n"
        f"cache deny all\npid_filename {folder}/squid.pid\ncoredump_dir {folder}\npinger_enable off\n"
        "shutdown_lifetime 0 seconds\nvisible_hostname gateway.test\nnetdb_filename none\n"
    )
    return [needs("squid"), "-N", "-n", f"test{os.getpid()}", "-f", str(config)]


def _tinyproxy(host: str, _: str, folder: Path) -> list[str]:
    config = folder / "tinyproxy.conf"
    config.write_text(f'Port {PORT}\nListen {host}\nTimeout 60\nMaxClients 20\nPidFile "{folder}/pid"\n')
    return [needs("tinyproxy"), "-d", "-c", str(config)]


def _pproxy(host: str, _: str, __: Path) -> list[str]:
    if importlib.util.find_spec("pproxy") is None:
        pytest.skip("pproxy is not installed")
    return [sys.executable, "-m", "pproxy", "-l", f"http+socks5://{host}:{PORT}"]


# Behind a CONNECT only a TLS hello is sent before the answer.
HELLO = {"socks": GET, "http": hellos.record(hellos.message(hellos.server_name(b"a.test")))}
GATEWAYS = [
    Gateway("dante", "socks", _dante, at_once=True, steps=3),
    Gateway("microsocks", "socks", _microsocks, at_once=False, steps=3),
    Gateway("pproxy-socks", "socks", _pproxy, at_once=True, steps=3),
    Gateway("squid", "http", _squid, at_once=True, steps=2),
    Gateway("tinyproxy", "http", _tinyproxy, at_once=False, steps=2),
    Gateway("pproxy-http", "http", _pproxy, at_once=True, steps=2),
]


@contextmanager
def running(wan: Wan, gateway: Gateway, host: str, folder: Path) -> Iterator[None]:
    """The gateway in the server's namespace, once it listens."""
    command = gateway.command(host, "wan0", folder)
    log = (folder / "said").open("w+b")
    with wan.server.entered():  # in a session of its own, so that its children can be found in the end
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 20
        while True:
            with suppress(OSError), wan.server.socket() as knock:
                knock.settimeout(1)
                knock.connect((host, PORT))
                break
            if server.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                pytest.fail(f"{command} does not listen:\n{log.read().decode()}", pytrace=False)
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(10)
        log.close()


@pytest.mark.parametrize("gateway", GATEWAYS, ids=lambda gateway: gateway.name)
def test_a_chain_through_a_real_gateway(wan: Wan, gateway: Gateway, tmp_path: Path) -> None:
    wan.server.sysctl("net.ipv4.tcp_fastopen", SERVER_TAKES_ALL)
    first = HELLO[gateway.kind]
    server = wan.serve(answers(b"pong", request=len(first)))
    host, port = server.address
    through, post = wan.fresh_address(), b"P" * len(first)
    settings = forward(f"{host}:{port}", via={gateway.kind: f"{through}:{PORT}"})
    with running(wan, gateway, through, tmp_path), Program(wan.client, {"a": settings}) as program:
        for _ in range(8):
            assert ask(program.address(), first, fast_open=False, timeout=10).reply == b"pong"
        lines = [program.session(number) for number in range(4, 9)]
        assert program.session(1)["first_byte"] < 4.0, "in vain is found out before a dial's time is over"
        assert {line["evidence"] for line in lines} == {"syn_data_acked"}
        steps = 1 if gateway.at_once else gateway.steps
        assert min(line["first_byte"] for line in lines) < (steps + 0.6) * wan.rtt, lines
        assert all(line["syn_bytes"] > len(first) or not gateway.at_once for line in lines)
        for _ in range(2):
            assert ask(program.address(), post, fast_open=False, timeout=10).reply == b"pong"
    assert sorted(server.received) == sorted([first] * 8 + [post] * 2), "each byte came once"
