"""The command line as a whole: its commands, each imported when it is called, and what becomes of their mistakes.

Each module beside this one holds a click command named ``command``. Exit codes: 0 ok, 1 failed at run time, 2 usage,
78 bad configuration (EX_CONFIG of sysexits.h). Nothing a user does ends in a traceback; ``TFO_PROXY_TRACEBACK=1``
shows those of our own mistakes.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from proxy import __version__

if TYPE_CHECKING:
    from proxy.config import Loaded

OK, FAILED, USAGE, BAD_CONFIG, INTERRUPTED = 0, 1, 2, 78, 130

COMMANDS = {
    "run": "Serve a configuration until told to stop.",
    "check": "Say whether a configuration is good.",
    "show": "Print a configuration with every default filled in.",
    "schema": "Print the JSON Schema of the configuration file.",
    "probe": "Say whether there is Fast Open on the path to a server.",
    "doctor": "Say what is to be mended on this machine, and how.",
    "explain": "Show sessions of a log beside their packets.",
    "demo": "Show what Fast Open saves, packet by packet, in a small lab.",
    "reload": "Have a running proxy read its configuration again.",
    "drain": "Have a running proxy end, without breaking a session.",
    "top": "Show what a running proxy saves, live on a terminal.",
    "status": "Say what a running proxy does and what it saves.",
    "healthcheck": "Say whether the proxy that runs here accepts.",
    "completion": "Print a shell's completion script.",
    "version": "Print the version.",
}


class LazyGroup(click.Group):
    """A group whose commands are modules of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """All names, without an import."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # as above
        """The command of a name, imported now."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"proxy.commands.{cmd_name}"), "command", None)
        return command if isinstance(command, click.Command) else _known_elsewhere(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, and where there is no such command, the one that may have been meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            meant = get_close_matches(args[0], COMMANDS, 1)
            if not meant:
                raise
            raise click.UsageError(f"{error.message} Did you mean {meant[0]}?", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # as above
        """The list for ``--help``, without an import."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _known_elsewhere(name: str) -> click.Command:
    """A stand-in for a command that `proxy.__main__` answers before click is loaded."""
    return click.Command(name, help=COMMANDS[name], add_help_option=False)


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="tfo-proxy", message="%(prog)s %(version)s")
def group() -> None:
    """Relay TCP with Fast Open (RFC 7413): a client's first bytes travel in the SYN."""


class BadConfiguration(click.ClickException):
    """The report of a configuration that cannot be used."""

    exit_code = BAD_CONFIG

    def show(self, file: object = None) -> None:  # noqa: ARG002  # click's signature
        """Print the report as it is."""
        click.echo(self.message, err=True)


def load_config(path: str | None, forwards: Iterable[str] = ()) -> Loaded:
    """`proxy.config.load`, its warnings printed; raises `BadConfiguration`."""
    from proxy.config import ConfigError, load

    try:
        loaded = load(path, forwards=forwards)
    except ConfigError as error:
        raise BadConfiguration(str(error)) from None
    for warning in loaded.warnings:
        click.echo(str(warning), err=True)
    return loaded


def main(argv: Sequence[str]) -> int:
    """Run one command line; the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(argv)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        return _quiet(OK)  # whoever read has read enough
    except OSError as error:
        _complain(f"cannot write: {error.strerror}")
        return _quiet(FAILED)
    return code


def _run(argv: Sequence[str]) -> int:
    """Run one command line, whatever it raises; the exit code."""
    try:
        code: object = group.main(list(argv), prog_name="tfo-proxy", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except SystemExit as stop:
        code = stop.code
        if isinstance(code, str):
            _complain(code)
    except OSError:
        raise
    except Exception as fault:  # noqa: BLE001  # nobody above us could say it better than a traceback
        _complain(f"this is a mistake of ours, please report it: {type(fault).__name__}: {fault}")
        if os.environ.get("TFO_PROXY_TRACEBACK"):
            traceback.print_exc()
        return FAILED
    return code if isinstance(code, int) else OK if code is None else FAILED


def _complain(problem: str) -> None:
    click.echo(f"tfo-proxy: {problem}", err=True)


def _quiet(code: int) -> int:
    """``code``, with standard output out of the way of the interpreter, which would flush it once more."""
    if sys.stdout is None:
        return code
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # a descriptor is wanted
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return code
