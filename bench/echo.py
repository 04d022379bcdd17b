"""`python -m bench.echo [HOST]`: a server that says what it hears, in a process of its own; it prints its port."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import trio

from proxy.lab.namespaces import Namespace, python_environment
from proxy.lab.servers import Address


@contextmanager
def echo_server(host: str = "127.0.0.1", namespace: Namespace | None = None) -> Iterator[Address]:
    """Where it listens, in this network namespace or in another. It takes data in SYNs where the kernel lets it."""
    command = [sys.executable, "-m", "bench.echo", host]
    start = subprocess.Popen if namespace is None else namespace.popen
    with start(command, env=python_environment(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield host, int(process.stdout.readline())
        finally:
            process.kill()


async def _echo(stream: trio.SocketStream) -> None:
    try:
        async for data in stream:
            await stream.send_all(data)
    except trio.BrokenResourceError:
        return


async def _serve() -> None:
    listeners = await trio.open_tcp_listeners(0, host=sys.argv[1], backlog=4096)
    listeners[0].socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 4096)
    print(listeners[0].socket.getsockname()[1], flush=True)
    await trio.serve_listeners(_echo, listeners)


if __name__ == "__main__":
    trio.run(_serve)
