"""Work beside the service: warm-ups and health checks of the clusters that are configured just now."""

from __future__ import annotations

from functools import partial

import trio

from proxy.core.snapshot import Cluster
from proxy.core.warming import Warming
from proxy.service.checks import Checks
from proxy.service.supervised import keep_running
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

    async def _until_cancelled(self, clusters: list[Cluster], scope: trio.CancelScope) -> None:
        with scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    keep_running, "warm-up", partial(self._warm_up.keep, clusters), self._events
                )
                for cluster in clusters:
                    if cluster.health is not None:
                        check = partial(self._checks.run, cluster, cluster.health)
                        nursery.start_soon(keep_running, "health checks", check, self._events)
