"""The handle on the forwarder process."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from proxy.lab import wire
from proxy.lab.line import Line
from proxy.lab.namespaces import Namespace
from proxy.lab.wan import Wan

pytestmark = pytest.mark.netns


@pytest.fixture
def line() -> Iterator[Line]:
    client, server = Namespace.create("client"), Namespace.create("server")
    strung = wire.string(client, server)
    line = Line(strung)
    strung.close()
    yield line
    line.close()
    client.close()
    server.close()


def test_it_takes_orders_and_ends_with_its_process(line: Line) -> None:
    line.set_delays(0.01, 0.02)
    line.set_rules([("drops-option", {}, "")])
    line.forget()
    assert not line.records()
    pid = line._process.pid
    os.kill(pid, 0)
    line.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_order_that_makes_no_sense_ends_it_and_is_reported(line: Line) -> None:
    with pytest.raises(RuntimeError, match="forwarder has gone"):
        line.set_rules([("no-such-middlebox", {}, "")])


def test_a_dead_forwarder_is_reported() -> None:
    with Wan() as wan:
        wan._line._process.kill()
        with pytest.raises(RuntimeError, match="forwarder has gone"):
            wan.capture()
