from __future__ import annotations

import pytest
import trio

from proxy.admin.cookies import Cookies
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

    async def look() -> Cookies:
        cookies = Cookies()
        await cookies.refresh()
        return cookies

    cookies = trio.run(look)

    async def shown() -> None:
        cookie = cookies.of(Endpoint(*server.address))
        assert (cookie.known, cookie.size) == (True, 8)
        assert cookie.age is not None
        assert not cookies.of(Endpoint("192.0.2.99", 1)).known
        assert cookies.problem == ""

    trio.run(shown)


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
    cookies = Cookies()
    for _ in range(10):
        await cookies.refresh()
    assert len(looks) == 1
    await trio.sleep(3)
    cookie = cookies.of(Endpoint("192.0.2.1", 5))
    assert (cookie.known, cookie.size) == (True, 8), "any of our addresses will do"
    assert cookie.age == pytest.approx(5)
    await trio.sleep(60)
    await cookies.refresh()
    assert len(looks) == 2
