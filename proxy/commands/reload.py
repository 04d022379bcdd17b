"""``tfo-proxy reload``: have a running proxy read its configuration again."""

from __future__ import annotations

import signal

import click

from proxy.commands import process_number, remote
from proxy.commands.group import FAILED
from proxy.commands.progress import Progress

_PATIENCE = 60.0


@click.command()
@remote.options
@process_number.option
def command(config: str | None, admin: str | None, token_file: str | None, pid: int | None) -> None:
    """Have a running proxy read its configuration again.

    What is wrong with it is printed, and then nothing has changed. With --pid only the proxy's own log says so.
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
            if refused.status != 422:
                raise
            done = there.decoded(refused.body, views.Reload)
    for text in (*done.warnings, *done.mistakes):
        click.echo(text, err=True)
    if not done.ok:
        click.echo("not reloaded: what ran before runs on", err=True)
        raise click.exceptions.Exit(FAILED)
    click.echo(f"reloaded: {', '.join(done.changed) or 'nothing has changed'}")
