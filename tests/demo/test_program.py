from __future__ import annotations

import os
import signal
import time

import pytest

from proxy.demo.program import Program, ProxyFailedError
from proxy.lab.namespaces import Namespace
from proxy.lab.rtnetlink import rtnetlink

pytestmark = pytest.mark.netns
CONFIG: dict[str, object] = {
    "listeners": {"in": {"bind": "127.0.0.1:0", "mode": "forward", "to": "127.0.0.1:9"}},
    "log": {"format": "json"},
}


@pytest.fixture
def here() -> Namespace:
    namespace = Namespace.create()
    with namespace.entered(), rtnetlink() as netlink:
        netlink.bring_up("lo")
    return namespace


def test_it_runs_and_ends(here: Namespace) -> None:
    with Program(here, CONFIG) as program:
        host, port = program.address
        assert host == "127.0.0.1"
        assert port > 0
        assert program.sessions == []
        pid = int(str(program.wait("ready")["pid"]))
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_configuration_that_is_refused_is_told(here: Namespace) -> None:
    with pytest.raises(ProxyFailedError, match="has ended"):
        Program(here, CONFIG | {"drain": 5})


def test_one_that_dies_is_told(here: Namespace) -> None:
    with Program(here, CONFIG) as program:
        os.kill(int(str(program.wait("ready")["pid"])), signal.SIGKILL)
        with pytest.raises(ProxyFailedError, match="has ended"):
            program.wait("session")
        time.sleep(0.01)
