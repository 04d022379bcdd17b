from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.config import ConfigError, Loaded, load

AGAIN = "and be sent on again, for ever; name the server behind it"


def one(bind: str, to: str, mode: str = "forward") -> str:
    return f"listeners:\n  a: {{bind: {bind}, mode: {mode}, to: '{to}', allow: [loopback]}}\n"


@pytest.mark.parametrize(
    ("bind", "to"),
    [
        ("'127.0.0.1:80'", "127.0.0.1:80"),
        ("'127.0.0.1:80'", "localhost:80"),
        ("'[::1]:80'", "LOCALHOST:80"),
        ("'*:80'", "localhost:80"),
        ("'*:80'", "127.9.9.9:80"),
        ("'*:80'", "[::1]:80"),
        ("'0.0.0.0:80'", "127.0.0.1:80"),
        ("'[::]:80'", "[::1]:80"),
        ("'127.0.0.1:80'", "0.0.0.0:80"),
        ("'[::1]:80'", "[::]:80"),
        ("['192.0.2.1:80', '192.0.2.2:80']", "192.0.2.2:80"),
        ("unix:/run/x", "unix:/run/x"),
        ("unix:/run//./x", "unix:/run/x"),
        ("unix:@x", "unix:@x"),
    ],
)
@pytest.mark.parametrize("mode", ["forward", "sni"])
def test_a_listener_that_sends_to_itself(
    problems: Callable[[str], list[str]], bind: str, to: str, mode: str
) -> None:
    column = one(bind, to, mode).splitlines()[1].index("to:") + 5
    assert problems(one(bind, to, mode)) == [
        f"2:{column}: listeners.a.to: its sessions would come back to it, {AGAIN}"
    ]


@pytest.mark.parametrize(
    ("bind", "to"),
    [
        ("'127.0.0.1:80'", "127.0.0.1:81"),
        ("'127.0.0.1:80'", "127.0.0.2:80"),
        ("'127.0.0.1:80'", "api.example.com:80"),
        ("'0.0.0.0:80'", "[::1]:80"),
        ("'[::]:80'", "127.0.0.1:80"),
        ("'*:80'", "192.0.2.1:80"),  # may be another machine's
        ("'127.0.0.1:0'", "127.0.0.1:80"),
        ("unix:/run/x", "unix:/run/y"),
        ("unix:/run/x", "unix:@/run/x"),
        ("unix:/run/x", "127.0.0.1:80"),
        ("'127.0.0.1:80'", "unix:/run/x"),
    ],
)
def test_other_places(loaded: Callable[[str], Loaded], bind: str, to: str) -> None:
    assert len(loaded(one(bind, to)).snapshot.listeners) == 1


def test_round_by_way_of_others_is_told_once(problems: Callable[[str], list[str]]) -> None:
    listeners = """
listeners:
  a: {bind: '127.0.0.1:1', mode: forward, to: '127.0.0.1:2'}
  b: {bind: '127.0.0.1:2', mode: sni, to: '127.0.0.1:3'}
  c: {bind: '127.0.0.1:3', mode: forward, to: '127.0.0.1:1'}
  leads-in: {bind: '127.0.0.1:4', mode: forward, to: '127.0.0.1:1'}
"""
    assert problems(listeners) == [
        f"3:47: listeners.a.to: its sessions would come back to it by way of 'b' and 'c', {AGAIN}"
    ]


def test_one_endpoint_of_a_cluster_is_enough(problems: Callable[[str], list[str]]) -> None:
    assert problems(
        "listeners: {a: {bind: '*:80', mode: forward, to: c}}\n"
        "clusters: {c: {endpoints: ['192.0.2.1:80', {address: '127.0.0.1:80', weight: 2}]}}\n"
    ) == [f"1:50: listeners.a.to: its sessions would come back to it, {AGAIN}"]


def test_chains_that_end_are_left_alone(loaded: Callable[[str], Loaded]) -> None:
    """The near end of a tunnel behind a listener that tells names apart; a proxy behind a fixed way; a gateway."""
    loaded("""
listeners:
  names: {bind: '127.0.0.1:1', mode: sni, to: '127.0.0.1:2'}
  near: {bind: '127.0.0.1:2', mode: forward, to: '127.0.0.1:3'}
  socks: {bind: '127.0.0.1:3', mode: socks}
  gateway: {bind: '127.0.0.1:4', mode: forward, to: beyond}
clusters:
  beyond: {endpoints: ['127.0.0.1:4'], via: {socks: '192.0.2.1:1080'}}
""")


def test_flags_too() -> None:
    with pytest.raises(ConfigError, match="its sessions would come back to it"):
        load(forwards=["127.0.0.1:8080=localhost:8080"])
