from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.config import Loaded
from proxy.config.render import render
from proxy.core.address import Authority
from proxy.core.clusters import Tls, Via
from proxy.core.snapshot import FarSide, Mode

KEY = "000102030405060708090a0b0c0d0e0f"
NEAR = (
    "listeners: {{a: {{bind: '127.0.0.1:1', mode: forward, to: c}}}}\n"
    "clusters: {{c: {{endpoints: 'h:1', via: {}}}}}\n"
)
FAR = "listeners: {{a: {{bind: '*:7413', mode: tunnel, {}}}}}\n"


def test_a_near_side(loaded: Callable[[str], Loaded]) -> None:
    text = NEAR.format(f"{{tunnel: 'gw:7413', key: [{KEY}, '{KEY[:-1]}e'], tls: {{name: gw.example.com}}}}")
    found = loaded(text)
    keys = bytes.fromhex(KEY), bytes.fromhex(KEY[:-1] + "e")
    via = Via("tunnel", Authority("gw", 7413), keys=keys, tls=Tls(name="gw.example.com"))
    assert found.snapshot.clusters["c"].via == via
    assert "0c0d" not in repr(found.snapshot)
    assert "0c0d" not in render(found.config)


def test_a_far_side(loaded: Callable[[str], Loaded]) -> None:
    """Who has the key may come in from anywhere."""
    found = loaded(FAR.format(f"key: {KEY}, window: 10s"))
    (listener,) = found.snapshot.listeners
    assert (listener.mode, listener.far_side) == (Mode.TUNNEL, FarSide((bytes.fromhex(KEY),), 10.0))
    assert listener.asks
    assert "0c0d" not in repr(listener) + render(found.config)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (NEAR.format("{tunnel: 'gw:7413'}"), "clusters.c.via: a tunnel has no `key`"),
        (NEAR.format(f"{{socks: 'gw:1', key: {KEY}}}"), "only a tunnel has a key or tls"),
        (NEAR.format(f"{{socks: 'gw:1', tunnel: 'gw:1', key: {KEY}}}"), "one of socks, http and tunnel"),
        (NEAR.format(f"{{tunnel: 'gw:1', key: {KEY}, tls: {{key: /x}}}}"), "a key without a certificate"),
        (FAR.format("window: 10s"), "listeners.a has no `key`"),
        (FAR.format("key: secret"), "a key"),
        (FAR.format(f"key: {KEY}, window: 2m"), "more than 90s is not remembered"),
        (FAR.format(f"key: {KEY}, to: 'h:1'"), "in mode tunnel the client says where to"),
        (FAR.format(f"key: {KEY}, proxy_protocol: accept, trust: private"), "write require or off"),
        (FAR.format(f"key: {KEY}, tls: {{ca: /etc/hostname}}"), "needs a certificate of its own"),
        (FAR.format(f"key: {KEY}").replace("tunnel", "mixed").replace("*", "127.0.0.1"), "only mode tunnel"),
    ],
)
def test_what_makes_no_sense(problems: Callable[[str], list[str]], text: str, problem: str) -> None:
    assert any(problem in line for line in problems(text))
    assert not any(KEY in line for line in problems(text))
