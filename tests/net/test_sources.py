"""Where dials come from, on loopback: every address of 127.0.0.0/8 is ours to bind."""

from __future__ import annotations

import socket

import pytest
import trio

from proxy.core.address import Endpoint
from proxy.core.clusters import Source
from proxy.core.fastopen import PLAIN_PLAN, Open, Plan
from proxy.lab.wan import Wan
from proxy.net import dial
from proxy.net.upstream import DialFailed

OPENS = [
    PLAIN_PLAN,
    Plan(Open.EMPTY, 0, None, probe=False, era=0),
    Plan(Open.DATA, 3, None, probe=False, era=0),
]


@pytest.mark.parametrize("plan", OPENS, ids=[plan.open for plan in OPENS])
async def test_every_kind_of_dial_comes_from_its_source(plan: Plan) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = Endpoint(*server.getsockname())
        source = Source(("::1", "127.0.0.77"))
        with dial.begin(endpoint, b"abc", plan, trio.current_time, source).sock:
            accepted, peer = server.accept()
            accepted.close()
    assert peer[0] == "127.0.0.77"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            Source(("192.0.2.99",)),
            r"no_source \(EADDRNOTAVAIL\): the source address 192.0.2.99 is not of this machine",
        ),
        (Source(("::1",)), r"no_source \(EAFNOSUPPORT\): there is no source address of this family"),
        (Source(interface="nowhere0"), r"the source interface nowhere0 is not to be had"),
    ],
)
async def test_a_source_that_is_not_to_be_had(source: Source, says: str) -> None:
    with pytest.raises(DialFailed, match=says):
        dial.begin(Endpoint("127.0.0.1", 9), b"", PLAIN_PLAN, trio.current_time, source)


@pytest.mark.netns
async def test_a_source_that_cannot_reach_the_destination(wan: Wan) -> None:
    """connect(2) says EINVAL of it, and of a `blackhole` route, which is nothing of the source's."""
    there = Endpoint(wan.fresh_address(), 9)
    with pytest.raises(DialFailed, match=r"no_source \(EINVAL\): there is no way to 10\S+ from this source"):
        dial.begin(there, b"", PLAIN_PLAN, trio.current_time, Source(("127.0.0.1",)))
    wan.client.run(["ip", "route", "add", "blackhole", there.host])
    with pytest.raises(DialFailed, match=r"unreachable \(EINVAL\)"):
        dial.begin(there, b"", PLAIN_PLAN, trio.current_time, Source((wan.fresh_source(),)))
