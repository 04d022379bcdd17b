"""The page of a real proxy that has carried real sessions, in a real browser."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.core.evidence import Evidence
from proxy.core.fastopen import State
from proxy.core.outcomes import Reason, Stage
from proxy.lab.behaviours import answers
from proxy.lab.namespaces import python_environment
from proxy.lab.wan import Wan
from tests.admin.chromium import Browser, Page
from tests.page.conftest import ANSWER, GET, HOSTILE, Life, Proxied, opened, text

pytestmark = [pytest.mark.netns, pytest.mark.browser]

ENDPOINT = ".endpoint:not(.endpoints-head)"
SESSION = ".session:not(.sessions-head)"


def numbers(said: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", said.replace(",", ""))]


def addresses(page: Page) -> list[str]:
    found: list[str] = page.run("[...document.querySelectorAll('.e-name')].map((e) => e.innerText.trim())")
    return [one.removesuffix("›").removesuffix("⌄").strip() for one in found]


def endpoint(page: Page, address: str) -> str:
    said: str = page.run(
        f"[...document.querySelectorAll('{ENDPOINT}')].find((e) => e.innerText.includes('{address}')).innerText"
    )
    return said


def test_what_is_saved_is_what_the_api_says(page: Page, life: Life) -> None:
    total = life.status()["total"]
    assert page.text("#trips") == f"{total['round_trips_saved']}" != "0"
    words = page.text("#hero-words")
    milliseconds = numbers(words)[0] * (1 if " ms" in words.partition("less")[0] else 1000)
    assert milliseconds == pytest.approx(total["seconds_saved"] * 1000, rel=0.06)
    assert f"in {total['sessions']} connections" in words
    assert page.run("document.querySelectorAll('#minutes rect.up[height]:not([height=\"0\"])').length") >= 1
    title = page.run("document.title")
    assert title.startswith(f"⚠ {total['round_trips_saved']} saved"), "one server refuses, and that is marked"


def test_every_endpoint_with_its_standing_and_why(page: Page, life: Life) -> None:
    told = life.get("/api/v1/endpoints")["endpoints"]
    assert sorted(addresses(page)) == sorted(one["endpoint"] for one in told)
    for one in told:
        if one["condition"] not in {"failing", "unused"}:
            assert one["why"] in endpoint(page, one["endpoint"])
    refused = addresses(page)[0]
    assert next(one["condition"] for one in told if one["endpoint"] == refused) == "failing", (
        "trouble stands first"
    )
    assert "failing\nrefused, since" in endpoint(page, refused)
    fast = endpoint(page, text(life.fast.address))
    assert "confirmed" in fast
    assert "held" in fast
    dropped = endpoint(page, text(life.dropped.address))
    assert "quarantined" in dropped
    assert "drops SYN data: plain until" in dropped


def test_first_bytes_with_and_without_fast_open(page: Page, life: Life) -> None:
    marks = page.run(
        f"(() => {{ const row = [...document.querySelectorAll('{ENDPOINT}')].find((e) =>"
        f" e.innerText.includes('{text(life.fast.address)}'));"
        " return ['fast', 'plain'].map((c) => +row.querySelector('circle.' + c).getAttribute('cx')); })()"
    )
    assert marks[0] < marks[1], "sooner with it"


def test_more_of_an_endpoint(page: Page, life: Life) -> None:
    page.choose("#endpoints-order", "saved")
    page.until(f"document.querySelector('.e-name').innerText.includes('{text(life.fast.address)}')")
    page.click(".e-name")
    page.until("document.querySelector('.e-name').getAttribute('aria-expanded') === 'true'")
    more = page.text(".e-more")
    assert re.search(r"\d+ × data travelled in the SYN", more)
    assert re.search(r"1 × asked for a cookie", more)
    assert "Most bytes in a SYN" in more
    assert page.run("document.querySelectorAll('.e-more .histogram rect.fast').length") > 0
    page.click(".e-name")
    page.until("document.querySelector('.e-more').hidden")


def test_sessions_and_how_they_ended(page: Page, life: Life) -> None:
    assert page.run(f"document.querySelectorAll('{SESSION}').length") == life.sessions
    everything = page.text("#sessions-list")
    for words in (
        "travelled in the SYN",
        "asked for a cookie",
        "the SYN with data got lost",
        "client hung up",
        "server refused",
        "while it was dialled",
    ):
        assert words in everything
    saved = page.run(
        "[...document.querySelectorAll('.s-saved.good')].filter((e) => e.innerText.startsWith('+')).length"
    )
    assert saved == life.status()["total"]["round_trips_saved"]


def test_filters(page: Page, life: Life) -> None:
    page.choose("#sessions-which", "failed")
    page.until(f"document.querySelectorAll('{SESSION}').length < {life.sessions}")
    assert "client hung up" not in page.text("#sessions-list")
    page.choose("#sessions-which", "lost")
    page.until("[...document.querySelectorAll('.s-saved')].every((e) => e.innerText.startsWith('−'))")
    page.choose("#sessions-which", "")
    page.click("#sessions-find")
    page.type("refused")
    page.until(f"document.querySelectorAll('{SESSION}').length === 1")
    page.click("#endpoints-find")
    page.type("no such thing")
    page.until("!document.getElementById('endpoints-empty').hidden")
    assert page.text("#endpoints-empty") == "None is like that."
    page.run("(() => { const e = document.getElementById('endpoints-find'); e.value = '';"
             " e.dispatchEvent(new Event('input')); })()")  # fmt: skip
    page.choose("#endpoints-which", "bad")
    page.until("document.querySelectorAll('.e-name').length === 1")
    failing = [one for one in life.get("/api/v1/endpoints")["endpoints"] if one["condition"] == "failing"]
    assert addresses(page) == [one["endpoint"] for one in failing]
    page.choose("#endpoints-which", "good")
    page.until(f"document.querySelector('.e-name').innerText.includes('{text(life.fast.address)}')")


def test_a_new_session_is_there_by_itself(browser: Browser, lab: Wan) -> None:
    proxied = Proxied(lab)
    server = lab.serve(answers(ANSWER, request=len(GET)))
    page = opened(browser, proxied.url)
    page.until("document.querySelector('#live-words').innerText === 'live'")
    asked = len(page.requests)
    for _ in range(3):
        proxied.ask(text(server.address), expect=len(ANSWER))
    page.until("document.querySelector('#trips').innerText === '2'", timeout=60)
    page.until(f"document.querySelectorAll('{SESSION}').length === 3", timeout=60)
    assert len(page.requests) == asked, "nothing is asked: it is told"
    page.click("#sessions-hold")
    proxied.ask(text(server.address), expect=len(ANSWER))
    page.until("document.querySelector('#trips').innerText === '3'", timeout=60)
    assert page.run(f"document.querySelectorAll('{SESSION}').length") == 3, "paused"
    page.click("#sessions-hold")
    page.until(f"document.querySelectorAll('{SESSION}').length === 4")
    assert not page.complaints
    page.close()
    proxied.stop()


def test_nothing_that_a_client_says_becomes_part_of_the_page(page: Page, life: Life) -> None:
    page.choose("#sessions-which", "failed")
    page.until(f"document.querySelectorAll('{SESSION}').length > 1")
    page.run("document.querySelectorAll('.s-name').forEach((e) => e.click())")
    page.until("document.querySelectorAll('.s-more:not([hidden])').length > 1")
    assert "<img" in page.text("#sessions-list"), "it is shown as what it is"
    assert page.run("document.querySelectorAll('img, script:not([src]), iframe, [onerror]').length") == 0
    assert "owned" not in page.run("document.title")


def test_the_scripts_know_no_way_to_make_markup_of_text() -> None:
    folder = Path(__file__).parents[2] / "proxy/admin/page"
    scripts = "".join(file.read_text() for file in folder.glob("*.js"))
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "DOMParser",
    ):
        assert way not in scripts
    markup = (folder / "index.html").read_text()
    assert not re.findall(r"\son[a-z]+=|style=|<script(?![^>]*\ssrc=)|https?://", markup)


def test_everything_comes_from_the_proxy_itself(page: Page, life: Life) -> None:
    assert {url.startswith(life.url) for url in page.requests} == {True}


def test_the_newcomer_is_told_what_to_do_and_it_works(browser: Browser, lab: Wan) -> None:
    proxied = Proxied(lab)
    server = lab.serve(answers(ANSWER, request=10))
    page = opened(browser, proxied.url)
    page.until("document.getElementById('primer').open")
    command = page.text("#hero-words code")
    assert command == f"curl -x http://{text(proxied.program.address('web'))} http://example.com/"
    assert page.text("#trips") == "0"
    assert page.text("#sessions-empty").startswith("No session yet.")
    here = command.replace("http://example.com/", f"http://{text(server.address)}/").split()
    done = subprocess.run([*here, "-s"], capture_output=True, check=True, timeout=10)
    assert done.stdout == b"ok"
    page.until(f"document.querySelectorAll('{SESSION}').length === 1", timeout=60)
    page.until("!document.querySelector('#hero-words code')")
    assert not page.complaints
    page.close()
    proxied.stop()


def test_a_proxy_that_goes_and_comes_back(browser: Browser, lab: Wan) -> None:
    proxied = Proxied(lab)
    page = opened(browser, proxied.url)
    page.until("document.querySelector('#live-words').innerText === 'live'")
    proxied.stop()
    page.until("document.getElementById('gone')", timeout=60)
    assert "The proxy does not answer." in page.text("#gone")
    page.until("document.querySelector('#live-words').innerText.startsWith('no answer, again in')")
    proxied.start()
    page.until("!document.getElementById('gone')", timeout=60)
    page.until("document.querySelector('#live-words').innerText === 'live'")
    page.complaints = [
        said for said in page.complaints if "ERR_" not in said
    ]  # the browser's own words for it
    assert not page.complaints
    page.close()
    proxied.stop()


def test_without_a_stream_it_asks(browser: Browser, life: Life) -> None:
    page = browser.page()
    page.call("Network.setBlockedURLs", urls=["*/api/v1/events"])
    page.open(life.url)
    page.until("document.querySelector('#live-words').innerText === 'asked every 2 s'")
    before = len(page.requests)
    page.eventually(lambda: len(page.requests) >= before + 8)
    assert page.text("#trips") == str(life.status()["total"]["round_trips_saved"])
    page.close()


def test_a_token_is_asked_for(browser: Browser, lab: Wan) -> None:
    proxied = Proxied(lab)
    proxied.stop()
    proxied.document["admin"] = {"bind": f"10.77.1.1:{proxied.admin_port}", "token": "a-long-enough-token"}
    proxied.start()
    page = browser.page()
    page.open(f"http://10.77.1.1:{proxied.admin_port}/")
    page.until("!document.getElementById('door').hidden")
    assert page.run("document.activeElement.id") == "token"
    page.type("another one")
    page.press("Enter")
    page.until("!document.getElementById('door-wrong').hidden")
    assert page.run("document.getElementById('content').hidden")
    page.type("a-long-enough-token")
    page.press("Enter")
    page.until("!document.getElementById('content').hidden")
    page.until("document.querySelector('#live-words').innerText === 'live'")
    assert page.run("document.getElementById('door').hidden")
    page.call("Page.reload")
    page.until("document.readyState === 'complete' && !document.getElementById('content').hidden")
    page.close()
    proxied.stop()


def test_a_reload_that_failed_and_a_drain(browser: Browser, lab: Wan, tmp_path: Path) -> None:
    proxied = Proxied(lab)
    server = lab.serve(answers(b"", request=1_000_000))
    page = opened(browser, proxied.url)
    file = Path(proxied.status()["config"])
    good = file.read_text()
    file.write_text(good.replace('"mixed"', f'"{HOSTILE}"'))
    proxied.program.signal(signal.SIGHUP)
    page.until("document.querySelector('.notice.bad')", timeout=60)
    said = page.text(".notice.bad")
    assert "The configuration was not reloaded" in said
    assert re.search(r"\d mistakes?:", said)
    assert "<img" in page.text(".mistakes li")
    assert page.run("document.querySelectorAll('img').length") == 0
    file.write_text(good)
    proxied.program.signal(signal.SIGHUP)
    page.until("!document.querySelector('.notice.bad')", timeout=60)
    with socket.create_connection(proxied.program.address("web")) as sock:
        to = text(server.address)
        sock.sendall(f"CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n".encode())
        assert sock.recv(100).startswith(b"HTTP/1.1 200")
        proxied.program.signal(signal.SIGTERM)
        page.until("document.querySelector('#state').innerText === 'draining'", timeout=60)
        assert "takes no new connections" in page.text("#notices")
    page.close()
    proxied.stop()


def test_top_and_the_page_say_the_same(page: Page, life: Life) -> None:
    command = [sys.executable, "-m", "proxy", "top", "--once", "--admin", life.url.rstrip("/")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=30, env=python_environment()
    )
    assert f"\n{page.text('#trips')} round trips = " in done.stdout
    for one in life.get("/api/v1/endpoints")["endpoints"]:
        assert one["endpoint"] in done.stdout
    for words in ("plain for now", "fast", "learning", "in the SYN", "SYN with data lost", "server refused"):
        assert words in done.stdout
    assert "\x1b" not in done.stdout


def test_every_word_of_the_core_has_words_on_the_page() -> None:
    words = (Path(__file__).parents[2] / "proxy/admin/page/words.js").read_text()
    for closed in (Evidence, Reason, State, Stage):
        assert not [word.value for word in closed if not re.search(rf"\b{word.value}:", words)]


def test_workers_and_one_that_died(browser: Browser, lab: Wan) -> None:
    proxied = Proxied(lab, workers=2)
    server = lab.serve(answers(ANSWER, request=len(GET)))
    page = opened(browser, proxied.url)
    page.until("document.querySelectorAll('#workers tbody tr').length === 2")
    for _ in range(6):
        proxied.ask(text(server.address), expect=len(ANSWER))
    page.until("+document.querySelector('#trips').innerText >= 4", timeout=60)
    page.until(f"document.querySelectorAll('{SESSION}').length === 6", timeout=60)
    os.kill(proxied.status()["workers"][0]["pid"], signal.SIGKILL)
    page.until(
        "[...document.querySelectorAll('#workers tbody td:last-child')].some((e) => e.innerText === '1')",
        timeout=60,
    )
    page.until("document.querySelectorAll('#workers tbody tr').length === 2")
    assert int(page.text("#trips")) >= 4, "what was counted stays counted"
    assert not page.complaints
    page.close()
    proxied.stop()
