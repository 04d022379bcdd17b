from __future__ import annotations

from proxy.telemetry.counters import Counters
from proxy.telemetry.region import DURATION_BOUNDS, OfWay
from proxy.telemetry.sums import add_all, add_up, histogram
from tests.admin.house import a_record


def test_nothing_counted() -> None:
    assert not any(add_up([]).total)
    assert not any(add_all([]))


def test_by_listener_and_by_cluster() -> None:
    counters = Counters()
    for listener, cluster in (("a", "x"), ("a", "y"), ("b", "x")):
        counters.accepted(listener)
        counters.ended(a_record(listener=listener, cluster=cluster))
    sums = add_up([counters.region])
    assert sums.of_listener("a")[OfWay.SESSIONS] == sums.of_cluster("x")[OfWay.SESSIONS] == 2
    assert sums.endings_of() == {("upstream", "relay", "closed"): 3}
    assert sums.endings_of(listener="a", cluster="x") == {("upstream", "relay", "closed"): 1}


def test_a_histogram() -> None:
    counters = Counters()
    for duration in (0.001, 0.2, 1e6):
        counters.accepted("a")
        counters.ended(a_record(duration=duration))
    total, counts = histogram(add_up([counters.region]).total, OfWay.DURATION, len(DURATION_BOUNDS) + 1)
    assert total == 0.001 + 0.2 + 1e6
    assert (counts[0], counts[3], counts[-1], sum(counts)) == (1, 1, 1, 3)
