"""The page of commands is what the commands say."""

from __future__ import annotations

import click
import pytest

from docs.write_commands import PAGE, write
from proxy.commands.group import COMMANDS, group


def test_the_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text() == write(), "run `python -m docs.write_commands`"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_told(name: str) -> None:
    section = write().partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    command = group.get_command(click.Context(group), name)
    assert command is not None
    options = [one for one in command.params if isinstance(one, click.Option)]
    assert all(f"`{option}`" in section for one in options for option in one.opts)
    assert f"    tfo-proxy {name}" in section
