"""One process under a hand: what is said to it waits no longer than it makes sense."""

from __future__ import annotations

import os
import resource

import trio

from proxy.service.crew import orders
from proxy.service.crew.hand import Hand
from tests.serving import Recorder


def hand() -> Hand:
    return Hand(lambda: orders.Begin(0, 2, "info", "json"), (), Recorder(), lambda *_: None, lambda: None)


def test_lessons_are_bounded_and_the_last_one_counts() -> None:
    one = hand()
    for turn in range(3):
        for number in range(5000):
            one.teach(number, orders.Learn() if turn < 2 else orders.Learn(standings=[]))
    assert len(one._lessons) == 2000


def test_nobody_is_nobody_to_kill() -> None:
    one = hand()
    one.kill()
    assert (one.pid, one.state, one.cut_off) == (0, "starting", None)


async def test_without_a_descriptor_there_is_no_process_and_no_end() -> None:
    events = Recorder()
    one = Hand(lambda: orders.Begin(0, 2, "info", "json"), (), events, lambda *_: None, lambda: None)
    one.has_served = True
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with trio.open_nursery() as nursery:
        lowest = os.open(os.devnull, os.O_RDONLY)  # the number that the next one would get
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            nursery.start_soon(one.live)
            with trio.fail_after(30):
                while len(events.said) < 2:  # noqa: ASYNC110
                    await trio.sleep(0.02)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        nursery.cancel_scope.cancel()
    event, fields = events.said[0]
    assert event == "worker_died"
    assert fields["why"] == "it cannot be started: Too many open files"
    assert [fields["again_in"] for _, fields in events.said[:2]] == [0.0, 0.5] or events.said[1][1][
        "again_in"
    ]
