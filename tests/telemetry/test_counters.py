from __future__ import annotations

import pytest

from proxy.core.outcomes import EndedBy, Reason, Stage
from proxy.telemetry.counters import Counters
from proxy.telemetry.region import OfListener, OfWay, Region
from proxy.telemetry.sums import add_up
from tests.admin.house import a_record


def test_counters_survive_their_worker() -> None:
    region = Region()
    first = Counters(region)
    for number in range(3):
        first.accepted("web")
        if number:
            first.ended(a_record(number))
    first.refused("web", "too_many")
    before = add_up([region])
    assert before.listeners["web"] == [4, 1]
    second = Counters(region)
    assert add_up([region]).listeners["web"] == [4, 0], "its open sessions are gone with it"
    second.accepted("web")
    second.ended(a_record(9))
    second.refused("web", "too_many")
    after = add_up([region])
    assert after.listeners["web"] == [6, 0]
    assert after.ways["web", "api"][OfWay.SESSIONS] == 3
    assert after.refused == {("web", "too_many"): 2}
    assert after.endings["web", "api"] == {("upstream", "relay", "closed"): 3}
    for numbers, earlier in ((after.total, before.total),):
        assert all(one >= other for one, other in zip(numbers, earlier, strict=True))


def test_workers_add_up() -> None:
    regions = [Region(), Region()]
    for region in regions:
        counters = Counters(region)
        counters.accepted("web")
        counters.ended(a_record())
    sums = add_up(regions)
    assert sums.ways["web", "api"][OfWay.SESSIONS] == 2
    assert sums.listeners["web"][OfListener.CONNECTIONS] == 2
    assert sums.total[OfWay.SECONDS_SAVED] == pytest.approx(0.2)
    assert sums.of_listener("web") == sums.of_cluster("api") == sums.total
    assert sums.of_listener("nobody")[OfWay.SESSIONS] == 0


def test_where_there_is_no_room_it_is_counted_as_other() -> None:
    counters = Counters()
    for number in range(2000):
        counters.accepted(f"listener-{number}")
        counters.ended(a_record(number, listener=f"listener-{number}"))
    sums = add_up([counters.region])
    assert sums.total[OfWay.SESSIONS] == 2000
    assert sum(numbers[OfListener.CONNECTIONS] for numbers in sums.listeners.values()) == 2000
    assert sum(numbers[OfListener.OPEN] for numbers in sums.listeners.values()) == 0
    assert sums.ways["other", "other"][OfWay.SESSIONS] > 0
    assert Counters(counters.region).region is counters.region


def test_many_at_once_are_as_one_by_one() -> None:
    records = [
        a_record(number, listener=listener, cluster=cluster, up_bytes=number, duration=number / 7)
        for number, (listener, cluster) in enumerate(
            [("web", "api"), ("web", "api"), ("web", "db"), ("mail", "api"), ("web", "api")]
        )
    ]
    together, apart = Counters(), Counters()
    for counters in (together, apart):
        for record in records:
            counters.accepted(record.listener)
    together.ended(*records)
    together.ended()
    for record in records:
        apart.ended(record)
    ones, others = add_up([together.region]), add_up([apart.region])
    assert ones.listeners == others.listeners
    assert ones.listeners["web"] == [4, 0]
    assert ones.endings == others.endings
    for way, numbers in others.ways.items():
        assert ones.ways[way] == pytest.approx(numbers)


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("ended_by", list(EndedBy))
def test_every_ending_has_its_counter(ended_by: EndedBy, reason: Reason) -> None:
    counters = Counters()
    counters.accepted("web")
    counters.ended(a_record(ended_by=ended_by, during=Stage.ROUTE, reason=reason))
    counters = Counters(counters.region)
    counters.accepted("web")
    counters.ended(a_record(ended_by=ended_by, during=Stage.ROUTE, reason=reason))
    assert add_up([counters.region]).endings["web", "api"] == {(ended_by, "route", reason): 2}
