from __future__ import annotations

import msgspec
import pytest
import trio

from proxy.admin import portrait, views
from proxy.core.address import Authority, Endpoint
from proxy.core.availability import Outages
from proxy.core.clusters import Via
from proxy.core.snapshot import Cluster, Snapshot
from proxy.core.warming import Warming, Warmth
from proxy.telemetry.events import session_fields
from tests.admin.house import HERE, SmallHouse, a_record


def test_a_session_says_what_its_log_line_says() -> None:
    record = a_record(
        7, authority=Authority("example.com", 443), user="alice", waited=0.01, mode="socks5", lost=0.0
    )
    view = portrait.session(record, now=101.0, wall=1e9)
    shown = msgspec.to_builtins(view)
    logged = session_fields(record)
    for name in ("id", "listener", "client", "cluster", "endpoint", "authority", "user", "up_bytes", "down_bytes",
                 "evidence", "open", "saved", "first_byte", "waited", "ended_by", "during", "reason"):  # fmt: skip
        assert shown[name] == logged[name], name
    assert (view.began, view.duration, view.is_open) == (1e9 - 1.0, 0.25, False)


def test_an_open_session_has_no_ending() -> None:
    view = portrait.session(a_record(), now=103.5, wall=1e9, is_open=True)
    assert (view.ended_by, view.reason, view.duration) == ("", "", 3.5)


async def test_endpoints_that_were_only_heard_of() -> None:
    house = SmallHouse()
    house.had(a_record())
    for port in range(1, 5):
        house.standings.get(Endpoint("192.0.2.1", port))
    made = portrait.Portrait(house, lambda: 1e9)
    assert [one.endpoint for one in made.endpoints(3).endpoints] == [str(HERE), "192.0.2.1:4", "192.0.2.1:3"]
    assert made.endpoints(3).total == 5
    assert made.endpoints(0).endpoints == []


async def test_how_far_the_warm_up_has_come() -> None:
    house = SmallHouse()
    made = portrait.Portrait(house, lambda: 1e9)
    assert made.status().warm_up is None
    house.warmed = Warming(trio.current_time() - 3.0, 3.0, False, 7, {Warmth.FETCHED: 2, Warmth.DROPPED: 1})
    shown = made.status().warm_up
    assert shown is not None
    assert shown.began == pytest.approx(1e9 - 3.0, abs=0.1)
    assert (shown.seconds, shown.is_over, shown.endpoints, shown.waiting) == (3.0, False, 7, 4)
    assert (shown.fetched, shown.held, shown.no_fast_open, shown.dropped, shown.unreachable) == (
        2,
        0,
        0,
        1,
        0,
    )


async def test_clusters_and_whom_nobody_is_sent_to() -> None:
    other, gateway = Endpoint("203.0.113.11", 443), Endpoint("192.0.2.9", 1080)
    api = Cluster("api", (HERE, other))
    chained = Cluster("chained", (HERE,), via=Via("socks", gateway))
    house = SmallHouse(Snapshot((), {"api": api, "chained": chained, "one": Cluster("one", (HERE,))}))
    made = portrait.Portrait(house, lambda: 1e9)

    def shown() -> dict[str, tuple[int | None, list[str], list[str]]]:
        return {one.name: (one.members, one.down, one.ejected) for one in made.clusters().clusters}

    nothing: list[str] = []
    assert shown() == {
        "api": (None, nothing, nothing), "chained": (None, nothing, nothing), "one": (1, nothing, nothing),
        "direct": (None, nothing, nothing),
    }  # fmt: skip
    house.out = {
        "api": Outages(2, frozenset({HERE}), frozenset({other})),
        f"chained via {gateway}": Outages(1),
    }
    assert shown()["api"] == (2, [str(HERE)], [str(other)])
    assert shown()["chained"] == (1, nothing, nothing), "the gateway is what is dialled"


async def test_notes_for_the_operator() -> None:
    house = SmallHouse()
    made = portrait.Portrait(house, lambda: 1e9)
    assert made.status().notes == []
    house.state, house.last = "draining", views.Reload(at=0.0, ok=False)
    notes = made.status().notes
    assert len(notes) == 2
    assert all(note.endswith(".") for note in notes)


async def test_ten_thousand_endpoints_are_cheap_to_show() -> None:
    """Counted, not timed: only as many accounts are touched as are shown."""
    house = SmallHouse()
    for number in range(10_000):
        endpoint = Endpoint(f"10.0.{number >> 8}.{number & 255}", 443)
        house.ledger.add(a_record(number, endpoint=endpoint))
        house.standings.get(endpoint)
    shown = portrait.Portrait(house, lambda: 1e9).endpoints(200)
    assert (len(shown.endpoints), shown.total) == (200, 10_001), "and the one of the configuration"
    assert shown.endpoints[0].endpoint == "10.0.39.15:443"
