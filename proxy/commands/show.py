"""``tfo-proxy show``: what a configuration means, said in full."""

from __future__ import annotations

import click

from proxy.commands.group import load_config


@click.command()
@click.argument("config")
def command(config: str) -> None:
    """Print a configuration as YAML, every default filled in, references replaced, secrets hidden."""
    loaded = load_config(config)
    from proxy.config.render import render

    click.echo(render(loaded.config), nl=False)
