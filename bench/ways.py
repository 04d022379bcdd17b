"""Every way in and every way out: the listeners and clusters of the soak, and how clients ask for a destination."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping

import trio

from bench.service import Line
from bench.traffic import (
    Call,
    Talk,
    Wrong,
    bulk,
    greets,
    leaves,
    says_nothing,
    short,
    talks,
)
from proxy.lab.namespaces import Namespace
from proxy.lab.servers import Address

# Clients that know of no proxy come from here, and so does nobody else: rules tell them from the proxy's own dials.
SOURCES = {"transparent": "127.0.0.9", "tproxy": "127.0.0.8"}
_RULES = """
table inet soak {{
  chain output {{
    type nat hook output priority -100;
    ip saddr {transparent} tcp dport {port} redirect to :{to[transparent]}
  }}
}}
"""
_TPROXY_RULES = """
table inet soak {{
  chain prerouting {{
    type filter hook prerouting priority mangle;
    ip saddr {tproxy} tcp dport {port} tproxy ip to :{to[tproxy]} accept
  }}
}}
"""


def through_socks(to: Address, talk: Talk) -> Talk:
    """SOCKS 5, each step after the one before."""

    async def client(stream: trio.SocketStream, call: Call) -> None:
        await stream.send_all(b"\5\1\0")
        await _answer(stream, b"\5\0")
        await stream.send_all(b"\5\1\0\1" + socket.inet_aton(to[0]) + to[1].to_bytes(2, "big"))
        await _answer(stream, b"\5\0\0\1\0\0\0\0\0\0")
        await talk(stream, call)

    return client


def through_socks4(to: Address, talk: Talk, *, name: bool = False) -> Talk:
    """SOCKS 4, or 4a with a ``name`` that is the address in words."""
    where = b"\0\0\0\1me\0" + to[0].encode() + b"\0" if name else socket.inet_aton(to[0]) + b"me\0"

    async def client(stream: trio.SocketStream, call: Call) -> None:
        await stream.send_all(b"\4\1" + to[1].to_bytes(2, "big") + where)
        await _answer(stream, b"\0\x5a\0\0\0\0\0\0")
        await talk(stream, call)

    return client


def through_connect(to: Address, talk: Talk) -> Talk:
    """HTTP, by CONNECT."""

    async def client(stream: trio.SocketStream, call: Call) -> None:
        await stream.send_all(f"CONNECT {to[0]}:{to[1]} HTTP/1.1\r\nHost: {to[0]}:{to[1]}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = await stream.receive_some(1)
            if not byte:
                raise trio.BrokenResourceError
            head += byte
        if b" 200 " not in head:
            raise Wrong
        await talk(stream, call)

    return client


async def _answer(stream: trio.SocketStream, expected: bytes) -> None:
    got = b""
    while len(got) < len(expected) and (data := await stream.receive_some(len(expected) - len(got))):
        got += data
    if got != expected:
        raise trio.BrokenResourceError if expected.startswith(got) else Wrong


def redirected() -> list[str]:
    """The modes that netfilter's rules lead to, as far as this user may use them here."""
    if shutil.which("nft") is None:
        return []
    return ["transparent", "tproxy"] if os.geteuid() == 0 else ["transparent"]  # CAP_NET_ADMIN


def redirect(namespace: Namespace, server: Address, listening: dict[str, Address]) -> None:
    """Lead who comes from `SOURCES` and wants ``server`` to the proxy's listeners; raises OSError."""
    ports = {mode: listening[mode][1] for mode in SOURCES if mode in listening}
    for mode, rules in (("transparent", _RULES), ("tproxy", _TPROXY_RULES)):
        if mode in ports:
            done = namespace.run(["nft", rules.format(port=server[1], to=ports, **SOURCES)])
            if done.returncode:
                raise OSError(done.stderr)


def kinds(server: Address, modes: list[str]) -> dict[str, tuple[Talk, str, int]]:
    """What clients do, at which listener, and how often beside the others."""
    return {
        "short": (short, "forward", 30),
        "talks": (talks, "forward", 6),
        "bulk": (bulk, "forward", 2),
        "leaves": (leaves, "forward", 4),
        "says nothing": (says_nothing, "forward", 4),
        "socks": (through_socks(server, short), "socks", 6),
        "socks 4": (through_socks4(server, short), "socks", 2),
        "socks 4a": (through_socks4(server, talks, name=True), "socks", 2),
        "http": (through_connect(server, talks), "http", 4),
        "mixed, socks": (through_socks(server, bulk), "mixed", 1),
        "mixed, socks 4": (through_socks4(server, short), "mixed", 1),
        "mixed, http": (through_connect(server, short), "mixed", 3),
        "sni": (greets, "sni", 4),
        "far": (short, "path", 10),
        "far bulk": (bulk, "path", 1),
        "tunnel": (short, "tunnel", 6),
        "tunnel, bulk": (bulk, "tunnel", 1),
        "by-socks": (short, "by-socks", 3),
        "by-http": (talks, "by-http", 2),
        **_kinds_redirected(modes),
    }


def _kinds_redirected(modes: list[str]) -> dict[str, tuple[Talk, str, int]]:
    found: dict[str, tuple[Talk, str, int]] = {}
    for mode in modes:
        found |= {
            mode: (short, mode, 4),
            f"{mode}, talks": (talks, mode, 1),
            f"{mode}, bulk": (bulk, mode, 1),
            f"{mode}, leaves": (leaves, mode, 1),
        }
    return found


def document(
    port: int, far: Address, gate: Mapping[str, Address], key: str, workers: int, modes: list[str]
) -> Line:
    """The near side's configuration; ``gate`` is where the far side listens."""
    near = {"endpoints": [f"127.0.0.1:{port}"], "warm_up": False}
    gates = {name: f"{host}:{number}" for name, (host, number) in gate.items()}

    def listener(mode: str, to: str = "") -> Line:
        patient = {"handshake": "30s"}  # with clients on a busy machine
        return {"bind": "127.0.0.1:0", "mode": mode, "timeouts": patient} | ({"to": to} if to else {})

    return {
        "workers": workers,
        "drain": "30s",
        "listeners": {
            "forward": listener("forward", "near"),
            "path": listener("forward", "far"),
            "tunnel": listener("forward", "through"),
            "by-socks": listener("forward", "by-socks"),
            "by-http": listener("forward", "by-http"),
            "socks": listener("socks"),
            "http": listener("http"),
            "mixed": listener("mixed"),
            "sni": listener("sni", "near"),
            **{mode: listener(mode) for mode in modes},
        },
        "clusters": {
            "near": near,
            "far": {"endpoints": [f"{far[0]}:{far[1]}"]},
            "through": near | {"via": {"tunnel": gates["far"], "key": key}},
            "by-socks": near | {"via": {"socks": gates["socks"]}},
            "by-http": near | {"via": {"http": gates["http"]}},
        },
        "direct": {"deny": ["metadata"]},
    }


def far_side(key: str) -> Line:
    """The configuration of the proxy that the near one goes through."""
    return {
        "listeners": {
            "far": {"bind": "127.0.0.1:0", "mode": "tunnel", "key": key},
            "socks": {"bind": "127.0.0.1:0", "mode": "socks"},
            "http": {"bind": "127.0.0.1:0", "mode": "http"},
        },
        "direct": {"deny": ["metadata"]},
        "drain": "5s",
    }
