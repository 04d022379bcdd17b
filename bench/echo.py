"""`python -m bench.echo`: a server that says what it hears, in a process of its own; it prints its port."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from proxy.lab.namespaces import python_environment
from proxy.lab.servers import Address


@contextmanager
def echo_server() -> Iterator[Address]:
    """Where it listens, in this network namespace."""
    command = [sys.executable, "-m", "bench.echo"]
    with subprocess.Popen(command, env=python_environment(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield "127.0.0.1", int(process.stdout.readline())
        finally:
            process.kill()


async def _echo(stream: trio.SocketStream) -> None:
    try:
        async for data in stream:
            await stream.send_all(data)
    except trio.BrokenResourceError:
        return


async def _serve() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=4096)
    print(listeners[0].socket.getsockname()[1], flush=True)
    await trio.serve_listeners(_echo, listeners)


if __name__ == "__main__":
    trio.run(_serve)
