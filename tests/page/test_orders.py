"""What the page can tell the proxy: to reload, to drain; with the token, and not by accident."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.lab.behaviours import answers
from proxy.lab.wan import Wan
from tests.admin.chromium import PHONE, Browser, Page
from tests.page.conftest import HOSTILE, Proxied, opened, text

pytestmark = [pytest.mark.netns, pytest.mark.browser]
TOKEN = "a-long-enough-token"
OPEN = "document.getElementById('order').open"


@pytest.fixture
def proxied(lab: Wan) -> Iterator[Proxied]:
    """One that takes orders with its token."""
    made = Proxied(lab)
    made.stop()
    made.document["admin"] = {"bind": f"127.0.0.1:{made.admin_port}", "token": TOKEN}
    made.start()
    yield made
    made.stop()


@pytest.fixture
def page(browser: Browser, proxied: Proxied) -> Iterator[Page]:
    made = opened(browser, proxied.url)
    yield made
    refused = "the server responded with a status of"  # the browser's own words for 401, 403 and 422
    assert not [said for said in made.complaints if refused not in said]
    made.close()


def give_token(page: Page) -> None:
    page.until(f"{OPEN} && !document.getElementById('order-token-field').hidden")
    page.until("document.activeElement.id === 'order-token'")
    page.type(TOKEN)
    page.press("Enter")
    page.until(f"!{OPEN}")


def test_reload_asks_for_the_token_once_and_says_what_is_new(page: Page, proxied: Proxied) -> None:
    page.until("!document.getElementById('reload').hidden")
    page.click("#reload")
    page.until(OPEN)
    assert page.text("#order-title") == "Read the configuration again"
    assert page.run("document.activeElement.id") == "order-token"
    page.type("another one")
    page.press("Enter")
    page.until(f"{OPEN} && !document.getElementById('order-wrong').hidden")
    give_token(page)
    page.until("document.querySelector('#ordered .notice')")
    assert page.text("#ordered") == "Reloaded. Nothing in it was different."
    proxied.document["clusters"] = {"new": {"endpoints": ["192.0.2.1:80"], "warm_up": False}}
    proxied.program.configure(document=proxied.document)
    page.click("#reload")
    page.until("document.querySelector('#ordered').innerText.includes('cluster new')")
    assert not page.run(OPEN), "the token is known by now"
    page.until("document.querySelector('#clusters tbody').innerText.includes('192.0.2.1:80')")


def test_mistakes_of_a_reload_are_shown_where_they_always_are(page: Page, proxied: Proxied) -> None:
    file = Path(proxied.status()["config"])
    good = file.read_text()
    page.click("#reload")
    give_token(page)
    page.until("document.querySelector('#ordered .notice')")
    file.write_text(good.replace('"mixed"', f'"{HOSTILE}"'))
    page.click("#reload")
    page.until("document.querySelector('#notices .notice.bad')")
    assert "The configuration was not reloaded" in page.text("#notices .notice.bad")
    assert "<img" in page.text(".mistakes li")
    assert page.run("document.querySelectorAll('img').length") == 0
    assert "was changed and refused" not in page.text("#notices"), "it is said once"
    assert page.text("#ordered") == ""
    file.write_text(good)
    page.click("#reload")
    page.until("!document.querySelector('#notices .notice.bad')")


def test_draining_is_asked_twice_and_can_be_cut_short(page: Page, proxied: Proxied, lab: Wan) -> None:
    server = lab.serve(answers(b"", request=1_000_000))
    with socket.create_connection(proxied.program.address("web")) as sock:
        to = text(server.address)
        sock.sendall(f"CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n".encode())
        assert sock.recv(100).startswith(b"HTTP/1.1 200")
        page.until("/open now\\s+1\\b/.test(document.querySelector('#figures').innerText)")
        page.click("#drain")
        page.until(OPEN)
        assert page.text("#order-title") == "Drain, and then stop?"
        assert "the 1 connection it has" in page.text("#order-words")
        page.click("#order-no")
        page.until(f"!{OPEN}")
        page.click("#drain")
        page.until(OPEN)
        page.press("Escape")
        page.until(f"!{OPEN}")
        assert proxied.status()["state"] == "ready", "nothing was said yet"
        page.click("#drain")
        page.until(OPEN)
        page.click("#order-yes")
        give_token(page)
        page.until("document.querySelector('#state').innerText === 'draining'")
        assert "takes no new connections" in page.text("#notices")
        assert page.run("document.getElementById('reload').hidden")
        page.until("document.querySelector('#drain').innerText === 'Stop at once…'")
        page.click("#drain")
        page.until(OPEN)
        assert "cuts it off" in page.text("#order-words")
        page.click("#order-yes")
        with pytest.raises(ConnectionResetError):
            sock.recv(100)
        assert proxied.program.end() == 0
    page.until("document.getElementById('gone')")
    page.complaints = [said for said in page.complaints if "ERR_" not in said]


def test_buttons_that_cannot_work_are_not_shown(browser: Browser, lab: Wan) -> None:
    """Without a token no orders are taken."""
    proxied = Proxied(lab)
    page = opened(browser, proxied.url, size=PHONE)
    page.until("document.getElementById('state').textContent === 'ready'")
    assert page.run("document.getElementById('reload').hidden && document.getElementById('drain').hidden")
    page.close()
    proxied.stop()


def test_without_a_file_there_is_nothing_to_reload(browser: Browser, lab: Wan) -> None:
    proxied = Proxied(lab)
    port = proxied.admin_port
    proxied.stop()
    from tests.wire.program import Program

    with Program(lab.client, arguments=["--mixed", "127.0.0.1:0", "--admin", f"127.0.0.1:{port}"]):
        page = opened(browser, proxied.url)
        page.until("document.getElementById('state').textContent === 'ready'")
        assert page.run("document.getElementById('reload').hidden")
        page.close()
