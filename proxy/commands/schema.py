"""``tfo-proxy schema``: what may stand in a configuration file, for editors."""

from __future__ import annotations

import click


@click.command()
def command() -> None:
    """Print the JSON Schema (2020-12) of the configuration file.

    An editor with the YAML language server checks a file whose first line is

    # yaml-language-server: $schema=schema.json
    """
    import json

    from proxy.config.json_schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
