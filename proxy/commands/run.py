"""``tfo-proxy run``: serve a configuration, from a file or from flags alone, until told to stop."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from proxy.config import Loaded
    from proxy.service.reload import Source

DEFAULT_CONFIG = "/etc/tfo-proxy/config.yaml"


@click.command()
@click.argument("config", required=False, envvar="TFO_PROXY_CONFIG")
@click.option(
    "--forward",
    "forwards",
    multiple=True,
    envvar="TFO_PROXY_FORWARD",
    metavar="BIND=TO",
    help="Add a forward listener, like 127.0.0.1:8080=example.com:80.",
)
@click.option(
    "--mixed",
    multiple=True,
    envvar="TFO_PROXY_MIXED",
    metavar="BIND",
    help="Add a SOCKS and HTTP proxy, like 127.0.0.1:8080.",
)
@click.option(
    "--admin",
    envvar="TFO_PROXY_ADMIN",
    metavar="BIND",
    help="Serve the page, the API and /metrics here, like 127.0.0.1:7414 or unix:/run/x.sock.",
)
@click.option(
    "--allow-loopback",
    is_flag=True,
    envvar="TFO_PROXY_ALLOW_LOOPBACK",
    help="Let clients name destinations on this machine, for a try: direct.allow: loopback.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    envvar="TFO_PROXY_LOG_LEVEL",
    help="The least important log lines to write, in place of the file's log.level.",
)
def command(
    config: str | None,
    forwards: tuple[str, ...],
    mixed: tuple[str, ...],
    admin: str | None,
    log_level: str | None,
    *,
    allow_loopback: bool,
) -> None:
    """Run the proxy until SIGTERM or SIGINT; a second one ends it at once.

    Without CONFIG and without listeners on the command line it serves /etc/tfo-proxy/config.yaml. CONFIG and each
    option may stand in the environment: TFO_PROXY_CONFIG, TFO_PROXY_MIXED, TFO_PROXY_ADMIN and so on.
    """
    from proxy.config import ConfigError, load  # only when it is needed
    from proxy.service import privileges
    from proxy.service.reload import Source

    if config is None and not (forwards or mixed):
        if not os.path.exists(DEFAULT_CONFIG):
            meant = "name a CONFIG file, or give --mixed BIND or --forward BIND=TO"
            raise click.UsageError(f"nothing to serve: there is no {DEFAULT_CONFIG}; {meant}")
        config = DEFAULT_CONFIG
    privileges.hide()
    read = partial(load, config, forwards=forwards, mixed=mixed, admin=admin, allow_loopback=allow_loopback)
    source = Source(config, read)
    try:
        loaded = source.read()
    except ConfigError as mistakes:
        click.echo(str(mistakes), err=True)
        sys.exit(78)
    from proxy.telemetry import logs

    for warning in loaded.warnings:
        logs.write(str(warning))  # without a wait for its reader
    sys.exit(_serve(loaded, source, log_level))


def _serve(loaded: Loaded, source: Source, log_level: str | None) -> int:
    import trio

    from proxy.commands.progress import Progress
    from proxy.net.accept import CannotListen
    from proxy.net.clock import Clock
    from proxy.service import early_signals, process, supervisor
    from proxy.service.crew.hand import CannotServe
    from proxy.service.privileges import CannotDrop
    from proxy.telemetry import logs
    from proxy.telemetry.events import Events

    process.prepare()
    log = loaded.snapshot.log
    events = Events(logs.configure(log_level or log.level, log.format))
    told = log.format != "json" and sys.stderr is not None and sys.stderr.isatty()
    waits = Progress if told else None
    try:
        trio.run(
            partial(supervisor.run, loaded, events, source, log_level=log_level, waits=waits), clock=Clock()
        )
    except (CannotListen, CannotDrop, CannotServe) as failure:
        click.echo(f"tfo-proxy: {failure}", err=True)
        return 1
    except KeyboardInterrupt:
        return 1
    finally:
        early_signals.ignore()
    return 0
