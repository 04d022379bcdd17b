"""Clusters, and the warm-up, on the page of a real proxy."""

from __future__ import annotations

import pytest

from proxy.lab.behaviours import answers
from proxy.lab.wan import Wan
from tests.admin.chromium import Browser, Page
from tests.page.conftest import ANSWER, GET, Proxied, opened, text
from tests.wire.program import until

pytestmark = [pytest.mark.netns, pytest.mark.browser]


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
    page.until("document.querySelector('#clusters').innerText.includes('left alone for now')")
    page.until("document.querySelector('#clusters').innerText.includes('down:')")
    api = cluster(page, "api")
    assert "to the least busy" in api
    assert f"1 of 2 in use\nleft alone for now: {dead}" in api
    assert "where it gets through" in api
    checked = cluster(page, "checked")
    assert "the first that is well" in checked
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
