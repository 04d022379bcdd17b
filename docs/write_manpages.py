"""Write the manual pages and completion scripts that packages install: ``python -m docs.write_manpages``."""  # noqa: INP001

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from click.shell_completion import get_completion_class
from click_man.core import write_man_pages

from proxy import __version__
from proxy.commands.group import COMMANDS, group

FOLDER = Path(__file__).parents[1] / "deploy" / "share"
COMPLETIONS = {  # shell → where its package-installed completions live, below share/
    "bash": "bash-completion/completions/tfo-proxy",
    "fish": "fish/vendor_completions.d/tfo-proxy.fish",
    "zsh": "zsh/site-functions/_tfo-proxy",
}


def files() -> dict[str, str]:
    """Every file, by its path below ``share/``."""
    program = _program()
    with tempfile.TemporaryDirectory() as folder:
        write_man_pages("tfo-proxy", program, version=__version__, target_dir=folder, date=" ")  # "": today
        found = {f"man/man1/{page.name}": page.read_text() for page in sorted(Path(folder).iterdir())}
    for shell, path in COMPLETIONS.items():
        completion = get_completion_class(shell)
        assert completion is not None
        found[path] = completion(program, {}, "tfo-proxy", "_TFO_PROXY_COMPLETE").source()
    return found


def _program() -> click.Group:
    """The program with all its commands loaded: click-man looks only at those that are."""
    context = click.Context(group)
    commands = {}
    for name, summary in COMMANDS.items():
        command = group.get_command(context, name)
        assert command is not None
        command.short_help = summary
        commands[name] = command
    return click.Group("tfo-proxy", commands, help=group.help, short_help=group.help, params=group.params)


if __name__ == "__main__":
    for name, text in files().items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
