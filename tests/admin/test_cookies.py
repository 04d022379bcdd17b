from __future__ import annotations

import pytest
import trio

from proxy.admin import cookies
from proxy.core.address import Endpoint
from proxy.core.tcp_metrics import Cookie
from proxy.lab.behaviours import answers
from proxy.lab.clients import ask
from proxy.lab.wan import Wan
from proxy.net.cookies import CookieCache
from tests.wire.program import GET


@pytest.mark.netns
@pytest.mark.wan(rtt=0.02)
def test_what_the_kernel_holds(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)))
    for _ in range(2):
        ask(server.address, GET, fast_open=True)

    # Not through `refresh`: its thread would stay behind in this namespace, and serve other tests.
    found, problem = cookies._read()
    assert problem == ""
    cookie = found[server.address[0]]
    assert (cookie.known, cookie.size) == (True, 8)
    assert cookie.age is not None
    assert "192.0.2.99" not in found


@pytest.mark.autojump
async def test_it_is_not_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def dump(self: CookieCache) -> list[Cookie]:
        looks.append(1)
        return [
            Cookie("192.0.2.1", "", False, None, 0, None, None, 1.0),
            Cookie("192.0.2.1", "", True, None, 0, None, None, 2.0, 8),
        ]

    monkeypatch.setattr(CookieCache, "dump", dump)
    seen = cookies.Cookies()
    for _ in range(10):
        await seen.refresh()
    assert len(looks) == 1
    await trio.sleep(3)
    cookie = seen.of(Endpoint("192.0.2.1", 5))
    assert (cookie.known, cookie.size) == (True, 8), "any of our addresses will do"
    assert cookie.age == pytest.approx(5)
    await trio.sleep(60)
    await seen.refresh()
    assert len(looks) == 2
