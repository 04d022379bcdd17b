"""The first session with an endpoint whose cookie the kernel already has is no slower than one without Fast Open.

The cookie is kept for each address, so this is met after a restart, by the first session to each further port of a
host, and by every other worker. Each case here is such a first contact: all servers have the same address.
"""

from __future__ import annotations

import itertools
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from proxy.lab.behaviours import answers, speaks_first
from proxy.lab.clients import ask
from proxy.lab.servers import Address
from proxy.lab.wan import Wan
from tests.wire.program import GET, Line, Program
from tests.wire.ways import WAYS, enter

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.04)]

REPLIES = ("auto", "dialed", "optimistic")
KEY = "5d1f0c6b3a2e4f8897a6b5c4d3e2f101"
MODES = {"forward": "forward", "socks4": "socks", "socks4a": "socks", "socks5": "socks", "connect": "http"}
MOST_LATER = 0.05
UNSAFE = b"\x80unknown"
_ports = itertools.count(1000)


def cluster(to: Address, **more: object) -> Line:
    return {"endpoints": ["{}:{}".format(*to)], "warm_up": False, **more}


class Both:
    """One program with Fast Open and one without it: for each name a listener in a mode, and its cluster."""

    def __init__(self, wan: Wan, listeners: dict[str, tuple[Line, Line]]) -> None:
        forward = {name: {"to": name} for name, (one, _) in listeners.items() if one["mode"] == "forward"}
        self._programs = [
            Program(
                wan.client,
                document={
                    "listeners": {
                        name: {"bind": "127.0.0.1:0"} | one | forward.get(name, {})
                        for name, (one, _) in listeners.items()
                    },
                    "clusters": {name: one | {"fast_open": how} for name, (_, one) in listeners.items()},
                    "routes": [
                        {"match": {"listener": name}, "to": name} for name in listeners if name not in forward
                    ],
                    "log": {"format": "json"},
                },
            )
            for how in ("auto", "off")
        ]

    def __enter__(self) -> list[Program]:
        return self._programs

    def __exit__(self, *_: object) -> None:
        for program in self._programs:
            program.__exit__()


def first_byte(program: Program, name: str, way: str, to: Address, said: bytes) -> float:
    """Seconds from the client's connect until the server's first byte."""
    started = time.monotonic()
    with enter(way, program.address(name), to) as client:
        if said:
            client.sendall(said)
        assert client.recv(100) == b"pong"
        return time.monotonic() - started


def test_first_contacts(wan: Wan) -> None:
    host = wan.fresh_address()
    clients_first = {"unsafe": UNSAFE, "get": GET}
    cases: dict[str, tuple[str, Address, bytes]] = {}
    listeners: dict[str, tuple[Line, Line]] = {}

    def case(way: str, kind: str, listener: Line, **more: object) -> None:
        said = clients_first.get(kind, b"")
        behaviour = answers(request=len(said)) if said else speaks_first(b"pong")
        server = wan.serve(behaviour, host=host, port=next(_ports))
        name = f"{way}-{kind}-{len(cases)}"
        settings = {"mode": MODES[way]} | listener
        if settings["mode"] == "forward":
            settings.pop("reply", None)
        listeners[name] = settings, cluster(server.address, **more)
        cases[name] = way, server.address, said

    for kind in ("unsafe", "get", "banner"):
        case("forward", kind, {})
        for way in WAYS[1:]:
            for reply in REPLIES:
                case(way, kind, {"mode": "mixed" if reply == "auto" else MODES[way], "reply": reply})
    far = wan.fresh_address()
    document = {
        "listeners": {
            "tunnel": {"bind": f"{far}:7413", "mode": "tunnel", "key": KEY},
            "gateway": {"bind": f"{far}:1080", "mode": "mixed", "allow": ["10.0.0.0/8"]},
        },
        "direct": {"deny": []},
        "log": {"format": "json"},
    }
    for kind in ("unsafe", "get", "banner"):
        for way in ("forward", "socks5", "connect"):
            case(way, kind, {}, via={"tunnel": f"{far}:7413", "key": KEY})
            case(way, kind, {}, via={"http": f"{far}:1080"})
            case(way, kind, {}, via={"socks": f"{far}:1080"})
            case(way, kind, {}, server_first="no")

    assert ask((host, next(iter(cases.values()))[1][1]), b"", expect=0).error == 0
    with Program(wan.server, document=document), Both(wan, listeners) as (fast, plain):
        late: dict[str, tuple[float, float]] = {}

        def measure(name: str) -> None:
            way, to, said = cases[name]
            times = [first_byte(program, name, way, to, said) for program in (plain, fast)]
            if times[1] > times[0] + MOST_LATER:
                late[name] = times[1], times[0]

        with ThreadPoolExecutor(8) as clients:
            list(clients.map(measure, cases))
        assert not late, f"seconds to the first byte, and without Fast Open: {late}"


def test_a_proxy_header_alone_is_not_doubted_while_its_client_is_owed_a_reply(wan: Wan) -> None:
    """The server waits for the client's bytes behind the header, and the client for its reply."""
    host = wan.fresh_address()
    listeners: dict[str, tuple[Line, Line]] = {}
    servers: dict[str, Address] = {}
    for way, version in itertools.product(("socks5", "connect", "forward"), ("v1", "v2")):
        name = f"{way}-{version}"
        server = wan.serve(
            answers(request=len(GET) + (20 if version == "v1" else 28)), host=host, port=next(_ports)
        )
        servers[name] = server.address
        listeners[name] = {"mode": MODES[way]}, cluster(server.address, proxy_protocol=version)
    assert ask(next(iter(servers.values())), b"", expect=0).error == 0
    with Both(wan, listeners) as (fast, plain):
        for name, to in servers.items():
            way = name.partition("-")[0]
            for _ in range(2):
                times = [first_byte(program, name, way, to, GET) for program in (plain, fast)]
                assert times[1] <= times[0] + MOST_LATER, (name, times)


@pytest.mark.parametrize("pause", [0.0, 0.01])
def test_what_was_said_before_the_clients_bytes_does_not_hold_them_back(wan: Wan, pause: float) -> None:
    """With Nagle's algorithm they would wait until a PROXY header, or a request to a gateway, has been acknowledged."""
    far = wan.fresh_address()
    gateways = {
        "listeners": {
            "tunnel": {"bind": f"{far}:7413", "mode": "tunnel", "key": KEY, "fast_open": False},
            "gateway": {"bind": f"{far}:1080", "mode": "mixed", "fast_open": False, "allow": ["10.0.0.0/8"]},
        },
        "direct": {"deny": []},
    }
    listeners: dict[str, tuple[Line, Line]] = {}
    ways: dict[str, Line] = {
        "nothing": {},
        "v1": {"proxy_protocol": "v1"},
        "v2": {"proxy_protocol": "v2"},
        "tunnel": {"via": {"tunnel": f"{far}:7413", "key": KEY}},
        "http": {"via": {"http": f"{far}:1080"}},
        "socks": {"via": {"socks": f"{far}:1080"}},
    }
    for name, settings in ways.items():
        server = wan.serve(answers(request=len(GET)), fast_open=None)
        listeners[name] = {"mode": "forward"}, cluster(server.address, **settings)
    trips: dict[str, float] = {}
    with Program(wan.server, document=gateways), Both(wan, listeners) as (fast, _):
        for name in ways:
            times = []
            for _ in range(3):
                started = time.monotonic()
                with enter("forward", fast.address(name), ("", 0)) as client:
                    time.sleep(pause)
                    client.sendall(GET)
                    assert client.recv(100) == b"pong"
                    times.append(time.monotonic() - started - pause)
            trips[name] = statistics.median(times) / wan.rtt
    limit = trips["nothing"] + 0.6
    # A gateway of one's own kind is told by a round trip of its own, where it has no Fast Open.
    assert all(trip <= limit + (name in {"socks", "http", "tunnel"}) for name, trip in trips.items()), trips
