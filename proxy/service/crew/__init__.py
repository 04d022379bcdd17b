"""Those who serve: one worker inside the supervisor's own process, or several processes of their own.

``alone``    one worker, here: the default, with no process beside it
``team``     several workers; the supervisor's side
``hand``     one worker process, as the supervisor knows it
``shift``    one worker process, as it knows itself
``together`` what all of them have reported, as one
``orders``   what the two sides say to each other
``channel``  how it gets across, descriptors included
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import trio

from proxy.admin import views
from proxy.admin.house import Census
from proxy.core.address import Endpoint
from proxy.core.availability import Outages
from proxy.core.snapshot import Snapshot
from proxy.core.spares import SparesData
from proxy.core.warming import Warming
from proxy.service.listeners import Listeners
from proxy.telemetry.region import Region


class Crew(Protocol):
    """The workers, however many, as the supervisor sees them."""

    regions: Sequence[Region]

    async def run(
        self, listeners: Listeners, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled or drained; ready when every worker accepts."""
        ...

    async def swap(self, snapshot: Snapshot, listeners: Listeners) -> None:
        """Serve another snapshot from now on, on these sockets; running sessions keep theirs."""
        ...

    async def leave(self) -> None:
        """Accept no more, but for those that wait already."""
        ...

    async def drain(self, limit: float) -> int:
        """The same, wait for the sessions that run, end those that last longer; how many had to be ended."""
        ...

    def cut_off(self) -> None:
        """End the wait of `drain` now."""
        ...

    def warm_up(self) -> None:
        """Fetch the cookies that are missing."""
        ...

    def warming(self) -> Warming | None:
        """How far they have come with that; None where there is nobody to be warmed."""
        ...

    def set_level(self, level: str) -> None:
        """Log from this level on."""
        ...

    def workers(self) -> Sequence[views.Worker]:
        """One line for each."""
        ...

    def census(self) -> Census:
        """The sessions that are open."""
        ...

    def recent(self) -> Sequence[views.Session]:
        """Those that ended lately, the last one last."""
        ...

    def health(self, endpoint: Endpoint) -> bool | None:
        """What health checks say; None: there are none."""
        ...

    def outages(self) -> Mapping[str, Outages]:
        """Endpoints that are left alone just now, by cluster as it is dialled (`Pools.of`), if it has been."""
        ...

    def spares(self) -> SparesData:
        """What became of spare connections."""
        ...
