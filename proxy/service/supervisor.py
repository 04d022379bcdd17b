"""The whole program: its listening sockets, its workers, its signals, its configuration and what it has learned.

It is the `House` that the admin shows. SIGHUP reads the configuration again, SIGTERM and SIGINT drain and end it (a
second one at once), SIGUSR1 writes the state of things to the log.
"""

from __future__ import annotations

import math
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Sequence

import trio

from proxy.admin import server as admin
from proxy.admin import views
from proxy.config import Loaded
from proxy.core.differences import differences, waiting
from proxy.core.snapshot import Snapshot
from proxy.net import accept, sockopt
from proxy.service import early_signals, parts, privileges, process, systemd, upgrade
from proxy.service.announcing import Announcing, Waits, warn_of_sources
from proxy.service.crew import Crew
from proxy.service.crew.alone import Alone
from proxy.service.crew.hand import CannotServe
from proxy.service.crew.team import Team
from proxy.service.front import Front
from proxy.service.listeners import Listeners, announce
from proxy.service.memory import Memory
from proxy.service.reload import Reloads, Source
from proxy.service.supervised import keep_running
from proxy.telemetry import logs
from proxy.telemetry.events import Events


async def run(
    loaded: Loaded, events: Events, source: Source | None = None, *, log_level: str | None = None,
    waits: Waits | None = None,
) -> None:  # fmt: skip
    """Serve until a signal says to stop and the last session has gone; raises `CannotListen`.

    ``log_level`` is what the command line says, whatever the file does; ``waits`` are for those at a terminal.
    """
    supervisor = Supervisor(loaded, events, source, log_level=log_level)
    await supervisor.run(Announcing(supervisor.warming, events, waits))


class Supervisor(Front):
    """One running program."""

    state: views.State

    def __init__(
        self, loaded: Loaded, events: Events, source: Source | None, *, log_level: str | None = None
    ) -> None:
        level = log_level or loaded.snapshot.log.level
        memory = Memory(loaded.snapshot.state, events)
        self._inheritance = upgrade.inherited()
        listeners = Listeners(self._inheritance.sockets)
        super().__init__(loaded, level, memory, listeners, _crew_of(loaded.snapshot, memory, events, level))
        self._level_is_fixed = log_level is not None
        self._events = events
        self._workers = loaded.snapshot.workers  # as many as there are until the next start or upgrade
        self._reloads = Reloads(source, self._apply, events)
        self._for_admin = trio.open_memory_channel[socket.socket](math.inf)
        self._leave, self._hurry = trio.Event(), trio.Event()
        self._starting = trio.CancelScope()
        self._of_orphans = [signal.SIGCHLD] if os.getpid() == 1 else []
        self._signal: str | None = None  # that asked to stop
        self._successor: int | None = None  # the process that has taken over
        self._upgrading = False

    async def run(self, announcing: Announcing) -> None:
        """Serve until told to stop, and then until the last session has gone.

        Raises `CannotListen`, `CannotDrop`, `CannotServe`.
        """
        self._listeners.open(self.snapshot, self._workers)
        self._drop_privileges()
        self._events.start_writing()
        self._memory.load(trio.current_time())
        problem = ""
        try:
            await self._serve(announcing)
        except* CannotServe as group:
            problem = str(next(iter(_leaves(group))))
        finally:
            self._listeners.close(unlink=self._successor is None)
            self._memory.save(trio.current_time())
        if problem:
            raise CannotServe(problem)

    async def _serve(self, announcing: Announcing) -> None:
        with trio.open_signal_receiver(*early_signals.OBEYED, *self._of_orphans) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._obey, signals, nursery)
                with self._starting:
                    await nursery.start(self._crew.run, self._listeners)
                if self._leave.is_set():  # before it was ready
                    nursery.cancel_scope.cancel()
                    self._events.say("stopped", signal=self._signal, cut_off=0)
                    return
                for name, work in (
                    ("state", self._memory.save_now_and_then),
                    ("reloads", self._reloads.run),
                    ("watching the configuration", self._reloads.follow_files),
                    ("admin", self._serve_admin),
                    ("systemd's watchdog", self._feed_the_watchdog),
                    ("counters", self._bequest.tidy_up),
                    ("warm-up lines", announcing.run),
                ):
                    nursery.start_soon(keep_running, name, work, self._events)
                await self._open_admin(())
                self._open_the_doors()
                await self._leave.wait()
                await self._drain()
                nursery.cancel_scope.cancel()

    def _drop_privileges(self) -> None:
        """Everything that only root may do has been done."""
        parts.fetch(self.snapshot)
        try:
            dropped = privileges.drop(self.snapshot)
        except privileges.CannotDrop:
            self._listeners.close()
            raise
        privileges.harden(secrets=privileges.holds_secrets(self.snapshot))
        if dropped is not None:
            self._events.say("privileges_dropped", **dropped._asdict())

    # --- the house, as the admin asks for it; `Front` has the rest

    def last_reload(self) -> views.Reload | None:
        """What became of it."""
        return self._reloads.last

    def reloads(self) -> tuple[int, int]:
        """How many were done, how many refused."""
        return self._reloads.done, self._reloads.refused

    async def reload(self) -> views.Reload:
        """Read the configuration again."""
        return await self._reloads.reload()

    def drain(self) -> None:
        """Stop, in order; a second time, and before it is ready: at once."""
        (self._hurry if self._leave.is_set() else self._leave).set()
        if self.state == "starting":
            self._starting.cancel()

    def set_level(self, level: str) -> None:
        """Log from this level on, until a reload says otherwise."""
        self.log_level = level
        self._events.use(logs.configure(level, self.snapshot.log.format))
        self._crew.set_level(level)

    # --- what it does

    def _open_the_doors(self) -> None:
        snapshot = self.snapshot
        announce(snapshot, self._listeners.shares[0], self._events, [one.name for one in snapshot.listeners])
        warn_of_sources(snapshot, self._events)
        if self._bequest.problem:
            self._events.warn("counters_not_kept", why=self._bequest.problem)
        self.state = "ready"
        if unused := [*self._listeners.unused(), *self._inheritance.useless]:
            self._events.warn("sockets_not_used", names=unused)
        self._events.say("ready", pid=os.getpid(), listeners=len(snapshot.listeners))
        systemd.notify(systemd.READY)
        self._inheritance.serves()

    async def _obey(self, signals: AsyncIterator[int], nursery: trio.Nursery) -> None:
        for number in (*early_signals.take(), *self._of_orphans):  # some may have ended already
            self._obey_one(number, nursery)

        async def obey() -> None:
            async for number in signals:
                self._obey_one(number, nursery)

        await keep_running("signals", obey, self._events)

    def _obey_one(self, number: int, nursery: trio.Nursery) -> None:
        match number:
            case signal.SIGUSR1:
                self._say_status()
            case signal.SIGHUP:
                self._reloads.ask()
            case signal.SIGUSR2:
                if not self._upgrading:
                    nursery.start_soon(self._upgrade)
            case signal.SIGCHLD:
                process.reap_orphans({worker.pid for worker in self._crew.workers()})
            case _:
                self._signal = signal.Signals(number).name
                self.drain()

    async def _serve_admin(self) -> None:
        """Let the admin have its sockets as they come; it outlives the drain, so that readiness can be asked."""
        first = await self._for_admin[1].receive()
        await self._for_admin[0].send(first)
        served = self.snapshot.admin
        assert served is not None
        await admin.serve(self, self._for_admin[1], lambda: self.snapshot.admin or served, self._events)

    async def _open_admin(self, before: Sequence[socket.socket]) -> None:
        for sock in self._listeners.admin:
            if sock not in before:
                name = sock.getsockname()
                where = f"unix:{name}" if isinstance(name, str) else str(sockopt.local_address(sock))
                self._events.say("admin", bind=where)
                await self._for_admin[0].send(sock)

    def _say_status(self) -> None:
        account = self._memory.ledger.total.plain()
        workers = self._crew.workers()
        sessions, spares = sum(worker.open for worker in workers), self._crew.spares()
        tasks = [trio.lowlevel.current_statistics().tasks_living]  # ours, which are a lone worker's too
        tasks += [worker.tasks for worker in workers if worker.pid != os.getpid()]
        self._events.say("status", open_sessions=sessions, tasks=tasks, spares=spares, **account)

    async def _apply(self, loaded: Loaded) -> list[str]:
        """Make this the configuration in force; raises `CannotListen`, and then nothing has changed."""
        before, after = self.snapshot, loaded.snapshot
        if self.state == "draining":
            return []
        changed = differences(before, after)
        known = {listener.name: listener.binds for listener in before.listeners}
        admins = self._listeners.admin
        left = self._listeners.adopt(self._listeners.prepare(after, self._workers))
        self.snapshot, self._config = after, loaded.config
        await self._crew.swap(after, self._listeners)
        for sock in left:
            accept.close_listener(sock, unlink=False)
        await self._open_admin(admins)
        self._memory.move(after.state)
        if before.log != after.log:
            self.set_level(self.log_level if self._level_is_fixed else after.log.level)
        fresh = [one.name for one in after.listeners if known.get(one.name) != one.binds]
        announce(after, self._listeners.shares[0], self._events, fresh)
        warn_of_sources(after, self._events)
        if waits := waiting(before, after):
            self._events.warn("restart_needed", keys=waits)
        return changed

    async def _upgrade(self) -> None:
        """Let another program take over; where it does not, go on as if nothing had been."""
        self._upgrading = True
        try:
            if os.getpid() == 1:
                raise upgrade.NotUpgraded("process 1 cannot leave: its container would end with it")
            if self.state != "ready":
                raise upgrade.NotUpgraded(f"it is {self.state}")
            self._memory.save(trio.current_time())  # the successor reads it
            with self._bequest.passed_on(self._crew.regions, self._memory.ledger) as passed:
                heirlooms = self._listeners.heirlooms()
                pid = await upgrade.hand_over(heirlooms, passed=passed, stop=self._leave)
        except upgrade.NotUpgraded as failure:
            self._events.warn("not_upgraded", why=str(failure))
        else:
            self._events.say("upgraded", successor=pid)
            systemd.notify(systemd.main_pid(pid))
            self._successor = pid
            self._leave.set()
        finally:
            self._upgrading = False

    async def _feed_the_watchdog(self) -> None:
        interval = systemd.watchdog_interval()
        while interval is not None:
            systemd.notify(systemd.WATCHDOG)
            await trio.sleep(interval / 2)

    async def _stop_being_ready(self) -> None:
        """Nobody new shall come: after a while, where readiness must be seen first; at once with a successor."""
        limit, delay = self.snapshot.drain, self.snapshot.drain_delay
        if self._successor is not None:
            self._memory.move(None)  # what is learned from now on is for the successor to learn
            for sock in self._listeners.admin:
                accept.close_listener(sock, unlink=False)
            return
        systemd.notify(systemd.STOPPING, systemd.extend_timeout(delay + limit + 5.0))
        if delay:
            self._events.say("not_ready", signal=self._signal, delay=delay)
            with trio.move_on_after(delay):
                await self._hurry.wait()
        self._listeners.part()

    async def _drain(self) -> None:
        """Readiness turns first, then accepting stops, then the sessions end: by themselves, or when time is up."""
        limit = self.snapshot.drain
        self.state = "draining"
        await self._stop_being_ready()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_when_hurried, nursery.cancel_scope)
            await self._crew.leave()
            nursery.cancel_scope.cancel()
        sessions = sum(worker.open for worker in self._crew.workers())
        self._events.say("draining", signal=self._signal, sessions=sessions, limit=limit)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_for_hurry)
            cut_off = await self._crew.drain(limit)
            nursery.cancel_scope.cancel()
        self._events.say("stopped", cut_off=cut_off)

    async def _cancel_when_hurried(self, scope: trio.CancelScope) -> None:
        await self._hurry.wait()
        scope.cancel()

    async def _wait_for_hurry(self) -> None:
        await self._hurry.wait()
        self._crew.cut_off()


def _crew_of(snapshot: Snapshot, memory: Memory, events: Events, level: str) -> Crew:
    if snapshot.workers == 1:
        return Alone(snapshot, memory, events)
    return Team(snapshot, memory, events, level)


def _leaves(group: BaseExceptionGroup[Exception]) -> Iterator[BaseException]:
    """The exceptions of a group of groups."""
    for one in group.exceptions:
        if isinstance(one, BaseExceptionGroup):
            yield from _leaves(one)
        else:
            yield one
