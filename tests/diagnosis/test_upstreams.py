from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from proxy.core.address import Authority, Endpoint
from proxy.core.snapshot import FastOpen, Snapshot
from proxy.diagnosis.finding import Level
from proxy.diagnosis.machine import Machine
from proxy.diagnosis.upstreams import cookies
from proxy.lab.behaviours import answers
from proxy.lab.clients import ask
from proxy.lab.wan import Wan
from proxy.net import cookies as cache

Configured = Callable[..., Snapshot]


def towards(
    snapshot: Snapshot, *targets: Endpoint | Authority, fast_open: FastOpen = FastOpen.AUTO
) -> Snapshot:
    cluster = replace(snapshot.clusters["api"], endpoints=targets, fast_open=fast_open)
    return replace(snapshot, clusters={"api": cluster})


@pytest.mark.wan(rtt=0.03)
def test_a_cookie_comes_and_losses_are_told(wan: Wan, configured: Configured) -> None:
    server = wan.serve(answers(closes=True))
    snapshot = towards(configured(), Endpoint(*server.address), Endpoint("/run/x", 0))
    (found,) = cookies(Machine(), snapshot)
    assert (found.level, "no cookie yet" in found.what) == (Level.OK, True)
    ask(server.address, b"ping")
    (found,) = cookies(Machine(), snapshot)
    assert (found.level, "cookie known" in found.what) == (Level.OK, True)
    with wan.through("drops-syn-data"):
        ask(server.address, b"ping")
    (found,) = cookies(Machine(), snapshot)
    assert found.level is Level.WARNING
    assert found.mend == f"tfo-proxy probe {server.address[0]}:80"
    assert (
        list(cookies(Machine(), towards(snapshot, Endpoint(*server.address), fast_open=FastOpen.OFF))) == []
    )


def test_names(configured: Configured) -> None:
    localhost, nobody = Authority("localhost", 9), Authority("nobody.invalid", 9)
    found = list(cookies(Machine(), towards(configured(), localhost, nobody)))
    assert {one.level for one in found if "localhost" in one.what} == {Level.OK}
    assert [one.level for one in found if "nobody" in one.what] == [Level.WARNING]


def test_without_netlink(configured: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_GENERIC_NETLINK", 29)
    (found,) = cookies(Machine(), configured())
    assert found.level is Level.NOTE
    assert "AF_NETLINK" in found.mend


def test_without_a_configuration_there_are_none() -> None:
    assert list(cookies(Machine(), None)) == []
