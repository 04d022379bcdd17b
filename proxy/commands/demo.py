"""``tfo-proxy demo``: see it happen, in a network of its own inside this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from proxy.core.address import Endpoint
    from proxy.demo.play import Played
    from proxy.demo.scenes import Scene

THEMES = ("auto", "light", "dark", "both")


@click.command(
    epilog="Exit codes: 0 shown, 1 the lab cannot be built here (it says what would allow it), 2 usage."
)
@click.option(
    "--path", "name", default="clean", show_default=True, metavar="NAME", help="What is in the way."
)
@click.option("--list", "listing", is_flag=True, help="List the paths, and do nothing.")
@click.option("--rtt", default="100ms", show_default=True, metavar="TIME", help="Round trip of the path.")
@click.option("--server-first", is_flag=True, help="A server that speaks first, as for mail or SSH.")
@click.option("--tunnel", is_flag=True, help="A tfo-proxy at each end, and a server without Fast Open.")
@click.option(
    "--connections", type=click.IntRange(1, 50), default=4, show_default=True, help="Made through the proxy."
)
@click.option("--all", "everything", is_flag=True, help="Draw bare acknowledgements and endings, too.")
@click.option(
    "--svg", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write a picture."
)
@click.option(
    "--theme",
    type=click.Choice(THEMES),
    default="auto",
    show_default=True,
    help="Of the picture; `both` writes NAME-light.svg and NAME-dark.svg.",
)
@click.option(
    "--serve",
    "bind",
    is_flag=False,
    flag_value="127.0.0.1:8080",
    metavar="[BIND]",
    help="Let it be tried by hand: a proxy on BIND (127.0.0.1:8080), a small web site at the far end.",
)
@click.option(
    "--admin", default="127.0.0.1:7414", show_default=True, metavar="BIND", help="With --serve, its page."
)
@click.option(
    "--pcap",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the packets for Wireshark.",
)
def command(  # noqa: PLR0913  # one parameter an option
    name: str,
    rtt: str,
    connections: int,
    theme: str,
    svg: Path | None,
    pcap: Path | None,
    *,
    bind: str | None,
    admin: str,
    listing: bool,
    server_first: bool,
    tunnel: bool,
    everything: bool,
) -> None:
    """Send a plain connection and some through the proxy over a long path, and draw their packets.

    The path is a network of its own inside this machine: no packet leaves it, and nothing stays behind. It needs no
    root where users may make namespaces.
    """
    from proxy.demo.board import board
    from proxy.demo.scenes import scenes

    if listing:
        click.echo("\n".join(_listed(scenes())))
        return
    if bind is not None:
        _serve(_scene(name, server_first=server_first, tunnel=tunnel), _seconds(rtt), _endpoint(bind, "--serve"),
               _endpoint(admin, "--admin"))  # fmt: skip
        return
    played = _play(_scene(name, server_first=server_first, tunnel=tunnel), _seconds(rtt), connections, pcap)
    click.echo(board(played, colour=_colour(), everything=everything))
    if svg is not None:
        _write(played, svg, theme, everything=everything)


def _listed(known: dict[str, Scene]) -> list[str]:
    wide = max(map(len, known))
    return [f"{name:<{wide}}  {scene.title}" for name, scene in known.items()]


def _scene(name: str, *, server_first: bool, tunnel: bool) -> Scene:
    from proxy.demo.scenes import scene, tunnelled

    try:
        found = scene(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--path") from None
    found = found.turned_round() if server_first else found
    return tunnelled(found) if tunnel else found


def _seconds(rtt: str) -> float:
    from proxy.config.scalars import read_seconds

    try:
        seconds = read_seconds(rtt)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--rtt") from None
    if not 0.001 <= seconds <= 2:
        raise click.BadParameter("between 1ms and 2s", param_hint="--rtt")
    return seconds


def _endpoint(text: str, option: str) -> Endpoint:
    from proxy.core.address import BadAddress, Endpoint, parse_target

    try:
        found = parse_target(text)
    except BadAddress as error:
        raise click.BadParameter(str(error), param_hint=option) from None
    if not isinstance(found, Endpoint) or found.is_unix:
        raise click.BadParameter(f"{text!r} is no address and port, like 127.0.0.1:8080", param_hint=option)
    return found


def _play(scene: Scene, rtt: float, connections: int, pcap: Path | None) -> Played:
    from proxy.demo.play import play

    say = _progress()
    with _explained():
        try:
            return play(scene, rtt, connections, say, pcap)
        finally:
            say("")


def _serve(scene: Scene, rtt: float, bind: Endpoint, admin: Endpoint) -> None:
    import threading

    from proxy.demo.serve import serve

    if scene.tunnel or scene.server_first:
        raise click.UsageError("--serve goes with neither --tunnel nor --server-first")
    with _explained(), contextlib.suppress(KeyboardInterrupt):
        serve(scene, rtt, bind, admin, click.echo, threading.Event())


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn what can go wrong with a lab into a message with its remedy; SIGTERM ends it as Ctrl-C does."""
    from proxy.demo.obstacles import explanation
    from proxy.demo.program import ProxyFailedError
    from proxy.lab.namespaces import LabUnavailableError

    signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    except LabUnavailableError as error:
        raise click.ClickException(explanation(str(error).partition(". Run it as root")[0])) from None
    except ProxyFailedError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise click.ClickException(reason if "cannot listen" in reason else explanation(str(error))) from None


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _progress() -> Callable[[str], None]:
    """Says on a terminal what is being done, on one line; says nothing to a script."""
    if not sys.stderr.isatty():
        return lambda _: None
    return lambda text: click.echo(f"\r\033[K{text}" + (" …" if text else ""), nl=False, err=True)


def _colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _write(played: Played, file: Path, theme: str, *, everything: bool) -> None:
    from proxy.demo.picture import picture

    files = {file: theme}
    if theme == "both":
        files = {file.with_stem(f"{file.stem}-{one}"): one for one in ("light", "dark")}
    for target, one in files.items():
        target.write_text(picture(played, theme=one, everything=everything), encoding="utf-8")
