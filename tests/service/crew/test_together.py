"""What workers report, as one."""

from __future__ import annotations

from dataclasses import asdict

import msgspec

from proxy.core.address import Endpoint
from proxy.core.availability import Outages
from proxy.core.warming import Warming, Warmth
from proxy.service.crew import orders, together

ONE, OTHER = Endpoint("192.0.2.1", 80), Endpoint("192.0.2.2", 80)
NOTHING = orders.Report([], [], [], [], [], [], [], (0, 0, 0))
FIRST = msgspec.structs.replace(
    NOTHING,
    open=[("a", "c", ONE, 2)],
    health=[(ONE, True), (OTHER, True)],
    outages={"c": Outages(2, frozenset({ONE})), "d": Outages(1)},
    spares=(1, 2, 3),
    warming=Warming(1.0, 1.0, True, 2, {Warmth.FETCHED: 2}),
)
SECOND = msgspec.structs.replace(
    NOTHING,
    open=[("a", "c", ONE, 1), ("a", "c", None, 1)],
    health=[(ONE, False)],
    outages={"c": Outages(3, frozenset(), frozenset({OTHER}))},
    spares=(1, 0, 0),
    warming=Warming(2.0, 1.0, False, 3, {Warmth.FETCHED: 1}),
)
BOTH = [FIRST, SECOND]


def test_sums() -> None:
    assert together.census(BOTH).by_way == {("a", "c", ONE): 3, ("a", "c", None): 1}
    assert together.spares(BOTH) == {"ready": 2, "taken": 2, "wasted": 3}
    warming = together.warm_up([*BOTH, NOTHING])
    assert warming is not None
    assert (warming.over, warming.endpoints, warming.done) == (False, 5, 3)


def test_whoever_finds_trouble_is_believed() -> None:
    assert together.health(BOTH, ONE) is False
    assert together.health(BOTH, OTHER) is True
    assert together.health(BOTH, Endpoint("192.0.2.3", 80)) is None
    assert {name: asdict(one) for name, one in together.outages(BOTH).items()} == {
        "c": {"members": 3, "down": {ONE}, "ejected": {OTHER}, "failing": set(), "troubles": {}},
        "d": {"members": 1, "down": set(), "ejected": set(), "failing": set(), "troubles": {}},
    }


def test_nobody_has_reported() -> None:
    assert together.census([]).by_way == {}
    assert together.spares([]) == {"ready": 0, "taken": 0, "wasted": 0}
    assert together.warm_up([NOTHING]) is None
    assert together.outages([NOTHING]) == {}
