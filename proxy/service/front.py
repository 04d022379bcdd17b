"""What the supervisor shows: the reading half of the admin's `House`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxy.admin import views
from proxy.admin.house import Census
from proxy.config import Loaded
from proxy.config.render import render
from proxy.core.address import Endpoint
from proxy.core.availability import Outages
from proxy.core.ledger import Ledger
from proxy.core.snapshot import Snapshot
from proxy.core.standings import Standings
from proxy.core.warming import Warming
from proxy.service import bequest
from proxy.service.crew import Crew
from proxy.service.listeners import Listeners, places
from proxy.service.memory import Memory
from proxy.telemetry.region import Region


class Front:
    """The whole program, for those who only look."""

    state: views.State = "starting"

    def __init__(self, loaded: Loaded, level: str, memory: Memory, listeners: Listeners, crew: Crew) -> None:
        self.snapshot: Snapshot = loaded.snapshot
        self.config_path: str | None = loaded.path
        self.log_level: str = level
        self._config = loaded.config
        self._memory, self._listeners, self._crew = memory, listeners, crew
        self._bequest = bequest.inherited()
        self._bequest.add_to(memory.ledger)

    @property
    def standings(self) -> Standings:
        """What is believed of the endpoints."""
        return self._memory.standings

    @property
    def ledger(self) -> Ledger:
        """The account of all endpoints."""
        return self._memory.ledger

    @property
    def regions(self) -> Sequence[Region]:
        """The counters of every worker, and of the programs before this one."""
        return [*self._crew.regions, *self._bequest.regions]

    @property
    def since(self) -> float:
        """When they began."""
        return self._bequest.since

    def places(self) -> Mapping[str, Sequence[views.Place]]:
        """Where each listener listens."""
        found: dict[str, list[views.Place]] = {listener.name: [] for listener in self.snapshot.listeners}
        if self._listeners.shares and self.state != "draining":
            for listener, where, takes in places(self.snapshot, self._listeners.shares[0]):
                found[listener.name].append(views.Place(bind=where, fast_open=takes))
        return found

    def workers(self) -> Sequence[views.Worker]:
        """The processes that serve."""
        return self._crew.workers()

    def census(self) -> Census:
        """What is open now."""
        return self._crew.census()

    def recent(self) -> Sequence[views.Session]:
        """What has ended lately."""
        return self._crew.recent()

    def health(self, endpoint: Endpoint) -> bool | None:
        """What health checks say."""
        return self._crew.health(endpoint)

    def outages(self) -> Mapping[str, Outages]:
        """Whom nobody is sent to just now."""
        return self._crew.outages()

    def warming(self) -> Warming | None:
        """How far the warm-up has come."""
        return self._crew.warming()

    def config_text(self) -> str:
        """As ``tfo-proxy show`` prints it."""
        return render(self._config)
