"""``tfo-proxy check``: is this configuration good?"""

from __future__ import annotations

import click

from proxy.commands.group import load_config


@click.command()
@click.argument("config")
def command(config: str) -> None:
    """Say whether a configuration is good; every mistake in it at once, and exit code 78, if not."""
    snapshot = load_config(config).snapshot
    listeners, clusters = len(snapshot.listeners), len(snapshot.clusters)
    click.echo(f"{config}: ok, {_counted(listeners, 'listener')}, {_counted(clusters, 'cluster')}")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
