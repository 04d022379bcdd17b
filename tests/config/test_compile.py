from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.config import Loaded
from proxy.core.address import Authority, Endpoint
from proxy.core.routes import Routes
from proxy.core.snapshot import (
    AUTO,
    Bind,
    Cluster,
    Connect,
    FastOpen,
    Keepalive,
    Listener,
    Log,
    Mode,
    Replay,
    ServerFirst,
    Snapshot,
    Timeouts,
)

FULL = """
listeners:
  web:
    bind: ["127.0.0.1:8080", "[::1]:8080", unix:/run/x.sock]
    mode: forward
    to: api
    fast_open: false
    backlog: 64
    timeouts: {first_bytes: 50ms, handshake: 1s, idle: none, half_closed: 2m, lifetime: 1h}
  "22":
    bind: "*:22"
    mode: forward
    to: SSH.example.com:22
clusters:
  api:
    endpoints: ["203.0.113.10:443", "api.example.com:443", "unix:/run/api"]
    fast_open: always
    replay: any
    server_first: no
    syn_data: 1KiB
    warm_up: false
    hedge: 250ms
    preconnect: 3
    connect: {timeout: 2s, retries: 0}
    keepalive: {idle: 1m, interval: 5s, count: 9}
defaults:
  keepalive: off
  hedge: off
log: {level: debug, format: json, sessions: false}
state: /var/lib/tfo-proxy/state.json
tfo_keys: [00112233445566778899aabbccddeeff, "ffffffff-ffffffff-ffffffff-ffffffff"]
drain: 90s
"""


def test_everything_said(loaded: Callable[[str], Loaded]) -> None:
    api = Cluster(
        name="api",
        endpoints=(Endpoint("203.0.113.10", 443), Authority("api.example.com", 443), Endpoint("/run/api", 0)),
        fast_open=FastOpen.ALWAYS,
        replay=Replay.ANY,
        server_first=ServerFirst.NO,
        syn_data=1024,
        warm_up=False,
        hedge=0.25,
        preconnect=3,
        connect=Connect(2.0, 0),
        keepalive=Keepalive(60.0, 5.0, 9),
    )
    ssh = Cluster("ssh.example.com:22", (Authority("ssh.example.com", 22),), hedge=None, keepalive=None)
    web = Listener(
        name="web",
        binds=(Bind("127.0.0.1", 8080), Bind("::1", 8080), Bind("/run/x.sock", 0)),
        mode=Mode.FORWARD,
        cluster=api,
        fast_open=False,
        backlog=64,
        timeouts=Timeouts(0.05, 1.0, None, 120.0, 3600.0),
    )
    assert loaded(FULL).snapshot == Snapshot(
        listeners=(web, Listener("22", (Bind("*", 22),), Mode.FORWARD, ssh)),
        clusters={"api": api, "ssh.example.com:22": ssh},
        routes=Routes((), Cluster("direct", (), hedge=None, keepalive=None)),
        log=Log("debug", "json", False),
        drain=90.0,
        state="/var/lib/tfo-proxy/state.json",
        tfo_keys=(bytes.fromhex("00112233445566778899aabbccddeeff"), b"\xff" * 16),
    )
    (warning,) = loaded(FULL).warnings
    assert "listeners.web.timeouts.handshake: in mode forward a client says nothing" in str(warning)


def test_defaults_are_for_clusters_that_do_not_say_and_for_bare_addresses(
    loaded: Callable[[str], Loaded],
) -> None:
    made = loaded(
        "listeners:\n  a: {bind: '1.2.3.4:1', mode: forward, to: c}\n"
        "  b: {bind: '1.2.3.4:2', mode: forward, to: 'h:1'}\n"
        "clusters: {c: {endpoints: 'h:2', connect: {retries: 7}, replay: any, keepalive: off}}\n"
        "defaults: {replay: none, fast_open: off, connect: {timeout: 1s, retries: 1}, keepalive: {count: 4}}\n"
    ).snapshot.clusters
    assert made == {
        "c": Cluster(
            "c", (Authority("h", 2),), FastOpen.OFF, Replay.ANY, connect=Connect(1.0, 7), keepalive=None
        ),
        "h:1": Cluster(
            "h:1",
            (Authority("h", 1),),
            FastOpen.OFF,
            Replay.NONE,
            connect=Connect(1.0, 1),
            keepalive=Keepalive(count=4),
        ),
    }


def test_one_bare_address_is_one_cluster(loaded: Callable[[str], Loaded]) -> None:
    made = loaded(
        "listeners:\n  a: {bind: '1.2.3.4:1', mode: forward, to: 'H:1'}\n"
        "  b: {bind: '1.2.3.4:2', mode: forward, to: 'h:1'}\n"
    ).snapshot
    assert list(made.clusters) == ["h:1"]
    assert made.listeners[0].cluster is made.listeners[1].cluster
    assert made.listeners[0].cluster.syn_data is AUTO


@pytest.mark.parametrize(
    ("to", "line"),
    [
        ("aip", "2:16: listeners.a.to: 'aip' is neither a cluster nor an address; did you mean 'api'?"),
        ("x.example.com", ("2:16: listeners.a.to: 'x.example.com' is neither a cluster nor an address; "
                          "the clusters are api, and an address has a port, like api.example.com:443")),
        ("'1.2.3.4:0'", "2:16: listeners.a.to: '1.2.3.4:0': port 0 cannot be dialled"),
        ("unix:x", "2:16: listeners.a.to: 'unix:x': a unix socket is unix:/absolute/path or unix:@name"),
        ("[api]", ("2:16: listeners.a.to: a list stands where one value belongs; "
                  "write the name of a cluster, or an address like api.example.com:443")),
        ("''",
         "2:16: listeners.a.to: it is empty; write the name of a cluster, or an address like api.example.com:443"),
    ],
)  # fmt: skip
def test_a_destination_that_is_none(problems: Callable[[str], list[str]], to: str, line: str) -> None:
    assert problems(
        f"listeners:\n  a: {{ \t   to: {to}, bind: '1.2.3.4:5', mode: forward}}\n"
        "clusters: {api: {endpoints: 'h:1'}}\n"
    ) == [line]


def test_a_cluster_with_mistakes_is_known_all_the_same(problems: Callable[[str], list[str]]) -> None:
    lines = problems("listeners: {a: {bind: '1.2.3.4:5', mode: forward, to: c}}\nclusters: {c: {hedge: x}}\n")
    assert [line.partition(";")[0] for line in lines] == [
        "2:15: clusters.c has no `endpoints`",
        "2:23: clusters.c.hedge: 'x' is not understood",
    ]


def test_mistakes_of_defaults_are_told_once_and_in_their_place(problems: Callable[[str], list[str]]) -> None:
    lines = problems(
        "listeners: {a: {bind: '1.2.3.4:5', mode: forward, to: c}}\n"
        "clusters: {c: {endpoints: 'h:1'}, d: {endpoints: 'h:2'}}\n"
        "defaults: {hedge: 5, conect: {}}\n"
    )
    assert lines == [
        "3:19: defaults.hedge: '5' has no unit; write 5s, 5ms or 5m",
        "3:22: unknown key 'conect' in defaults; did you mean 'connect'?",
    ]
