"""Work beside the service: warm-ups and health checks of the clusters that are configured just now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from proxy.core.snapshot import Cluster
from proxy.core.warming import Warming
from proxy.service.checks import Checks
from proxy.service.warmup import WarmUp
from proxy.telemetry.events import Events


class Tending:
    """Of one worker."""

    def __init__(self, warm_up: WarmUp, checks: Checks, events: Events) -> None:
        self._warm_up, self._checks, self._events = warm_up, checks, events
        self._clusters: list[Cluster] | None = None
        self._scope = trio.CancelScope()

    def follow(self, nursery: trio.Nursery, clusters: list[Cluster]) -> None:
        """Look after these from now on; where they are the same as before, warm them once more."""
        if clusters == self._clusters:
            self._warm_up.again()
            return
        self._scope.cancel()
        self._clusters, self._scope = clusters, trio.CancelScope()
        nursery.start_soon(self._until_cancelled, clusters, self._scope)

    def again(self) -> None:
        """Fetch the cookies that are missing, as at the start."""
        self._warm_up.again()

    @property
    def warming(self) -> Warming | None:
        """How far the warm-up has come; None where there is nobody to be warmed."""
        return self._warm_up.warming

    def stop(self) -> None:
        """Nobody will be dialled any more."""
        self._scope.cancel()

    async def beside(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """What the service can do without must not end it: a mistake there is logged, and it is given up."""
        try:
            await work()
        except Exception as fault:  # noqa: BLE001  # whatever it is
            self._events.background_fault(name, fault)

    async def _until_cancelled(self, clusters: list[Cluster], scope: trio.CancelScope) -> None:
        with scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.beside, "warm-up", partial(self._warm_up.keep, clusters))
                nursery.start_soon(self.beside, "health checks", partial(self._checks.run, clusters))
