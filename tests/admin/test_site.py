from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
import trio

from proxy.admin import views
from proxy.core.evidence import Evidence
from proxy.core.fastopen import Open, Plan
from proxy.core.outcomes import EndedBy, Reason, Stage
from proxy.core.snapshot import Admin, Bind, Cluster, Listener, Mode, Snapshot
from tests.admin.house import HERE, SmallHouse, a_record, admin_of, ask, bearer

VIEWS = {
    "status": views.Status,
    "listeners": views.Listeners,
    "clusters": views.Clusters,
    "endpoints": views.Endpoints,
    "sessions": views.Sessions,
    "config": views.Config,
}


@pytest.mark.parametrize("name", VIEWS)
async def test_each_path_has_its_view(name: str) -> None:
    house = SmallHouse()
    house.had(a_record())
    async with admin_of(house) as where:
        reply = await ask(where, f"/api/v1/{name}")
        head = await ask(where, f"/api/v1/{name}", "HEAD")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    msgspec.json.decode(reply.body, type=VIEWS[name])
    assert (head.status, head.body) == (200, b"")
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-content-type-options"] == "nosniff"


async def test_health() -> None:
    house = SmallHouse()
    async with admin_of(house) as where:
        for state, ready in [("starting", 503), ("ready", 200), ("draining", 503)]:
            house.state = state  # type: ignore[assignment]  # one of them
            assert (await ask(where, "/readyz")).status == ready
            assert (await ask(where, "/livez")).status == 200
            assert (await ask(where, "/readyz")).body.strip().decode() == state


async def test_numbers_of_sessions() -> None:
    house = SmallHouse()
    for number in range(3):
        house.had(a_record(number))
    house.had(a_record(3, evidence=None, endpoint=None, first_byte=None, saved=0.0, lost=0.5, up_bytes=0,
        down_bytes=0, ended_by=EndedBy.PROXY, during=Stage.ROUTE, reason=Reason.DENIED))  # fmt: skip
    for _ in range(2):
        house.counters.accepted("web")
        house.open["web", "api", HERE] += 1
    async with admin_of(house) as where:
        status = json.loads((await ask(where, "/api/v1/status")).body)
        listeners = json.loads((await ask(where, "/api/v1/listeners")).body)["listeners"]
        clusters = json.loads((await ask(where, "/api/v1/clusters")).body)["clusters"]
        endpoints = json.loads((await ask(where, "/api/v1/endpoints")).body)["endpoints"]
        sessions = json.loads((await ask(where, "/api/v1/sessions")).body)
    total = status["total"]
    assert (total["sessions"], total["failed"], total["open"]) == (4, 1, 2)
    assert (total["round_trips_saved"], total["seconds_saved"]) == (3, pytest.approx(0.3))
    assert total["seconds_lost"] == pytest.approx(0.5)
    assert total["evidence"] == {"syn_data_acked": 3}
    assert total["endings"][0] == {
        "ended_by": "upstream",
        "during": "relay",
        "reason": "closed",
        "sessions": 3,
    }
    assert total["first_byte_fast"]["count"] == 3
    assert 0.1 < total["first_byte_fast"]["median"] <= 0.15
    assert len(total["first_byte_fast"]["counts"]) == len(status["bounds"]) + 1
    assert sum(minute["sessions"] for minute in status["minutes"]) == 4
    assert status["saved_per_minute"] == pytest.approx(3)
    (web,) = listeners
    assert (web["name"], web["accepted"], web["refused"]) == ("web", 6, {"denied": 1})
    assert web["tally"] == total
    api = next(cluster for cluster in clusters if cluster["name"] == "api")
    assert api["tally"] == total
    (endpoint,) = endpoints
    assert (endpoint["endpoint"], endpoint["clusters"]) == (str(HERE), ["api"])
    assert (endpoint["tally"]["sessions"], endpoint["tally"]["open"]) == (3, 2)
    assert endpoint["tally"]["first_byte_fast"] == total["first_byte_fast"]
    assert [one["id"].rpartition("-")[2] for one in sessions["recent"]] == ["3", "2", "1", "0"]
    assert sessions["total_open"] == 2


async def test_why_an_endpoint_is_dialled_plainly() -> None:
    house = SmallHouse()
    standing = house.standings.get(HERE)
    plan = Plan(Open.DATA, 100, None, probe=False, era=0)
    now = trio.current_time()
    for _ in range(2):
        standing.learn(Evidence.SYN_DATA_LOST, plan._replace(era=standing.era), now, 100)
    async with admin_of(house) as where:
        (endpoint,) = json.loads((await ask(where, "/api/v1/endpoints")).body)["endpoints"]
        status = json.loads((await ask(where, "/api/v1/status")).body)
    assert endpoint["standing"] == "quarantined"
    assert re.fullmatch(r"drops SYN data: plain until \d\d:\d\d", endpoint["why"])
    assert endpoint["until"] - status["now"] == pytest.approx(60, abs=2)
    assert (endpoint["cause"], endpoint["times"]) == ("syn_data_lost", 1)
    assert endpoint["cookie"] == {"known": False, "size": 0, "age": None}
    assert status["standings"] == {"quarantined": 1}


async def test_lists_have_limits() -> None:
    house = SmallHouse()
    for number in range(30):
        house.had(a_record(number, endpoint=HERE._replace(port=1000 + number)))
    async with admin_of(house) as where:
        endpoints = json.loads((await ask(where, "/api/v1/endpoints?limit=10")).body)
        sessions = json.loads((await ask(where, "/api/v1/sessions?limit=5")).body)
        for wrong in ("x", "-1", "%31", "9" * 20):
            assert (await ask(where, f"/api/v1/sessions?limit={wrong}")).status in {200, 400}
    assert [one["endpoint"] for one in endpoints["endpoints"]] == [
        f"203.0.113.10:{1000 + number}" for number in range(29, 19, -1)
    ]
    assert endpoints["total"] == 31, "and the one of the configuration"
    assert len(sessions["recent"]) == 5


async def test_orders() -> None:
    house = SmallHouse()
    async with admin_of(house) as where:
        done = await ask(where, "/api/v1/reload", "POST", bearer())
        assert (done.status, json.loads(done.body)["ok"]) == (200, True)
        house.next_reload = views.Reload(at=1.0, ok=False, mistakes=["c.yaml:1:1: no"])
        refused = await ask(where, "/api/v1/reload", "POST", bearer())
        assert (refused.status, json.loads(refused.body)["mistakes"]) == (422, ["c.yaml:1:1: no"])
        level = await ask(where, "/api/v1/loglevel", "POST", bearer(), b'{"level": "debug"}')
        assert json.loads(level.body) == {"ok": True, "state": "ready", "log_level": "debug"}
        for wrong in (b"", b"{}", b'{"level": "loud"}', b'{"level": "debug", "x": 1}', b"\xff\xfe"):
            assert (await ask(where, "/api/v1/loglevel", "POST", bearer(), wrong)).status == 400
        drained = await ask(where, "/api/v1/drain", "POST", bearer())
        assert json.loads(drained.body)["state"] == "draining"
        notes = json.loads((await ask(where, "/api/v1/status")).body)["notes"]
    assert house.reloaded == 2
    assert any("refused" in note for note in notes)
    assert any("draining" in note for note in notes)


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/nothing", "GET", 404),
        ("/api/v1/nothing", "GET", 404),
        ("/api/v2/status", "GET", 404),
        ("/api/v1/status/", "GET", 404),
        ("/../../etc/passwd", "GET", 404),
        ("/%2e%2e/etc/passwd", "GET", 404),
        ("/api/v1/status", "POST", 405),
        ("/api/v1/reload", "GET", 405),
        ("/livez", "DELETE", 405),
        ("/", "PUT", 405),
    ],
)
async def test_what_is_not_there(path: str, method: str, status: int) -> None:
    async with admin_of(SmallHouse()) as where:
        reply = await ask(where, path, method, bearer())
    assert reply.status == status
    assert json.loads(reply.body)["error"]


async def test_the_page() -> None:
    async with admin_of(SmallHouse()) as where:
        page = await ask(where, "/")
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        for file in (Path(__file__).parents[2] / "proxy/admin/page").iterdir():
            reply = await ask(where, f"/{file.name}")
            assert (reply.status, reply.body) == (200, file.read_bytes())


async def test_over_a_unix_socket_orders_need_no_token(tmp_path: Path) -> None:
    house = SmallHouse()
    path = str(tmp_path / "admin.sock")
    async with admin_of(house, Admin((Bind(path, 0),))) as where:
        assert (await ask(where, "/api/v1/status", headers={"Host": "anything"})).status == 200
        assert (await ask(where, "/api/v1/reload", "POST")).status == 200
    assert house.reloaded == 1
    assert not await trio.Path(path).exists()


async def test_names_that_were_taken_for_markup_stay_text() -> None:
    """What clients choose is escaped wherever it is shown."""
    evil = 'a"b\\c\n</script>\u2028\x1b[31m'
    house = SmallHouse(
        Snapshot((Listener("web", (Bind("127.0.0.1", 1),), Mode.FORWARD, Cluster(evil, ())),), {})
    )
    house.had(a_record(user=evil, detail=evil, cluster=evil, endpoint=HERE._replace(host="/" + evil, port=0)))
    async with admin_of(house) as where:
        session = json.loads((await ask(where, "/api/v1/sessions")).body)["recent"][0]
        metrics = (await ask(where, "/metrics")).body.decode()
    assert session["user"] == evil
    for line in metrics.split("\n"):
        assert (
            not line
            or line[0] == "#"
            or re.fullmatch(r'[a-z_]+(\{([a-z_]+="([^"\\\n]|\\["\\n])*",?)*\})? \S+', line)
        )
