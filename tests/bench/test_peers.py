from __future__ import annotations

import shutil

import pytest

from bench.peer import Missing
from bench.peers import PEERS, haproxy_version


def test_a_newer_haproxy_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    newer = next(peer for peer in PEERS if peer.name == "haproxy-newer")
    monkeypatch.delenv("HAPROXY_NEWER", raising=False)
    with pytest.raises(Missing, match="HAPROXY_NEWER"):
        newer.version()
    monkeypatch.setenv("HAPROXY_NEWER", shutil.which("haproxy") or "/usr/sbin/haproxy")
    assert newer.version() == haproxy_version()


def test_one_that_is_not_there_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAPROXY_NEWER", "/nowhere/haproxy")
    newer = next(peer for peer in PEERS if peer.name == "haproxy-newer")
    with pytest.raises(Missing, match="/nowhere/haproxy is not installed"):
        newer.version()
