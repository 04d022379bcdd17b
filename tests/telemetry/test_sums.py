from __future__ import annotations

from proxy.telemetry.counters import Counters
from proxy.telemetry.region import DURATION_BOUNDS, Block, OfWay, Region
from proxy.telemetry.sums import add_all, add_up, fold, histogram
from tests.admin.house import a_record


def test_nothing_counted() -> None:
    assert not any(add_up([]).total)
    assert not any(add_all([]))


def test_what_others_have_counted_is_folded_into_one() -> None:
    several = [Counters(), Counters()]
    for number, counters in enumerate(several):
        for _ in range(number + 1):
            counters.accepted("a")
            counters.ended(a_record(listener="a", cluster=f"c{number}", saved=0.25))
            counters.refused("a", "too_many")
        counters.of_process(lines_lost=2, stalls=1, stalled=0.5, longest=0.1 + number)
        counters.accepted("open")
        counters.region.former = True
    whole, regions = Region(), [counters.region for counters in several]
    assert fold(regions, whole)
    before, after = add_up(regions), add_up([whole])
    assert after == before
    assert after.processes == [4, 2, 1.0, 1.1], "of the longest stalls the longer one"
    assert after.of_listener("a")[OfWay.SECONDS_SAVED] == 0.75
    assert after.refused == {("a", "too_many"): 3}
    assert after.listeners["open"] == [2, 0], "whoever was open is not any more"


def test_where_it_does_not_fit_it_says_so() -> None:
    full, other = Region(), Region()
    while full.add(Block.WAY, (f"listener-{full.integers[2]}", "cluster")) is not None:
        pass
    other.add(Block.WAY, ("one", "more"))
    assert not fold([full, other], Region())


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
