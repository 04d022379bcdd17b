"""A tunnel between two programs: any first bytes in the SYN, and every byte once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from proxy.lab.behaviours import answers, speaks_first
from proxy.lab.clients import ask
from proxy.lab.servers import Server
from proxy.lab.wan import Wan
from tests.wire.program import Program, forward, until

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.1)]

KEY = "5d1f0c6b3a2e4f8897a6b5c4d3e2f101"
OTHER = "aa1f0c6b3a2e4f8897a6b5c4d3e2f1bb"
POST = b"POST /pay HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\n100"


@contextmanager
def far_side(wan: Wan, key: str = KEY, **more: Any) -> Iterator[tuple[Program, str]]:
    """A far side beside the servers, and where it is."""
    address = f"{wan.fresh_address()}:7413"
    settings = {"bind": address, "mode": "tunnel", "key": key, **more}
    document = {"listeners": {"far": settings}, "log": {"format": "json"}}
    with Program(wan.server, document=document) as far:
        yield far, address


def through(
    server: Server | str, address: str, key: str = KEY, **more: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    return forward(server, via={"tunnel": address, "key": key}, **more)


def test_a_post_rides_in_the_syn(wan: Wan) -> None:
    server = wan.serve(answers(), fast_open=None)
    with far_side(wan) as (far, address), Program(wan.client, {"a": through(server, address)}) as near:
        for _ in range(3):
            assert ask(near.address(), POST, fast_open=False).reply == b"pong"
        line = near.session(3)
        print(line)
        assert line["evidence"] == "syn_data_acked"
        assert line["first_byte"] <= 1.1 * wan.rtt
        line = far.session(3)
        print(line)
        assert line["authority"] == f"{server.address[0]}:{server.address[1]}"
    assert [bytes(one.received) for one in server.wait(3)] == [POST] * 3
