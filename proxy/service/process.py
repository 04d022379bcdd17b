"""What every process of ours is like, whoever started it."""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Container
from contextlib import suppress
from pathlib import Path

import trio

from proxy.net.watch import LoopTimer
from proxy.telemetry.counters import Counters
from proxy.telemetry.events import Events

_COUNT_EVERY = 1.0  # seconds
_GC_THRESHOLD = 50_000  # a session makes some hundred container objects, and almost none in cycles


def prepare() -> None:
    """As many descriptors as we may have, files for ourselves, a garbage collector that leaves a busy relay alone."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.umask(0o077)
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 20, 50)


def reap_orphans(own: Container[int]) -> None:
    """Take note of ended processes that have become children of this one, as orphans do of process 1.

    ``own`` are the children that this program has started: their end is asked for elsewhere. Without
    ``CONFIG_PROC_CHILDREN`` in the kernel nothing is reaped.
    """
    with suppress(OSError):
        for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split():
            if int(child) not in own:
                with suppress(ChildProcessError):
                    os.waitpid(int(child), os.WNOHANG)


async def count_troubles(counters: Counters, events: Events) -> None:
    """Count the log lines that this process loses, and the stalls of its event loop, until cancelled."""
    timer, lost, stalls, stalled = LoopTimer(), 0, 0, 0.0
    trio.lowlevel.add_instrument(timer)
    try:
        while True:
            await trio.sleep(_COUNT_EVERY)
            counters.of_process(
                lines_lost=events.lines_lost - lost,
                stalls=timer.stalls - stalls,
                stalled=timer.stalled - stalled,
                longest=timer.longest,
            )
            lost, stalls, stalled = events.lines_lost, timer.stalls, timer.stalled
    finally:
        trio.lowlevel.remove_instrument(timer)
