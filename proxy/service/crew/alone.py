"""One worker in the supervisor's own process: a sidecar is one process."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from time import time as wall_clock  # noqa: TID251  # the operator reads it

import trio

from proxy.admin import portrait, views
from proxy.admin.house import Census
from proxy.core.address import Endpoint
from proxy.core.availability import Outages
from proxy.core.snapshot import Snapshot
from proxy.core.spares import SparesData
from proxy.core.warming import Warming
from proxy.service.listeners import Listeners, server_bit
from proxy.service.memory import Memory
from proxy.service.worker import Worker
from proxy.sessions.session import Session
from proxy.telemetry.counters import Counters
from proxy.telemetry.events import Events
from proxy.telemetry.region import Region

OLDEST = 100  # open sessions that are shown
MOST_CLUSTERS = 10_000


class Alone:
    """A `Crew` of one."""

    def __init__(self, snapshot: Snapshot, memory: Memory, events: Events) -> None:
        counters = Counters(_region())
        self.worker = Worker(snapshot, memory, events, takes_syn_data=server_bit(), counters=counters)
        self.regions: Sequence[Region] = (counters.region,)
        self._began = trio.current_time()
        self._draining = False

    async def run(
        self, listeners: Listeners, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """As `Crew.run`."""
        await self.worker.run(listeners.shares[0], task_status)

    async def swap(self, snapshot: Snapshot, listeners: Listeners) -> None:
        """As `Crew.swap`."""
        self.worker.swap(snapshot, listeners.shares[0], takes_syn_data=server_bit())

    async def leave(self) -> None:
        """As `Crew.leave`."""
        self._draining = True
        self.worker.leave()

    async def drain(self, limit: float) -> int:
        """As `Crew.drain`."""
        self._draining = True
        return await self.worker.drain(limit)

    def cut_off(self) -> None:
        """As `Crew.cut_off`."""
        self.worker.hurry()

    def warm_up(self) -> None:
        """As `Crew.warm_up`."""
        self.worker.tending.again()

    def warming(self) -> Warming | None:
        """As `Crew.warming`."""
        return self.worker.tending.warming

    def set_level(self, level: str) -> None:
        """The supervisor's log is ours."""

    def workers(self) -> Sequence[views.Worker]:
        """As `Crew.workers`."""
        state = "draining" if self._draining else "ready"
        one = views.Worker(
            number=0,
            pid=os.getpid(),
            state=state,
            open=len(self.worker.sessions),
            restarts=0,
            began=wall_clock() - (trio.current_time() - self._began),
            tasks=trio.lowlevel.current_statistics().tasks_living,
        )
        return (one,)

    def census(self) -> Census:
        """As `Crew.census`."""
        return census(self.worker.sessions)

    def recent(self) -> Sequence[views.Session]:
        """As `Crew.recent`."""
        now, wall = trio.current_time(), wall_clock()
        return [portrait.session(record, now, wall) for record in self.worker.recent]

    def health(self, endpoint: Endpoint) -> bool | None:
        """As `Crew.health`."""
        return self.worker.pools.health(endpoint)

    def outages(self) -> Mapping[str, Outages]:
        """As `Crew.outages`."""
        return self.worker.pools.outages(MOST_CLUSTERS)

    def spares(self) -> SparesData:
        """As `Crew.spares`."""
        return self.worker.spares.plain()


def _region() -> Region:
    """One that a successor can be given, where the system has such memory."""
    try:
        return Region.create()
    except OSError:
        return Region()


def census(sessions: set[Session]) -> Census:
    """What is open: all of it by way, and the oldest by name."""
    now, wall = trio.current_time(), wall_clock()
    by_way = Counter(
        (session.record.listener, session.record.cluster, session.record.endpoint) for session in sessions
    )
    oldest = sorted((session.record for session in sessions), key=lambda record: record.began)[:OLDEST]
    return Census(by_way, [portrait.session(record, now, wall, is_open=True) for record in oldest])
