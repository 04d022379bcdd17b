"""``tfo-proxy reload``: have a running proxy read its configuration again."""

from __future__ import annotations

import select
import signal
import time
from typing import TYPE_CHECKING

import click

from proxy.commands import process_number, remote
from proxy.commands.group import FAILED
from proxy.commands.progress import Progress

if TYPE_CHECKING:
    from proxy.admin import views

_PATIENCE = 60.0
_LOOK = 0.05  # seconds between two looks


@click.command()
@remote.options
@process_number.option
def command(config: str | None, admin: str | None, token_file: str | None, pid: int | None) -> None:
    """Have a running proxy read its configuration again.

    What is wrong with it is printed, and then nothing has changed. With --pid only the proxy's own log says so. An
    admin on loopback that has no token takes no orders; then a signal is sent, as root and the proxy's user may.
    """
    if pid is not None:
        process_number.Process(pid).send(signal.SIGHUP)
        click.echo(f"process {pid} was asked; its log says what came of it")
        return
    from proxy.admin import views

    with remote.find(config, admin, token_file, _PATIENCE) as there, Progress() as progress:
        progress.tell("reloading")
        try:
            done = there.decoded(there.post("/api/v1/reload"), views.Reload)
        except remote.Refused as refused:
            process = process_number.Process.behind(there) if refused.status == 403 else None
            if process is not None:
                before = there.view("/api/v1/status", views.Status).last_reload
                process.send(signal.SIGHUP)
                done = _after(there, before)
            elif refused.status == 422:
                done = there.decoded(refused.body, views.Reload)
            else:
                raise
    for text in (*done.warnings, *done.mistakes):
        click.echo(text, err=True)
    if not done.ok:
        click.echo("not reloaded: what ran before runs on", err=True)
        raise click.exceptions.Exit(FAILED)
    click.echo(f"reloaded: {', '.join(done.changed) or 'nothing has changed'}")


def _after(there: remote.Remote, before: views.Reload | None) -> views.Reload:
    """The reload that comes after another one; raises `remote.Gone` where that takes too long."""
    from proxy.admin import views

    deadline = time.perf_counter() + _PATIENCE
    while (last := there.view("/api/v1/status", views.Status).last_reload) is None or last == before:
        if time.perf_counter() >= deadline:
            raise remote.Gone(f"{there.address} does not say what came of it")
        select.select([], [], [], _LOOK)
    return last
