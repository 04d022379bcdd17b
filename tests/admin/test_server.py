from __future__ import annotations

import pytest
import trio

from proxy.admin import server
from proxy.admin.portrait import Portrait
from proxy.core.snapshot import Admin, Bind
from tests.admin.house import SmallHouse, admin_of, ask
from tests.serving import Recorder


async def test_a_mistake_of_ours_ends_one_connection_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Portrait) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(Portrait, "status", broken)
    events = Recorder()
    async with admin_of(SmallHouse(), events=events) as where:
        for _ in range(3):
            with pytest.raises(OSError, match="without response"):
                await ask(where, "/api/v1/status")
        assert (await ask(where, "/livez")).status == 200
    assert [str(fault) for fault in events.faults] == ["a mistake"], "said once a second at most"


async def test_a_mistake_in_counting_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Portrait) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(Portrait, "look", broken)
    events = Recorder()
    async with admin_of(SmallHouse(), events=events) as where:
        assert (await ask(where, "/livez")).status == 200
        assert len(events.faults) == 1


async def test_a_site_that_cannot_be_made_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(server, "Site", broken)
    events = Recorder()
    _give, take = trio.open_memory_channel[object](1)
    await server.serve(SmallHouse(), take, lambda: Admin(()), events)  # type: ignore[arg-type]  # it brings none
    assert len(events.faults) == 1


def test_a_token_is_not_in_a_repr() -> None:
    assert "secret" not in repr(Admin((Bind("127.0.0.1", 7414),), token="secret"))  # not one
