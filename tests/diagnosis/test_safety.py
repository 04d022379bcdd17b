from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from proxy.core.snapshot import Snapshot
from proxy.diagnosis import safety
from proxy.diagnosis.finding import Level
from proxy.diagnosis.machine import Machine
from proxy.net import conntrack
from proxy.service import privileges

HERE = Machine()
Configured = Callable[..., Snapshot]


def test_a_missing_capability_is_named_with_what_gives_it(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privileges, "permitted", frozenset)
    monkeypatch.setattr(privileges, "_first_unprivileged_port", lambda: 1024)
    assert list(safety.capabilities(HERE, None)) == []
    assert list(safety.capabilities(HERE, configured(bind="127.0.0.1:8080"))) == []
    (found,) = safety.capabilities(HERE, configured(bind="127.0.0.1:80"))
    assert (found.level, found.what) == (Level.MEND, "CAP_NET_BIND_SERVICE is missing")
    assert "NET_BIND_SERVICE" in found.mend
    monkeypatch.setattr(privileges, "permitted", lambda: frozenset({privileges.NET_BIND_SERVICE}))
    assert list(safety.capabilities(HERE, configured(bind="127.0.0.1:80"))) == []


def test_root_is_worth_a_note_unless_it_is_given_up(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = configured(bind="127.0.0.1:8080")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert [one.level for one in safety.root(HERE, snapshot)] == [Level.NOTE]
    assert list(safety.root(HERE, replace(snapshot, user="nobody"))) == []
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert list(safety.root(HERE, snapshot)) == []


@pytest.mark.parametrize("randomized", [0, 1])
def test_a_fixed_seed(monkeypatch: pytest.MonkeyPatch, randomized: int) -> None:
    monkeypatch.setattr(sys, "flags", SimpleNamespace(hash_randomization=randomized))
    assert [one.mend for one in safety.hashes(HERE, None)] == ([] if randomized else ["unset PYTHONHASHSEED"])


def test_a_full_conntrack_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conntrack, "trouble", lambda: "")
    assert list(safety.tracking(HERE, None)) == []
    monkeypatch.setattr(conntrack, "trouble", lambda: "it is full")
    (found,) = safety.tracking(HERE, None)
    assert (found.level, found.what) == (Level.MEND, "it is full")
    assert found.mend.startswith("sysctl -w net.netfilter.nf_conntrack_max=")
