"""Takes docs/page-light.png and docs/page-dark.png: the page of a real proxy, in the lab, after a few busy minutes.

    python -m docs.draw_page [MINUTES]

Needs chromium and network namespaces. The pictures differ from run to run; they are taken anew when the page changes.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from proxy.lab.behaviours import answers, speaks_first
from proxy.lab.wan import Wan
from tests.admin.chromium import Browser
from tests.page.conftest import ANSWER, GET, Proxied, text

FOLDER = Path(__file__).parent
SIZE = (1120, 1000)


def live(wan: Wan, proxied: Proxied, minutes: float) -> None:
    """Sessions of many kinds, at a rate that rises and falls."""
    chance = random.Random(7413)
    http = answers(ANSWER, request=len(GET))
    near, far, dropped, old = (
        wan.serve(http),
        wan.serve(http),
        wan.serve(http),
        wan.serve(http, fast_open=None),
    )
    mail = wan.serve(speaks_first(b"220 ready\r\n"))
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        kind = chance.choices([near, far, dropped, old, mail], [10, 6, 0.6, 2, 1])[0]
        wan.set_rtt(
            {id(near): 0.031, id(far): 0.088, id(dropped): 0.142, id(old): 0.022}.get(id(kind), 0.054)
        )
        if kind is dropped:
            with wan.through("drops-syn-data"):
                proxied.ask(text(kind.address), expect=len(ANSWER))
        elif kind is mail:
            proxied.ask(text(kind.address), b"QUIT\r\n", expect=11)
        else:
            proxied.ask(text(kind.address), expect=len(ANSWER))
        time.sleep(chance.uniform(0.0, 0.6))


def main() -> None:
    """The two pictures."""
    with Wan(rtt=0.05) as wan, wan.client.entered():
        wan.client.sysctl("net.ipv4.tcp_fastopen", 3)
        proxied = Proxied(wan)
        live(wan, proxied, float(sys.argv[1]) if len(sys.argv) > 1 else 10)
        with Browser() as browser:
            for name in ("light", "dark"):
                page = browser.page(SIZE, dark=name == "dark")
                page.open(proxied.url)
                page.until("document.querySelectorAll('.session').length > 2")
                time.sleep(1)
                page.screenshot(FOLDER / f"page-{name}.png", whole=False)
                page.close()
        proxied.stop()


if __name__ == "__main__":
    main()
