"""``tfo-proxy drain``: have a running proxy stop, in order."""

from __future__ import annotations

import select
import signal
import time
from collections.abc import Callable

import click

from proxy.commands import process_number, remote
from proxy.commands.group import FAILED
from proxy.commands.process_number import Process
from proxy.commands.progress import Progress

_LOOK = 0.2  # seconds between two looks


@click.command()
@remote.options
@process_number.option
@click.option("--wait", is_flag=True, help="Return when the proxy has ended.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=None,
    metavar="SECONDS",
    help="With --wait: for no longer than this.",
)
def command(
    config: str | None,
    admin: str | None,
    token_file: str | None,
    pid: int | None,
    wait: bool,
    timeout: float | None,
) -> None:
    """Have a running proxy accept no more connections, let its sessions end, and end.

    A second time: at once. How long sessions may last is `drain` in its configuration. An admin on loopback that has no
    token takes no orders; then a signal is sent, as root and the proxy's user may.
    """
    if pid is not None:
        process = Process(pid)
        process.send(signal.SIGTERM)
        if wait:
            _wait(lambda: process.ended(_LOOK), "draining", timeout)
        click.echo("stopped" if wait else f"process {pid} was asked to stop")
        return
    with remote.find(config, admin, token_file) as there:
        try:
            there.post("/api/v1/drain")
        except remote.Refused as refused:
            behind = Process.behind(there) if refused.status == 403 else None
            if behind is None:
                raise
            behind.send(signal.SIGTERM)
        if wait:
            _wait(lambda: _is_gone(there), "draining", timeout)
    click.echo("stopped" if wait else "draining")


def _is_gone(there: remote.Remote) -> bool:
    try:
        there.get("/api/v1/status")
    except remote.Gone:
        return True
    select.select([], [], [], _LOOK)
    return False


def _wait(ended: Callable[[], bool], words: str, timeout: float | None) -> None:
    """Until it has ended; raises `click.exceptions.Exit` when that takes too long."""
    deadline = None if timeout is None else time.perf_counter() + timeout
    with Progress() as progress:
        while not ended():
            progress.tell(words)
            if deadline is not None and time.perf_counter() >= deadline:
                click.echo(f"it is still there after {timeout:g} s", err=True)
                raise click.exceptions.Exit(FAILED)
