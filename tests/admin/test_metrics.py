"""The exposition, judged by Prometheus' own tools and parsers."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from proxy.admin import metrics, views
from proxy.core.address import Endpoint
from proxy.core.evidence import Evidence
from proxy.core.outcomes import EndedBy, Reason, Stage
from proxy.core.warming import Warming, Warmth
from tests.admin.house import HERE, SmallHouse, a_record, admin_of, ask

OPEN_METRICS = {"Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.1"}


def busy_house() -> SmallHouse:
    house = SmallHouse()
    for number, evidence in enumerate(Evidence):
        house.had(
            a_record(number, evidence=evidence, hedged=True, waited=0.01, early_bytes=number % 2, lost=0.25)
        )
    house.had(a_record(98, spare=True, dead_spare=0.0, duplicate=True, redialled=True, repeated_bytes=7))
    house.had(a_record(99, evidence=None, endpoint=None, first_byte=None, saved=0.0, ended_by=EndedBy.PROXY,
        during=Stage.ROUTE, reason=Reason.DENIED))  # fmt: skip
    house.counters.refused("web", "too_many")
    house.standings.get(HERE).learn_rtt(0.1)
    house.last = views.Reload(at=5.0, ok=False, mistakes=["x"])
    house.warmed = Warming(1.0, 3.0, False, 7, {Warmth.HELD: 2, Warmth.UNREACHABLE: 1})
    return house


def values(text: str) -> dict[str, float]:
    """Samples by name and labels."""
    found: dict[str, float] = {}
    for family in parse_text(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


async def test_what_the_numbers_are() -> None:
    async with admin_of(busy_house()) as where:
        reply = await ask(where, "/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = values(reply.body.decode())
    way = "listener=web,upstream=api"
    many = len(Evidence)
    assert found[f"tfoproxy_sessions_total{{{way}}}"] == many + 2
    assert found[f"tfoproxy_sessions_failed_total{{{way}}}"] == 2
    assert found[f"tfoproxy_up_bytes_total{{{way}}}"] == 100 * (many + 2)
    assert found[f"tfoproxy_hedges_total{{{way}}}"] == many
    assert found[f"tfoproxy_redials_total{{{way}}}"] == 1
    assert found[f"tfoproxy_repeated_bytes_total{{{way}}}"] == 7
    assert found[f"tfoproxy_duplicate_syns_total{{{way}}}"] == 1
    assert found[f"tfoproxy_spares_used_total{{{way}}}"] == 1
    assert found[f"tfoproxy_saved_round_trips_total{{{way}}}"] == many + 1
    assert found[f"tfoproxy_lost_seconds_total{{{way}}}"] == pytest.approx(0.25 * many)
    assert found[f"tfoproxy_first_byte_waits_total{{{way}}}"] == many
    assert found[f"tfoproxy_first_byte_wait_timeouts_total{{{way}}}"] == (many + 1) // 2
    assert found["tfoproxy_dials_total{evidence=silent,listener=web,upstream=api}"] == 1
    assert found[f"tfoproxy_first_byte_seconds_count{{{way},way=spare}}"] == 1
    assert (
        found[f"tfoproxy_first_byte_seconds_bucket{{{'le=+Inf,listener=web,upstream=api'},way=fast_open}}"]
        == 2
    )
    assert found[f"tfoproxy_session_duration_seconds_sum{{{way}}}"] == pytest.approx(0.25 * (many + 2))
    assert found["tfoproxy_connections_total{listener=web}"] == many + 3
    assert found["tfoproxy_open_sessions{listener=web}"] == 0
    assert found["tfoproxy_refused_total{listener=web,reason=denied}"] == 1
    assert found["tfoproxy_refused_total{listener=web,reason=too_many}"] == 1
    ending = "during=route,ended_by=proxy,listener=web,reason=denied,upstream=api"
    assert found[f"tfoproxy_endings_total{{{ending}}}"] == 1
    assert found[f"tfoproxy_endpoint_standing{{endpoint={HERE},standing=unknown}}"] == 1
    assert found[f"tfoproxy_endpoint_rtt_seconds{{endpoint={HERE}}}"] == pytest.approx(0.1)
    assert found["tfoproxy_config_last_reload_successful{}"] == 0
    assert found["tfoproxy_ready{}"] == 1
    assert found["process_open_fds{}"] > 3
    assert found["tfoproxy_worker_up{worker=0}"] == 1
    assert found["tfoproxy_worker_tasks{worker=0}"] == 9
    for outcome, number in {"waiting": 4, "fetched": 0, "held": 2, "unreachable": 1}.items():
        assert found[f"tfoproxy_warm_up_endpoints{{outcome={outcome}}}"] == number
    assert found["tfoproxy_warm_up_seconds{}"] == 3.0


async def test_prometheus_own_parsers_take_both_forms() -> None:
    async with admin_of(busy_house()) as where:
        text = (await ask(where, "/metrics")).body.decode()
        reply = await ask(where, "/metrics", headers=OPEN_METRICS)
    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    plain = {family.name: len(family.samples) for family in parse_text(text)}
    families = parse_open_metrics(reply.body.decode())  # type: ignore[no-untyped-call]  # theirs
    open_metrics = {family.name: len(family.samples) for family in families}
    assert open_metrics.keys() == plain.keys()
    assert len(plain) > 40


@pytest.mark.prometheus
@pytest.mark.parametrize("busy", [False, True])
async def test_promtool_finds_nothing_to_mend(busy: bool) -> None:
    async with admin_of(busy_house() if busy else SmallHouse()) as where:
        text = (await ask(where, "/metrics")).body
    checked = await trio.run_process(
        ["promtool", "check", "metrics"], stdin=text, capture_stdout=True, capture_stderr=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


async def test_endpoints_have_a_bounded_number_of_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MOST_ENDPOINTS", 10)
    house = SmallHouse()
    for port in range(1, 101):
        house.standings.get(Endpoint("192.0.2.1", port))
    async with admin_of(house) as where:
        first = values((await ask(where, "/metrics")).body.decode())
        for port in range(101, 201):
            house.standings.get(Endpoint("192.0.2.1", port))
        second = values((await ask(where, "/metrics")).body.decode())
    names = [name for name in first if name.startswith("tfoproxy_endpoint_standing")]
    assert len(names) == 11
    assert first["tfoproxy_endpoint_standing{endpoint=other,standing=unknown}"] == 90
    assert second["tfoproxy_endpoint_standing{endpoint=other,standing=unknown}"] == 190
    assert names == [name for name in second if name.startswith("tfoproxy_endpoint_standing")], (
        "who has series keeps them"
    )
    assert second["tfoproxy_endpoints{standing=unknown}"] == 200


async def test_requests_to_the_admin_are_counted(tmp_path: Path) -> None:
    async with admin_of(SmallHouse()) as where:
        await ask(where, "/nothing")
        found = values((await ask(where, "/metrics")).body.decode())
        assert found["tfoproxy_admin_requests_total{code=404}"] == 1
        assert found.get("tfoproxy_admin_requests_total{code=200}") is None
