"""Who reads slowly what a server sends fast: neither memory nor pipes hold more than is allowed for one session."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import trio

from bench.service import Service

MOST = 2 << 20  # bytes that one session may hold
TRANSFER = 64 << 20
PIPE = 1 << 20


def pipes(service: Service) -> int:
    links = Path(f"/proc/{service.pid}/fd").iterdir()
    return sum(1 for link in links if _target(link).startswith("pipe:"))


def _target(link: Path) -> str:
    with suppress(OSError):
        return os.readlink(link)
    return ""


async def test_a_slow_reader_of_much(tmp_path: Path) -> None:
    async def sends_much(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await stream.receive_some()
            for _ in range(TRANSFER >> 20):
                await stream.send_all(bytes(1 << 20))

    async with trio.open_nursery() as servers:
        listening = await trio.open_tcp_listeners(0, host="127.0.0.1")
        servers.start_soon(trio.serve_listeners, sends_much, listening)
        document = {
            "listeners": {"a": {"bind": "127.0.0.1:0", "mode": "forward", "to": "c"}},
            "clusters": {
                "c": {"endpoints": [f"127.0.0.1:{listening[0].socket.getsockname()[1]}"], "warm_up": False}
            },
        }
        with await trio.to_thread.run_sync(Service, tmp_path, document) as service:
            to = service.listening()["a"]
            async with await trio.open_tcp_stream(*to) as first:  # what is loaded once is loaded
                await first.send_all(b"go")
                await first.receive_some()
            await trio.sleep(0.2)
            before, pipes_before = service.memory(), pipes(service)
            most, got = 0, 0
            async with await trio.open_tcp_stream(*to) as client:
                await client.send_all(b"go")
                while data := await client.receive_some(256 << 10):
                    got += len(data)
                    if got < TRANSFER // 4:
                        await trio.sleep(0.01)
                        held = service.memory() - before + (pipes(service) - pipes_before) // 2 * PIPE
                        most = max(most, held)
            assert got == TRANSFER
            assert most <= MOST, f"{most} bytes"
        servers.cancel_scope.cancel()
