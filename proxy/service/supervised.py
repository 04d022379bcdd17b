"""Loops that serve for as long as the program runs: an exception is logged, and the loop begins again after a pause."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from proxy.telemetry.events import Events

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds; doubled each time


async def keep_running(name: str, work: Callable[[], Awaitable[None]], events: Events) -> None:
    """Call ``work`` until it returns or is cancelled, again after each exception; ``name`` is for the log.

    The pause is short again where ``work`` has run for longer than the longest one.
    """
    pause = FIRST_PAUSE
    while True:
        began = trio.current_time()
        try:
            await work()
        except Exception as fault:  # noqa: BLE001  # whatever it is, what is served must go on
            events.background_fault(name, fault)
        else:
            return
        if trio.current_time() - began > LONGEST_PAUSE:
            pause = FIRST_PAUSE
        await trio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
