"""What the admin says, beside what the log says and what the lab saw on the wire."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.lab.behaviours import answers
from proxy.lab.clients import ask
from proxy.lab.namespaces import python_environment
from proxy.lab.wan import Wan
from tests.admin.house import ask_now
from tests.wire.log_law import round_trips
from tests.wire.program import GET, Program, forward

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.1)]

ADMIN = {"bind": "127.0.0.1:0"}


def where(program: Program) -> str:
    return str(program.wait_for("admin")["bind"])


def view(program: Program, name: str) -> Any:
    reply = ask_now(where(program), f"/api/v1/{name}")
    assert reply.status == 200
    return json.loads(reply.body)


def metrics(program: Program) -> dict[str, float]:
    """Counters by name, summed over their labels; by name and evidence where they have one."""
    sums: defaultdict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(ask_now(where(program), "/metrics").body.decode()):
        for sample in family.samples:
            kind = sample.labels.get("evidence") or sample.labels.get("reason") or sample.labels.get("way")
            name = sample.name.removeprefix("tfoproxy_")
            sums[name] += sample.value
            if kind:
                sums[f"{name}:{kind}"] += sample.value
    return dict(sums)


def settled(program: Program, sessions: int) -> Any:
    """The endpoints once all their sessions are known: other processes report once a second."""
    deadline = time.monotonic() + 20
    while True:
        endpoints = view(program, "endpoints")
        known = sum(one["tally"]["sessions"] for one in endpoints["endpoints"])
        if known == sessions or time.monotonic() > deadline:
            return endpoints
        time.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 2])
def test_all_numbers_agree(wan: Wan, workers: int) -> None:
    """On a path that is good, then drops SYN data, with a server that is there, and one that is not."""
    server = wan.serve(answers(request=len(GET)))
    host, port = server.address
    listeners = {"a": forward(server), "b": forward(f"{host}:{port + 1}")}
    with Program(wan.client, listeners, admin=ADMIN, workers=workers) as program:
        for number in range(4):
            assert ask(program.address("a"), GET, fast_open=False).reply
            program.session(number + 1)
        with wan.through("drops-syn-data"):
            for number in range(4, 8):
                assert ask(program.address("a"), GET, fast_open=False).reply
                program.session(number + 1)
        ask(program.address("b"), GET, fast_open=False)
        log = [program.session(number) for number in range(1, 10)]
        endpoints = settled(program, 9)
        found, status = metrics(program), view(program, "status")
        account = program.status()
        said = subprocess.run(
            [sys.executable, "-m", "proxy", "status", "--json", "--admin", where(program)],
            env=python_environment(), capture_output=True, check=True, text=True,
        )  # fmt: skip
    total = status["total"]
    for name, metric in [
        ("up_bytes", "up_bytes_total"),
        ("down_bytes", "down_bytes_total"),
        ("seconds_saved", "saved_seconds_total"),
        ("seconds_lost", "lost_seconds_total"),
        ("round_trips_saved", "saved_round_trips_total"),
        ("hedges", "hedges_total"),
        ("redials", "redials_total"),
        ("repeated_bytes", "repeated_bytes_total"),
        ("sessions", "sessions_total"),
    ]:
        assert total[name] == pytest.approx(found[metric]), name
        assert total[name] == pytest.approx(account[name]), name
        assert total[name] == pytest.approx(json.loads(said.stdout)["status"]["total"][name]), name
    assert total["sessions"] == 9
    assert total["up_bytes"] == sum(line["up_bytes"] for line in log)
    assert total["down_bytes"] == sum(line["down_bytes"] for line in log)
    assert total["seconds_saved"] == pytest.approx(sum(line.get("saved", 0) for line in log), abs=1e-4)
    assert total["seconds_lost"] == pytest.approx(sum(line.get("lost", 0) for line in log), abs=1e-4)
    evidence = Counter(line["evidence"] for line in log if "evidence" in line)
    assert total["evidence"] == dict(evidence) == account["evidence"]
    assert {name: int(found[f"dials_total:{name}"]) for name in evidence} == dict(evidence)
    reasons = Counter(line["reason"] for line in log)
    assert {reason: int(found[f"endings_total:{reason}"]) for reason in reasons} == dict(reasons)
    assert found["connections_total"] == 9
    assert found["open_sessions"] == total["open"] == 0
    assert len(view_sessions := status["minutes"]) >= 1
    assert sum(minute["sessions"] for minute in view_sessions) == 9
    by_name = {one["endpoint"]: one for one in endpoints["endpoints"]}
    (one,) = [line for line in log if line["listener"] == "b"]
    assert by_name[one["endpoint"]]["tally"]["sessions"] == 1
    quarantined = by_name[f"{host}:{port}"]
    assert quarantined["cookie"]["known"]
    assert quarantined["rtt"] == pytest.approx(wan.rtt, rel=0.1)
    # The wire: sessions whose SYN data was acknowledged are those that were saved a round trip.
    syns = [syn for syn in wan.capture().syns(dst=server.address) if syn.packet.payload]
    assert total["evidence"].get("syn_data_acked", 0) == len([syn for syn in syns if not syn.dropped])
    assert total["evidence"].get("syn_data_lost", 0) == len([syn for syn in syns if syn.dropped])
    if workers > 1:
        return  # each finds out for itself, until it has heard of the other; how often is chance
    assert (total["evidence"]["syn_data_acked"], total["evidence"]["syn_data_lost"]) == (3, 2)
    assert quarantined["standing"] == log[7]["standing_after"] == "quarantined"
    assert quarantined["why"].startswith("drops SYN data: plain until ")
    warm = round_trips(wan.capture(), server)[1:4]
    assert total["seconds_saved"] == pytest.approx(sum(warm), rel=0.1)
    dialled = {syn.packet.flow for syn in wan.capture().syns(dst=server.address)}
    tally = quarantined["tally"]
    assert len(dialled) == tally["sessions"] + tally["hedges"] + tally["redials"] >= 8 + 2
    waits = [b.entered - a.entered for a, b in pairwise(wan.capture().syns(dst=server.address)) if a.dropped]
    assert total["seconds_lost"] >= 0.85 * sum(waits)


@pytest.mark.parametrize("workers", [1, 2])
def test_counters_go_on_over_a_reload(wan: Wan, workers: int) -> None:
    server = wan.serve(answers(request=len(GET)))
    with Program(wan.client, {"a": forward(server)}, admin=ADMIN, workers=workers) as program:
        ask(program.address(), GET, fast_open=False)
        program.session(1)
        before = metrics(program)
        program.configure({"a": forward(server), "b": forward(server)}, admin=ADMIN, workers=workers)
        program.reload()
        ask(program.address("b"), GET, fast_open=False)
        ask(program.address("a"), GET, fast_open=False)
        program.session(3)
        after = metrics(program)
    assert (before["sessions_total"], after["sessions_total"]) == (1, 3)
    assert all(after[name] >= value for name, value in before.items() if name.endswith("_total"))
    assert after["config_reloads_total"] >= 1


def test_a_killed_worker_takes_no_number_along(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)))
    with Program(wan.client, {"a": forward(server)}, admin=ADMIN, workers=2) as program:
        for number in range(6):
            assert ask(program.address("a"), GET, fast_open=False).reply
            program.session(number + 1)
        before = metrics(program)
        victim = view(program, "status")["workers"][0]["pid"]
        os.kill(victim, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while True:
            assert time.monotonic() < deadline
            during = metrics(program)
            assert all(
                during[name] >= value for name, value in before.items() if name.startswith("sessions_")
            )
            workers = view(program, "status")["workers"]
            if victim not in {one["pid"] for one in workers} and {one["state"] for one in workers} == {
                "ready"
            }:
                break
        for number in range(6):
            assert ask(program.address("a"), GET, fast_open=False).reply
            program.session(number + 7)
        after = metrics(program)
    totals = [name for name in before if name.endswith("_total") and not name.startswith("worker_cpu")]
    assert all(after[name] >= before[name] for name in totals)
    assert after["sessions_total"] == before["sessions_total"] + 6 == 12
    assert after["open_sessions"] == 0
    assert after["worker_restarts_total"] == 1
