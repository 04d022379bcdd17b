"""What several workers have reported, as if it were one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from proxy.admin import views
from proxy.admin.house import Census
from proxy.core import warming
from proxy.core.address import Endpoint
from proxy.core.availability import Outages
from proxy.core.spares import SparesData
from proxy.service.crew.orders import Report


def census(reports: Sequence[Report]) -> Census:
    """The sessions that are open."""
    by_way: Counter[tuple[str, str, Endpoint | None]] = Counter()
    oldest: list[views.Session] = []
    for report in reports:
        for listener, cluster, endpoint, count in report.open:
            by_way[listener, cluster, endpoint] += count
        oldest += report.oldest
    return Census(by_way, sorted(oldest, key=lambda session: session.began))


def health(reports: Sequence[Report], endpoint: Endpoint) -> bool | None:
    """What health checks say; down where any of them has found it so."""
    found = [healthy for report in reports for checked, healthy in report.health if checked == endpoint]
    return all(found) if found else None


def outages(reports: Sequence[Report]) -> dict[str, Outages]:
    """Whom any of them leaves alone, by cluster."""
    sums: dict[str, Outages] = {}
    for report in reports:
        for name, found in report.outages.items():
            sums[name] = found | sums[name] if name in sums else found
    return sums


def spares(reports: Sequence[Report]) -> SparesData:
    """What became of spare connections."""
    ready, taken, wasted = (sum(report.spares[n] for report in reports) for n in range(3))
    return {"ready": ready, "taken": taken, "wasted": wasted}


def warm_up(reports: Sequence[Report]) -> warming.Warming | None:
    """How far all of them have come."""
    return warming.together(report.warming for report in reports if report.warming is not None)
