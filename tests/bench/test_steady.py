"""The clients that come evenly: as many as they should, and each tells what became of it."""

from __future__ import annotations

import shutil
import socket
import time
from itertools import pairwise

import pytest

from bench.load import LoadError
from bench.steady import Steady
from bench.traffic import Call

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="the clients need a C compiler")


def calls(forward: tuple[str, int] | None = None) -> list[Call]:
    with Steady() as steady:
        # Without a proxy between them; an echo is no SOCKS proxy.
        steady.begin(200.0, forward or steady.server, steady.server)
        time.sleep(1.5)
        found, offered = steady.end()
    assert len(found) == offered.clients
    assert offered.rate == pytest.approx(200.0, rel=0.1)
    begun = sorted(call.began for call in found)
    stood_still = max(later - earlier for earlier, later in pairwise(begun)) > 0.1
    assert offered.least > 150 or stood_still, "a machine that stands still offers nobody"
    assert {call.listener for call in found} == {"a", "s"}
    assert {call.outcome for call in found if call.listener == "s"} == {"broken"}
    return found


def test_they_come_evenly_and_count_their_bytes() -> None:
    found = [call for call in calls() if call.listener == "a"]
    assert {call.outcome for call in found} == {"ok"}
    assert all(call.up == call.down and call.began <= call.ended for call in found)
    assert {call.up for call in found if call.kind == "short"} == {300}
    assert {call.up for call in found if call.kind == "nothing"} == {0}
    assert all(call.up > 0 for call in found if call.kind == "talks")


def test_who_is_refused_says_so() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        found = calls(nobody.getsockname())
    assert {call.outcome for call in found if call.listener == "a"} == {"refused"}


def test_an_early_end_is_told() -> None:
    with Steady() as steady:
        steady._popen.kill()
        with pytest.raises((LoadError, BrokenPipeError, ValueError)):
            steady.end()
