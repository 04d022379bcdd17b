"""`status` beside an admin with real numbers in it, and the program as a user calls it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from proxy.admin import views
from proxy.commands import group, healthcheck, status
from proxy.core.evidence import Evidence
from proxy.core.warming import Warming, Warmth
from tests.admin.house import SmallHouse, a_record, admin_of


async def said(*arguments: str) -> tuple[int, str]:
    """What ``tfo-proxy`` with these arguments ends with and prints."""
    invoke = partial(CliRunner().invoke, group.group, list(arguments))
    result = await trio.to_thread.run_sync(invoke)
    return result.exit_code, result.output


async def test_in_words() -> None:
    house = SmallHouse()
    for number in range(3):
        house.had(a_record(number, hedged=number == 0))
    house.had(a_record(3, evidence=Evidence.PLAIN, saved=0.0, first_byte=0.22))
    async with admin_of(house) as where:
        code, out = await said("status", "--admin", f"http://{where}")
    assert code == 0
    assert "3 round trips, 0.3 s" in out
    assert "4 ended, 0 open" in out
    assert "3 syn_data_acked, 1 plain" in out
    assert "1 hedged" in out
    assert "web  forward  127.0.0.1:8080" in out
    assert "203.0.113.10:443" in out
    assert "not fast-opened yet" in out


async def test_the_warm_up() -> None:
    house = SmallHouse()
    house.warmed = Warming(0.0, 3.04, False, 1200, {Warmth.FETCHED: 300, Warmth.DROPPED: 1})
    async with admin_of(house) as where:
        _, out = await said("status", "--admin", f"http://{where}")
        house.warmed = Warming(0.0, 90.0, True, 1, {Warmth.HELD: 1})
        _, then = await said("status", "--admin", f"http://{where}")
    assert "warm-up   301 of 1,200 endpoints, 300 cookies fetched, 1 lost on the way; for 3.0 s" in out
    assert "warm-up   1 endpoint, 1 there already; took 1 min 30 s" in then


async def test_mistakes_of_a_reload() -> None:
    house = SmallHouse()
    house.last = views.Reload(at=0.0, ok=False, mistakes=["c.yaml:1:1: no\n  ^"])
    async with admin_of(house) as where:
        code, out = await said("status", "--admin", f"http://{where}")
    assert code == 0
    assert "refused:\n  c.yaml:1:1: no\n    ^" in out


async def test_as_json(tmp_path: Path) -> None:
    house = SmallHouse()
    house.had(a_record())
    async with admin_of(house) as where:
        config = tmp_path / "c.yaml"
        config.write_text(
            f"listeners: {{a: {{bind: '127.0.0.1:1', mode: mixed}}}}\nadmin: {{bind: '{where}'}}\n"
        )
        code, out = await said("status", str(config), "--json")
    assert code == 0
    whole = json.loads(out)
    assert whole["status"]["total"]["sessions"] == 1
    assert whole["listeners"][0]["name"] == "web"
    assert whole["endpoints_total"] == len(whole["endpoints"]) == 1


async def test_nobody_there() -> None:
    code, out = await said("status", "--admin", "http://127.0.0.1:1")
    assert code == 1
    assert "nobody answers" in out


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (90000, "1 d 1 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert status.lasting(seconds) == text


def test_sizes() -> None:
    assert [status.size(value) for value in (5, 2048, 5 << 20, 3 << 40)] == [
        "5 B",
        "2.0 KiB",
        "5.0 MiB",
        "3.0 TiB",
    ]


async def test_the_health_check_asks_the_admin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    house = SmallHouse()

    async def healthy(where: str) -> bool:
        return await trio.to_thread.run_sync(healthcheck.main, [where]) == 0

    async with admin_of(house) as where:
        for state, ready in (("ready", True), ("draining", False), ("starting", False)):
            house.state = state  # type: ignore[assignment]  # one of them
            assert await healthy(f"http://{where}") is ready
            assert await healthy(f"http://{where}/livez")
        assert "says 'draining'" in capsys.readouterr().err
        assert not await healthy(f"http://{where}/nothing")
    assert not await healthy(f"http://{where}")
    for wrong in (
        "http://",
        "http://x",
        "http://127.0.0.1:99999",
        "unix:/nowhere",
        "unix:" + "x" * 200,
        "unix:\0",
    ):
        assert not await healthy(wrong)
