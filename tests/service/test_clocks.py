"""When a session has waited for too long; that the worker ends it is tested there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.core.outcomes import Reason
from proxy.core.snapshot import Timeouts
from proxy.service.clocks import Clocks
from proxy.sessions.session import Session
from tests.serving import Serving, echo, one_listener, serving, upstream


@asynccontextmanager
async def relaying(here: Serving) -> AsyncIterator[Session]:
    async with await here.connect() as stream:
        await stream.send_all(b"x")
        assert await stream.receive_some() == b"x"
        (session,) = here.worker.sessions
        yield session


async def test_idle_is_without_bytes_and_lifetime_is_not() -> None:
    timeouts = Timeouts(idle=10.0, lifetime=100.0)
    async with (
        upstream(echo) as cluster,
        serving(one_listener(cluster, timeouts=timeouts)) as here,
        relaying(here) as session,
    ):
        clocks = Clocks()
        began = session.record.began
        assert clocks.overdue(session, began + 1) is None
        assert clocks.overdue(session, began + 10.9) is None
        assert clocks.overdue(session, began + 11) is Reason.IDLE
        assert session.relay is not None
        session.relay.up.moved += 1
        assert clocks.overdue(session, began + 12) is None
        assert clocks.overdue(session, began + 21) is None
        assert clocks.overdue(session, began + 100) is Reason.LIFETIME
        session.relay.up.moved -= 1
        clocks.forget(session)
        clocks.forget(session)
        assert clocks.overdue(session, began + 30) is None


async def test_without_limits_nothing_is_overdue() -> None:
    timeouts = Timeouts(idle=None, half_closed=None)
    async with (
        upstream(echo) as cluster,
        serving(one_listener(cluster, timeouts=timeouts)) as here,
        relaying(here) as session,
    ):
        clocks = Clocks()
        assert [clocks.overdue(session, session.record.began + day * 86400) for day in range(5)] == [None] * 5


def test_who_stood_still_looks_again_first() -> None:
    clocks = Clocks()
    assert not clocks.stood_still(100.0)
    assert not clocks.stood_still(101.0)
    assert clocks.stood_still(700.0)
    assert not clocks.stood_still(701.5)
