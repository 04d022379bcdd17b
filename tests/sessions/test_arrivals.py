"""What workers remember together, and how an attempt finds the worker that has its session."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest
import trio

from proxy.core.address import Endpoint
from proxy.core.outcomes import Reason
from proxy.core.tunnel import ACCEPTED, Rejected, Sealed, Ticket
from proxy.net.tentative import Tentative
from proxy.net.watch import Watch
from proxy.sessions.arrivals import Arrivals
from proxy.sessions.nonce_memory import SUFFIX, open_memory
from tests.net.pairs import pair

NOBODY = socket.socket()
NOBODY.close()


def attempt(number: int, nonce: bytes = bytes(16), *, final: bool = True) -> Sealed:
    ticket = Ticket(nonce, time.time() + 1, Endpoint("192.0.2.1", 1))
    return Sealed(ticket, number, final, b"", b"")


def opened(table: int | None = None, state: str | None = None) -> tuple[Arrivals, list[str]]:
    arrivals, warnings = Arrivals(table), list[str]()
    arrivals.open(state, warnings.append)
    return arrivals, warnings


def refused(arrivals: Arrivals, sealed: Sealed) -> str:
    with pytest.raises(Rejected) as error:
        arrivals.claim(sealed, NOBODY, b"")
    assert error.value.reason is Reason.REPLAYED
    return str(error.value)


async def test_once() -> None:
    arrivals, warnings = opened()
    assert arrivals.claim(attempt(1), NOBODY, b"")
    assert refused(arrivals, attempt(1))
    assert "settled, or over" in refused(arrivals, attempt(2))
    assert not warnings
    arrivals.close()


async def test_a_later_attempt_is_given_to_its_session() -> None:
    arrivals, _ = opened()
    with pair() as (ours, _), pair() as (later, near):
        arrivals.claim(attempt(1), ours, b"")
        tentative = arrivals.tentative[bytes(16)] = Tentative(ours, b"", Watch(), final=False)
        assert not arrivals.claim(attempt(2, final=False), later, b"said")
        assert tentative.downstream.fileno() not in {ours.fileno(), later.fileno()}
        assert (tentative.said, tentative.settled) == (b"said", False)
        assert near.recv(10) == ACCEPTED
        tentative.downstream.close()
        tentative.settled = True
        assert refused(arrivals, attempt(3))
    arrivals.close()


async def test_an_attempt_that_reaches_another_worker() -> None:
    table = open_memory(None, time.time() - 1)
    one, _ = opened(os.dup(table))
    other, _ = opened(os.dup(table))
    os.close(table)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.serve)
        with pair() as (ours, _), pair() as (later, near):
            assert one.claim(attempt(1), ours, b"")
            tentative = one.tentative[bytes(16)] = Tentative(ours, b"", Watch(), final=False)
            assert refused(other, attempt(1))
            assert not other.claim(attempt(2), later, b"said")
            later.close()
            with trio.fail_after(30):
                while not tentative.settled:  # noqa: ASYNC110  # what is tested
                    await trio.sleep(0.001)
            assert tentative.said == b"said"
            tentative.downstream.send(b"here")
            assert near.recv(10) == b"here"
            tentative.downstream.close()
        nursery.cancel_scope.cancel()
    assert "cannot be reached" in refused(other, attempt(3)), "that worker has ended"
    one.close()
    other.close()


async def test_a_file_that_cannot_be_used_is_told_and_done_without(tmp_path: Path) -> None:
    state = str(tmp_path / "state.json")
    arrivals, warnings = opened(None, state)
    assert not warnings
    assert os.path.exists(state + SUFFIX)  # noqa: ASYNC240  # at once
    arrivals.close()
    arrivals, warnings = opened(None, str(tmp_path / "nowhere" / "state.json"))
    assert len(warnings) == 1
    assert arrivals.claim(attempt(1), NOBODY, b"")
    arrivals.close()
