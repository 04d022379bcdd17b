"""``tfo-proxy completion``: a script that teaches a shell our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a shell's completion script; bash reads it with: source <(tfo-proxy completion bash)."""
    completion = get_completion_class(shell)
    if completion is None:
        raise click.UsageError(f"click knows no completion for {shell}")
    click.echo(completion(ctx.find_root().command, {}, "tfo-proxy", "_TFO_PROXY_COMPLETE").source())
