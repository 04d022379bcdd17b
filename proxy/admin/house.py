"""What the admin asks of the program it lives in. The supervisor answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from proxy.admin import views
from proxy.core.address import Endpoint
from proxy.core.availability import Outages
from proxy.core.ledger import Ledger
from proxy.core.snapshot import Snapshot
from proxy.core.standings import Standings
from proxy.core.warming import Warming
from proxy.telemetry.region import Region


class Census(NamedTuple):
    """Sessions that are open now: how many, by listener, cluster and endpoint (None: not dialled yet)."""

    by_way: Mapping[tuple[str, str, Endpoint | None], int]
    oldest: Sequence[views.Session]  # some of them, the oldest first; may be empty


class House(Protocol):
    """All of it is called in trio's loop, about once a second; nothing here may block, nothing but `reload` waits.

    With several workers these are the supervisor's sums: what the workers have reported so far.
    """

    @property
    def snapshot(self) -> Snapshot:
        """The one that new sessions get."""
        ...

    @property
    def standings(self) -> Standings:
        """What is believed of the endpoints."""
        ...

    @property
    def ledger(self) -> Ledger:
        """Asked for its endpoints only: all other sums come from `regions`."""
        ...

    @property
    def config_path(self) -> str | None:
        """The file; None where there are flags only."""
        ...

    @property
    def log_level(self) -> str:
        """The least important lines that are logged now."""
        ...

    @property
    def state(self) -> views.State:
        """``ready`` once every listener is open, ``draining`` from the moment a drain was asked for."""
        ...

    @property
    def regions(self) -> Sequence[Region]:
        """The counters of every worker there is or was: a worker that is replaced takes over its region."""
        ...

    @property
    def since(self) -> float:
        """When these began to count, in trio's time: before this program, where that has taken over from another."""
        ...

    def places(self) -> Mapping[str, Sequence[views.Place]]:
        """Where each listener really listens, and whether the kernel takes SYN data there."""
        ...

    def workers(self) -> Sequence[views.Worker]:
        """The processes that serve."""
        ...

    def census(self) -> Census:
        """What is open now."""
        ...

    def recent(self) -> Sequence[views.Session]:
        """Sessions that ended lately, the last one last; a bounded ring (`portrait.session` makes one)."""
        ...

    def health(self, endpoint: Endpoint) -> bool | None:
        """What health checks say of an endpoint; None: nobody checks it."""
        ...

    def outages(self) -> Mapping[str, Outages]:
        """Endpoints that nobody is sent to just now, by cluster; through a gateway: ``cluster via gateway``."""
        ...

    def warming(self) -> Warming | None:
        """How far the warm-up has come; None: there is nobody to be warmed."""
        ...

    def last_reload(self) -> views.Reload | None:
        """What became of the last reload, whoever asked for it; None: there was none."""
        ...

    def reloads(self) -> tuple[int, int]:
        """How many were done, and how many were refused, so far."""
        ...

    def config_text(self) -> str:
        """The configuration in force as `tfo-proxy show` prints it, secrets hidden."""
        ...

    async def reload(self) -> views.Reload:
        """Read the configuration again and swap, or say what is wrong with it; one at a time."""
        ...

    def drain(self) -> None:
        """Begin to drain, as SIGTERM does."""
        ...

    def set_level(self, level: str) -> None:
        """Log from this level on, in every worker."""
        ...
