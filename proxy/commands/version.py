"""``tfo-proxy version``."""

from __future__ import annotations

import click

from proxy import __version__


@click.command()
def command() -> None:
    """Print the version."""
    click.echo(f"tfo-proxy {__version__}")
