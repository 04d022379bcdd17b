"""Alert rules and the dashboard, judged by Prometheus itself: it scrapes a real admin and answers every question."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trio
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.admin.house import admin_of, ask
from tests.admin.test_metrics import busy_house

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
SUFFIXES = ("_bucket", "_sum", "_count")


def expressions() -> Iterator[str]:
    """Everything that the dashboard and the alerts ask Prometheus."""
    for panel in PANELS:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (one["expr"] for one in DASHBOARD["annotations"]["list"])
    for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def filled_in(expression: str) -> str:
    """With the dashboard's variables as "All" makes them."""
    return re.sub(r"\$(job|instance|listener|upstream)\b", ".*", expression)


@pytest.mark.prometheus
@pytest.mark.parametrize(
    "command",
    [
        ["check", "rules", "alerts.yaml"],
        ["test", "rules", "alerts_test.yaml"],
        ["check", "config", "prometheus.yaml"],
    ],
)
def test_promtool_has_nothing_against_it(command: list[str]) -> None:
    done = subprocess.run(["promtool", *command], cwd=MONITORING, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test() -> None:
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"][0]["rules"]
    tests = yaml.safe_load((MONITORING / "alerts_test.yaml").read_text())["tests"]
    fired = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one.get("exp_alerts")}
    assert fired == {rule["alert"] for rule in rules}


async def test_everything_asked_for_is_there() -> None:
    async with admin_of(busy_house()) as where:
        text = (await ask(where, "/metrics")).body.decode()
    known = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    asked = set(re.findall(r"\b(?:tfoproxy|process)_[a-z0-9_]+", "\n".join(expressions())))
    assert len(asked) > 20
    assert asked <= known


def test_the_dashboard_is_one() -> None:
    assert DASHBOARD["uid"] == "tfo-proxy"
    assert DASHBOARD["schemaVersion"] >= 36
    assert "id" not in DASHBOARD, "an import would overwrite somebody's"
    names = {one["name"] for one in DASHBOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD))) - {"__all"} <= names
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["title"]
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"


@asynccontextmanager
async def prometheus(folder: Path, target: str) -> AsyncIterator[str]:
    """A Prometheus that scrapes ``target`` each second and has our alerts; where it listens."""
    config = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
    shutil.copy(MONITORING / "alerts.yaml", folder)
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        "prometheus", "--config.file", str(folder / "prometheus.yaml"), "--storage.tsdb.path", str(folder / "data"),
        "--web.listen-address", where,
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)  # noqa: ASYNC220  # starting one takes no time
        try:
            yield where
        finally:
            process.kill()
            process.wait(10)


async def answered(where: str, path: str) -> Any:
    """Prometheus' answer, once it answers."""
    with trio.fail_after(30):
        while True:
            try:
                return json.loads((await ask(where, path)).body)
            except (OSError, ValueError):
                await trio.sleep(0.05)


@pytest.mark.prometheus
async def test_prometheus_scrapes_it_and_answers_every_question(tmp_path: Path) -> None:
    house = busy_house()
    async with admin_of(house) as admin, prometheus(tmp_path, admin) as where:
        with trio.fail_after(60):
            while True:
                found = await answered(where, "/api/v1/query?query=tfoproxy_sessions_total")
                if found["status"] == "success" and found["data"]["result"]:
                    break
                await trio.sleep(0.1)
        (result,) = found["data"]["result"]
        assert result["metric"]["listener"] == "web"
        assert int(result["value"][1]) == len(house.records)
        (target,) = (await answered(where, "/api/v1/targets"))["data"]["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")
        for expression in expressions():
            reply = await answered(where, f"/api/v1/query?query={quote(filled_in(expression))}")
            assert reply["status"] == "success", (expression, reply)
        with trio.fail_after(30):
            while True:
                rules = (await answered(where, "/api/v1/rules"))["data"]["groups"][0]["rules"]
                if all(rule["health"] != "unknown" for rule in rules):
                    break
                await trio.sleep(0.1)
        assert {rule["health"] for rule in rules} == {"ok"}
