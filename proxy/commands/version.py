"""``tfo-proxy version``."""

from __future__ import annotations

import importlib.util
import os
import platform
from importlib import metadata

import click

from proxy import __version__

_LIBRARIES = ("click", "dnspython", "h11", "idna", "msgspec", "PyYAML", "structlog", "trio")
_EXTRAS = {"rich": "top"}  # distribution → what needs it


@click.command()
def command() -> None:
    """Print the version, and below it Python, kernel and libraries, for a report."""
    system = os.uname()
    found = [f"{name} {version}" for name in _LIBRARIES if (version := _version(name))]
    extras = [f"{name} {_version(name) or 'not installed'} (for {use})" for name, use in _EXTRAS.items()]
    click.echo(f"tfo-proxy {__version__}")
    click.echo(f"python     {platform.python_version()} ({platform.python_implementation()}), {_form()}")
    click.echo(f"kernel     {system.sysname} {system.release} {system.machine}")
    click.echo(f"libraries  {', '.join(found)}")
    click.echo(f"extras     {', '.join(extras)}")


def _form() -> str:
    """Whether the program's own modules are Python or machine code."""
    spec = importlib.util.find_spec("proxy.net.relay")
    compiled = spec is not None and spec.origin is not None and spec.origin.endswith(".so")
    return "compiled" if compiled else "pure Python"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
