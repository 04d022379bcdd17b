"""The reference of the metrics is what is exposed."""

from __future__ import annotations

import re

from docs.write_metrics import PAGE, all_families, write
from proxy.admin import views
from proxy.admin.metrics import Metrics
from proxy.admin.portrait import Portrait
from proxy.core.outcomes import Reason
from proxy.core.warming import Warming
from tests.admin.house import SmallHouse, a_record


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == write(), "run `python -m docs.write_metrics`"


async def test_what_is_exposed_is_told_with_its_kind_and_labels() -> None:
    house = SmallHouse()
    house.had(a_record(1))
    house.had(a_record(2, reason=Reason.REFUSED))
    house.counters.refused("web", "limited")
    house.warmed = Warming(0.0, 1.0, over=False, endpoints=2)
    house.last = views.Reload(at=1.0, ok=True)
    metrics = Metrics(house, Portrait(house, lambda: 1e9))
    metrics.answered(200)
    text = (await metrics.expose(open_metrics=False))[0].decode()
    told = {family.name: family for group in all_families().values() for family in group}
    exposed = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    assert {name: family.kind for name, family in told.items()} == exposed
    for name, family in told.items():
        pattern = rf"^{name}(?:_bucket|_sum|_count)?(?:\{{(.*)\}})? \S+$"
        found = [
            set(re.findall(r"(\w+)=\"", braces)) - {"le"}
            for braces in re.findall(pattern, text, re.MULTILINE)
        ]
        assert all(labels == set(family.labels) for labels in found), (name, found)
        assert found or name in {"tfoproxy_endpoint_healthy", "tfoproxy_endpoint_rtt_seconds"}, name
