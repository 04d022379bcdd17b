"""``tfo-proxy top``: what is saved and what happens, on a terminal, live."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

from proxy.commands import remote

if TYPE_CHECKING:
    import trio

    from proxy.commands.remote import Remote
    from proxy.top.choice import Choice
    from proxy.top.seen import Seen
    from proxy.top.terminal import Terminal

_NO_RICH = (
    "top draws with rich, which is not installed: pip install 'tfo-proxy[tui]'. Without it there are"
    " `tfo-proxy top --json`, `tfo-proxy status` and the page at the admin's address."
)


@click.command()
@remote.options
@click.option("--once", is_flag=True, help="Print everything once and end; needs no terminal.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, one object a line every interval; one with --once."
)
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
def command(
    config: str | None, admin: str | None, token_file: str | None, once: bool, as_json: bool, interval: float
) -> None:
    """Show what a running proxy saves, its endpoints, sessions and listeners; ? explains the keys and the words.

    The proxy must have an `admin` in its configuration.
    """
    if not as_json:
        _need_rich()
    with remote.find(config, admin, token_file) as source:
        if once:
            _once(source, as_json=as_json)
        elif as_json:
            _stream(source, interval)
        elif not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise click.UsageError("this is no terminal: use --once or --json")
        else:
            _live(source, interval)


def _need_rich() -> None:
    if find_spec("rich") is None:
        raise click.ClickException(_NO_RICH)


def _once(source: Remote, *, as_json: bool) -> None:
    from proxy.top import seen

    try:
        bodies = seen.ask(source)
        if as_json:
            click.echo(seen.as_json(bodies, indent=True))
            return
        looked = seen.read(bodies)
    except seen.Unreadable as problem:
        raise click.ClickException(str(problem)) from None
    from rich.console import Console

    from proxy.top import picture

    picture.once(looked, Console(highlight=False, markup=False, emoji=False))


def _stream(source: Remote, interval: float) -> None:
    """One line a look; while nobody answers that is said on standard error, once."""
    from threading import Event

    from proxy.top import seen

    pause, said = Event(), ""
    while True:
        try:
            click.echo(seen.as_json(seen.ask(source), indent=False))
            sys.stdout.flush()
            said = ""
        except (remote.Gone, remote.Refused, seen.Unreadable) as problem:
            if said != str(problem):
                click.echo(f"tfo-proxy: {problem}", err=True)
            said = str(problem)
        pause.wait(interval)


def _live(source: Remote, interval: float) -> None:
    import trio

    from proxy.top.choice import Choice
    from proxy.top.terminal import Terminal

    with Terminal() as terminal:
        live = _Live(source, interval, terminal, Choice())
        try:
            trio.run(live.run, restrict_keyboard_interrupt_to_checkpoints=True)
        except* KeyboardInterrupt:
            pass
    if live.problem:
        raise click.ClickException(live.problem)


@dataclass
class _Live:
    """The screen at work: asks, draws, listens to keys and signals."""

    source: Remote
    interval: float
    terminal: Terminal
    choice: Choice
    seen: Seen | None = None
    gone: str = ""
    problem: str = ""  # what made it end

    async def run(self) -> None:
        import trio

        signals = (signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)
        with trio.open_signal_receiver(*signals) as heard:
            async with trio.open_nursery() as nursery:
                for work in (self._look, self._keys, partial(self._signals, heard)):
                    nursery.start_soon(self._until_done, work, nursery.cancel_scope)
                self._draw()

    async def _until_done(self, work: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        await work()
        scope.cancel()

    async def _look(self) -> None:
        """Ask, again and again; in a thread, so that keys are heard while nobody answers."""
        import trio

        from proxy.top import seen

        while not self.problem:
            if not self.choice.paused or self.seen is None:
                try:
                    bodies = await trio.to_thread.run_sync(seen.ask, self.source, abandon_on_cancel=True)
                    self.seen, self.gone = seen.read(bodies), ""
                except remote.Refused as refused:
                    if refused.status in {401, 403, 404, 421}:  # asking again will not help
                        self.problem = refused.message
                        return
                    self.gone = refused.message
                except (remote.Gone, seen.Unreadable) as problem:
                    self.gone = str(problem)
                self._draw()
            await trio.sleep(self.interval)

    async def _keys(self) -> None:
        import trio

        while not self.choice.quit:
            await trio.lowlevel.wait_readable(0)
            try:
                pressed = self.terminal.read()
            except OSError:  # the terminal has gone
                return
            for key in pressed:
                self.choice.press(key)
            self._draw()

    async def _signals(self, heard: AsyncIterator[int]) -> None:
        async for number in heard:
            if number in {signal.SIGTERM, signal.SIGHUP}:
                return
            if number == signal.SIGTSTP:
                self.terminal.give_back()
                os.kill(os.getpid(), signal.SIGSTOP)
                self.terminal.take()
            self._draw()

    def _draw(self) -> None:
        from proxy.top.picture import Frame

        width, height = self.terminal.size
        frame = Frame(self.seen, self.choice, width, height, self.source.address, self.interval, self.gone)
        self.terminal.draw(frame.lines())
