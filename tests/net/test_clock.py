from __future__ import annotations

import time

import trio

from proxy.net.clock import Clock


def test_trio_keeps_the_kernels_time() -> None:
    async def main() -> None:
        before, now, after = time.monotonic(), trio.current_time(), time.monotonic()
        assert before <= now <= after
        with trio.move_on_after(0.01):
            await trio.sleep_forever()
        assert trio.current_time() >= before + 0.01

    trio.run(main, clock=Clock())
