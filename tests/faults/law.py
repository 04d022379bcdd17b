"""The anomaly law: whatever happens to a session, it leaves nothing behind and harms nobody.

Both its sockets are closed, there is exactly one record of it, what it had taken from others is given back, no task
of it is left, and the next session is served as if nothing had been.
"""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

import pytest
import trio

from proxy.core.fastopen import State
from proxy.core.limits import Caps
from proxy.core.snapshot import Snapshot
from proxy.net.accept import close_listener
from proxy.service.listeners import Listeners
from proxy.service.memory import Memory
from proxy.service.worker import Worker
from tests.serving import Recorder

Client = Callable[[trio.SocketStream], Awaitable[None]]
Prepare = Callable[[Worker], None]

LIMITS = Caps(connections=50, per_client=40, client_rate=1000.0)  # so that they are counted
PATIENCE = 2.0  # seconds after which a client gives up
SETTLED = 20.0  # and everything has come to an end
LATE = "the next session: served False"  # how the complaint begins that a busy machine may be the cause of


@dataclass
class House:
    """A worker, and what was there before the first client."""

    worker: Worker
    events: Recorder
    sockets: Mapping[str, Sequence[socket.socket]]
    nursery: trio.Nursery
    descriptors: set[int] = field(default_factory=set[int])
    tasks: int = 0
    scopes: list[trio.CancelScope] = field(default_factory=list[trio.CancelScope])

    def settle(self) -> None:
        self.descriptors = open_descriptors()
        self.tasks = tasks()

    async def call(self, client: Client, patience: float = PATIENCE) -> bool:
        """One client; whether it got all it wanted before its patience ended."""
        outcome = False
        try:
            with trio.move_on_after(patience):
                stream = await trio.open_tcp_stream(*self.sockets["a"][0].getsockname()[:2])
                try:
                    await client(stream)
                    outcome = True
                finally:
                    await trio.aclose_forcefully(stream)
        except* (trio.BrokenResourceError, OSError, AssertionError):
            outcome = False
        return outcome


@dataclass(frozen=True)
class Scenario:
    """``client`` asserts what it should see; ``made`` opens servers and says what to serve."""

    name: str
    made: Callable[[AsyncExitStack], Awaitable[Snapshot]]
    client: Client
    prepare: Prepare | None = None
    served: bool = True  # else the client's failing is what is meant
    alone: bool = False  # in a network namespace of its own
    again: bool = True  # whatever was learned from the first, a second one is served as if nothing had been

    def is_as_meant(self, served: bool, number: int) -> bool:
        """Whether the ``number``-th session's client may have got that."""
        return served is self.served or (number > 1 and not self.again)


def open_descriptors() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/fd")}


def tasks() -> int:
    """Tasks alive in this run."""

    def count(task: trio.lowlevel.Task) -> int:
        return 1 + sum(count(child) for nursery in task.child_nurseries for child in nursery.child_tasks)

    root = trio.lowlevel.current_root_task()
    assert root is not None
    return count(root)


def hurry(patch: pytest.MonkeyPatch) -> None:
    """Let time-outs be noticed soon: they are what ends a session whose sockets tell nothing."""
    patch.setattr("proxy.service.worker.SWEEP", 0.05)
    patch.setattr("proxy.net.relay._LAST_WORDS", 0.05)
    patch.setattr("proxy.sessions.arriving.GRACE", 0.3)
    patch.setattr("proxy.core.pace.ANSWER_LEAST", 0.05)
    patch.setattr("proxy.sessions.dialling._LATER", 0.01)
    patch.setattr("proxy.sessions.dialling._HEARS_ON", 0.05)


class Scoped:
    """A nursery whose every task can be cancelled alone; a session asks no more of one."""

    def __init__(self, nursery: trio.Nursery, scopes: list[trio.CancelScope]) -> None:
        self._nursery, self._scopes = nursery, scopes
        self.cancel_scope = nursery.cancel_scope

    def start_soon(self, function: Callable[..., Awaitable[object]], *args: object) -> None:
        scope = trio.CancelScope()
        self._scopes.append(scope)
        self._nursery.start_soon(self._run, scope, function, args)

    async def _run(
        self, scope: trio.CancelScope, function: Callable[..., Awaitable[object]], args: tuple[object, ...]
    ) -> None:
        with scope:
            await function(*args)
        self._scopes.remove(scope)


async def opened(stack: AsyncExitStack, snapshot: Snapshot, *, cancellable: bool = False) -> House:
    """A worker at work until the stack is left. ``cancellable``: its sessions' tasks one by one, by `House.scopes`."""
    events = Recorder()
    snapshot = replace(snapshot, limits=LIMITS)
    nursery = await stack.enter_async_context(trio.open_nursery())
    listeners = Listeners()
    listeners.open(snapshot)
    sockets = listeners.shares[0]
    worker = Worker(snapshot, Memory(None, events), events, takes_syn_data=False)
    await nursery.start(worker.run, sockets)

    def close() -> None:
        for sock in (sock for some in sockets.values() for sock in some):
            close_listener(sock)
        nursery.cancel_scope.cancel()

    stack.callback(close)
    house = House(worker, events, sockets, nursery)
    if cancellable:
        worker._nursery = Scoped(worker._nursery, house.scopes)  # type: ignore[assignment]  # as much as is used of it
    await trio.lowlevel.checkpoint()
    house.settle()
    return house


async def come_to_rest(house: House, records: int | None) -> list[str]:
    """What is left behind, as a list of complaints: empty, where the law was obeyed. ``records``: so many there are."""
    complaints = ["it was not asked"]
    with trio.move_on_after(SETTLED):
        while complaints := left_behind(house, records):  # noqa: ASYNC110  # nobody tells
            await trio.sleep(0.005)
    return complaints


def left_behind(house: House, records: int | None) -> list[str]:
    worker, shared = house.worker, house.worker._shared
    spares = worker.spares
    ready = [spare for pool in spares._pools.values() for spare in pool.ready]
    flying = sum(pool.flying for pool in spares._pools.values())
    spare_descriptors = {spare.sock.fileno() for spare in ready}
    extra = open_descriptors() - house.descriptors - spare_descriptors
    watched = set(shared.watch._handlers) - spare_descriptors
    loads = [pool.balancer.sessions for pool in shared.pools._pools.values()]
    standings = dict(shared.standings)
    found = {
        "descriptors are open": extra if len(extra) > len(ready) else (),  # a spare's other end is here, too
        "sessions are there": worker.sessions,
        "records": 0 if records is None else len(house.events.records) - records,
        "descriptors are watched": watched,
        "pools count sessions": [load for load in loads if load],
        "own dials are remembered": shared.own,
        "deadlines are kept": list(shared.unheard),
        "clocks are kept": worker._clocks._clocks,
        "tickets are kept": worker._tickets,
        "limits still count": sum(worker._admission._tally._mine),
        "spares are miscounted": spares._count - len(ready) - flying,
        "spares are on their way": flying,
        "tasks are left": max(0, tasks() - house.tasks - len(ready)),
        "faults of ours": [traceback.format_exception(fault)[-5:] for fault in house.events.faults],
        "a risk is not given back": [e for e, s in standings.items() if s._taken],
        "a probe is not given back": [
            e for e, s in standings.items() if s.state is State.PROBING and s.until
        ],
    }
    return [f"{what}: {value!r}" for what, value in found.items() if value]
