"""Requests to read the configuration again: one at a time, and all that come while one is being read are one more.

A reload that cannot be done changes nothing: everything is read, compiled and opened before anything is swapped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import time as wall_clock  # noqa: TID251  # the operator reads it

import trio

from proxy.admin.views import Reload
from proxy.config import ConfigError, Loaded, files_of
from proxy.net.accept import CannotListen
from proxy.service import parts, privileges, systemd
from proxy.service.changes import Changes
from proxy.telemetry.events import Events


class Source:
    """Where a configuration comes from, and how it is read again.

    To be made before it is read the first time, so that no change is missed. ``read`` raises `ConfigError`.
    """

    def __init__(self, path: str | None, read: Callable[[], Loaded]) -> None:
        self.path = path
        self.read = read
        self.changes = Changes(lambda: files_of(path)) if path is not None else None


class _Round:
    """One reload, and those who wait for it."""

    def __init__(self) -> None:
        self.asked, self.done = trio.Event(), trio.Event()
        self.result: Reload | None = None


class Reloads:
    """All reloads of a program. ``apply`` makes a configuration the one in force, and says what that has changed.

    It raises `CannotListen`, and then it has changed nothing.
    """

    def __init__(
        self, source: Source | None, apply: Callable[[Loaded], Awaitable[list[str]]], events: Events
    ) -> None:
        self.last: Reload | None = None
        self.done = self.refused = 0
        self._source = source
        self._apply = apply
        self._events = events
        self._next = _Round()

    def ask(self) -> None:
        """One is wanted: it will read what the files hold now, or later."""
        self._next.asked.set()

    async def reload(self) -> Reload:
        """The same; what became of it."""
        turn = self._next
        self.ask()
        await turn.done.wait()
        assert turn.result is not None
        return turn.result

    async def run(self) -> None:
        """Do them, until cancelled."""
        while True:
            await self._next.asked.wait()
            turn, self._next = self._next, _Round()
            systemd.notify(systemd.reloading())
            turn.result = self.last = await self._once()
            systemd.notify(systemd.READY)
            turn.done.set()

    async def follow_files(self) -> None:
        """Ask for one whenever the files have changed, until cancelled."""
        if self._source is None or self._source.changes is None:
            return
        async for paths in self._source.changes:
            self._events.say("config_changed", files=list(paths))
            self.ask()

    async def _once(self) -> Reload:
        if self._source is None:
            return self._refuse(["there is no configuration to read again"])
        if self._source.changes is not None:
            self._source.changes.seen()
        privileges.hide()
        try:
            loaded = await trio.to_thread.run_sync(self._source.read)
            parts.fetch(loaded.snapshot)
            privileges.harden(secrets=privileges.holds_secrets(loaded.snapshot))
            changed = await self._apply(loaded)
        except ConfigError as error:
            return self._refuse([str(mistake) for mistake in error.mistakes])
        except CannotListen as failure:
            return self._refuse([str(failure)])
        except Exception as fault:  # noqa: BLE001  # what runs must not end because something new cannot begin
            self._events.background_fault("reload", fault)
            return self._refuse(
                [f"this is a mistake of ours, please report it: {type(fault).__name__}: {fault}"]
            )
        self.done += 1
        self._events.say("reloaded", changed=changed)
        return Reload(
            at=wall_clock(), ok=True, changed=changed, warnings=[str(warning) for warning in loaded.warnings]
        )

    def _refuse(self, mistakes: list[str]) -> Reload:
        self.refused += 1
        privileges.harden(secrets=False)  # as it was before
        self._events.warn("not_reloaded", why="\n".join(mistakes))
        return Reload(at=wall_clock(), ok=False, mistakes=mistakes)
