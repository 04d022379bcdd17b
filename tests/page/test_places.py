"""Clusters, and the warm-up, on the page of a real proxy."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from proxy.lab.behaviours import answers
from proxy.lab.wan import Wan
from tests.admin.chromium import PHONE, Browser, Page
from tests.page.conftest import ANSWER, GET, Proxied, opened, text
from tests.wire.program import until

pytestmark = [pytest.mark.netns, pytest.mark.browser]


ENDPOINT = ".endpoint:not(.endpoints-head)"


def cluster(page: Page, name: str) -> str:
    rows = "[...document.querySelectorAll('#clusters tbody tr')]"
    said: str = page.run(
        f"{rows}.find((e) => e.querySelector('th').innerText.startsWith('{name}')).innerText"
    )
    return said


def test_clusters_their_policy_and_their_servers(browser: Browser, lab: Wan) -> None:
    good = lab.serve(answers(ANSWER, request=len(GET)))
    dead = f"{lab.fresh_address()}:81"
    proxied = Proxied(
        lab,
        clusters={
            "api": {"endpoints": [text(good.address), dead], "balance": "least_connections"},
            "checked": {"endpoints": [text(good.address), dead], "health": {"every": "0.1s"}, "balance": "first"},
            "named": {"endpoints": ["nowhere.invalid:80"], "fast_open": "off"},
        },
        routes=[{"match": {"host": "api.test"}, "to": "api"}, {"match": {"host": "checked.test"}, "to": "checked"}],
    )  # fmt: skip
    page = opened(browser, proxied.url)
    page.until("document.querySelectorAll('#clusters tbody tr').length === 4")
    for _ in range(12):
        proxied.ask("api.test:80", expect=len(ANSWER))
    until(lambda: any(one["ejected"] for one in proxied.get("/api/v1/clusters")["clusters"]), 10)
    page.until("document.querySelector('#clusters').innerText.includes('ejected')")
    page.until("document.querySelector('#clusters').innerText.includes('down:')")
    api = cluster(page, "api")
    assert "least_connections" in api
    assert f"1 of 2 in use\nejected: {dead}" in api
    assert "where it gets through" in api
    checked = cluster(page, "checked")
    assert "first" in checked
    assert f"1 of 2 in use\ndown: {dead}" in checked
    named = cluster(page, "named")
    assert "not looked up yet" in named
    assert "off" in named
    assert "wherever clients ask to go" in cluster(page, "direct")
    sessions = next(one for one in proxied.get("/api/v1/clusters")["clusters"] if one["name"] == "api")
    assert sessions["tally"]["sessions"] >= 11, "the last one may be open still"
    page.until(
        "[...document.querySelectorAll('#clusters tbody td:nth-last-child(2)')].some((e) => e.innerText === '12')"
    )
    page.hover("#clusters .tipped")
    page.until("!document.getElementById('tip').hidden")
    assert not page.complaints
    page.close()
    proxied.stop()


def test_the_warm_up_while_it_lasts_and_after(browser: Browser, lab: Wan) -> None:
    server = lab.serve(answers(b"ok", request=10))
    slow = [f"{lab.unrouted_address()}:80" for _ in range(16)]
    proxied = Proxied(
        lab,
        defaults={},
        clusters={"all": {"endpoints": [text(server.address), *slow], "connect": {"timeout": "2s"}}},
    )
    page = opened(browser, proxied.url)
    page.until("document.querySelector('#warming progress')")
    assert page.text("#warming").startswith("Warming up: ")
    assert "of 17 endpoints, for " in page.text("#warming")
    assert page.run("document.getElementById('warmed').hidden")
    page.until("!document.querySelector('#warming progress')", timeout=60)
    said = page.text("#warmed")
    assert "of 17 configured endpoints 1 gave a cookie, 16 did not answer." in said
    assert not page.complaints
    page.close()
    proxied.stop()


def test_trouble_stands_first_with_cluster_error_and_time(browser: Browser, lab: Wan, tmp_path: Path) -> None:
    """20 endpoints: four are down, one is ejected, two are quarantined; two workers, and some that had no session."""
    good = [lab.serve(answers(ANSWER, request=len(GET))) for _ in range(15)]
    well = [text(one.address) for one in good[2:14]]
    dead = [f"{lab.fresh_address()}:81" for _ in range(4)]
    refuses = f"{lab.fresh_address()}:82"
    dropping = [text(good[0].address), text(good[1].address)]
    proxied = Proxied(
        lab,
        workers=2,
        clusters={
            "checked": {"endpoints": [*well, *dead], "health": {"every": "0.2s"}},
            "api": {"endpoints": [text(good[14].address), refuses]},
            "dropping": {"endpoints": dropping},
        },
        routes=[{"match": {"host": "api.test"}, "to": "api"}, {"match": {"host": "dropping.test"}, "to": "dropping"}],
    )  # fmt: skip
    for _ in range(8):
        proxied.ask("dropping.test:80", expect=len(ANSWER))
    with ExitStack() as stack:
        for box in dropping:
            stack.enter_context(lab.through("drops-syn-data", host=box.rpartition(":")[0]))
        for _ in range(24):
            proxied.ask("dropping.test:80", expect=len(ANSWER))
            proxied.ask("api.test:80", expect=len(ANSWER))

    def shown() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = proxied.get("/api/v1/endpoints")["endpoints"]
        return found

    def settled() -> bool:
        return [one["condition"] for one in shown()[:7]] == ["down"] * 4 + ["ejected"] + ["quarantined"] * 2

    until(settled, 30)
    listed = shown()
    assert len(listed) == 20
    assert {one["endpoint"] for one in listed[:4]} == set(dead)
    assert all(one["clusters"] == ["checked"] and one["error"] and one["since"] for one in listed[:4])
    assert (listed[4]["endpoint"], listed[4]["clusters"], listed[4]["error"]) == (refuses, ["api"], "refused")
    page = opened(browser, proxied.url)
    page.until("document.querySelectorAll('.e-name').length === 20")
    rows = page.run(
        "[...document.querySelectorAll('.endpoint:not(.endpoints-head)')].slice(0, 5).map((e) => e.innerText)"
    )
    assert all("down" in row and "checked" in row and "since" in row for row in rows[:4]), rows
    assert "ejected\nrefused, since" in rows[4]
    assert page.run("[...document.querySelectorAll('.endpoint[data-tone=bad]')].length") == 5
    assert "5 of 20 endpoints in trouble: 4 down, 1 ejected" in page.text("#notices")
    assert page.run("document.title").startswith("⚠ ")
    folder = Path(os.environ.get("TFO_PROXY_SCREENSHOTS") or tmp_path)
    for name, dark, size in (
        ("light", False, (1280, 900)),
        ("dark", True, (1280, 900)),
        ("phone", False, PHONE),
    ):
        page.prefer(dark=dark)
        page.resize(size)
        page.screenshot(folder / f"trouble-{name}.png")
    assert not page.complaints
    page.close()
    proxied.stop()
