"""Write ``docs/commands.md`` from the commands themselves: ``python -m docs.write_commands``."""  # noqa: INP001

# ruff: noqa: E501  # prose is wrapped for its own page

from __future__ import annotations

import inspect
import re
from pathlib import Path

import click

from proxy.commands import healthcheck
from proxy.commands.group import COMMANDS, group

PAGE = Path(__file__).with_name("commands.md")

BEGINNING = """# The command line

<!-- Written by `python -m docs.write_commands` from proxy/commands. Do not edit it here. -->

`tfo-proxy`, or `python -m proxy`, with one of these commands. `--help` behind any of them says the same in short. Exit codes, unless a
command says otherwise: 0 all is well, 1 it failed, 2 it was called wrongly, 78 the configuration is bad, 130 it was interrupted.
What is printed for machines goes to standard output, everything else to standard error; `--json`, where there is one, is for scripts.

```sh
tfo-proxy --help
tfo-proxy version
tfo-proxy completion bash
```
"""


def write() -> str:
    """The whole page."""
    lines = [BEGINNING, "| command | what it does |", "|---|---|"]
    lines += [f"| [`{name}`](#{name}) | {said} |" for name, said in COMMANDS.items()]
    context = click.Context(group)
    for name in COMMANDS:
        command = group.get_command(context, name)
        assert command is not None
        lines += ["", f"## {name}", "", *(_elsewhere() if name == "healthcheck" else _section(name, command))]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _elsewhere() -> list[str]:
    """The one that is answered without click."""
    usage = "tfo-proxy healthcheck [HOST:PORT | http://HOST:PORT[/livez] | unix:/PATH]"
    return [f"    {usage}", "", *_paragraphs(inspect.getdoc(healthcheck) or "")]


def _section(name: str, command: click.Command) -> list[str]:
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    options = [one for one in command.params if isinstance(one, click.Option)]
    named = " ".join(_argument(one) for one in arguments)
    lines = [f"    tfo-proxy {name}{' [OPTIONS]' if options else ''} {named}".rstrip(), ""]
    lines += _paragraphs(inspect.cleandoc(command.help or ""))
    if options:
        lines += ["| option | what it means |", "|---|---|"]
        lines += [f"| {_names(one)} | {_meaning(one)} |" for one in options]
    if command.epilog:
        lines += ["", inspect.cleandoc(command.epilog)]
    return lines


def _paragraphs(text: str) -> list[str]:
    found = [" ".join(part.replace("\b", "").split()) for part in text.split("\n\n")]
    return [line for part in found if part for line in (f"    {part}" if part.startswith("#") else part, "")]


def _argument(one: click.Argument) -> str:
    name = one.metavar or (one.name or "").upper()
    several = "…" if one.nargs == -1 else ""
    name = name.rstrip(".")
    return f"{name}{several}" if one.required else f"[{name}{several}]"


def _names(one: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in [*one.opts, *one.secondary_opts])
    if one.is_flag or one.count:
        return names
    if isinstance(one.type, click.Choice):
        return f"{names} " + " ".join(f"`{choice}`" for choice in one.type.choices)
    return f"{names} {one.metavar or _KINDS.get(one.type.name, one.type.name.upper())}"


_KINDS = {"float": "NUMBER", "float range": "NUMBER", "integer": "NUMBER", "integer range": "NUMBER"}


def _meaning(one: click.Option) -> str:
    said = (one.help or "").replace("|", "\\|")
    if one.show_default and one.default not in {None, False}:
        said += f" Without it: `{one.default}`."
    return said


if __name__ == "__main__":
    PAGE.write_text(write(), encoding="utf-8")
