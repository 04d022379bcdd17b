"""Several worker processes: the supervisor's side. What one finds out the others hear of within a second or two."""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from time import time as wall_clock  # noqa: TID251  # near sides of tunnels, and the operator, have no other

import trio

from proxy.admin import views
from proxy.admin.house import Census
from proxy.core import limits
from proxy.core.address import Endpoint
from proxy.core.availability import Outages
from proxy.core.snapshot import Snapshot
from proxy.core.spares import SparesData
from proxy.core.standings import Remembered, says_more
from proxy.core.warming import Warming
from proxy.net import accept
from proxy.service.crew import orders, together
from proxy.service.crew.hand import Hand
from proxy.service.crew.notes import FRESH
from proxy.service.listeners import Listeners, Sockets, server_bit
from proxy.service.memory import Memory
from proxy.service.process import count_troubles
from proxy.service.state import ListenerHabits
from proxy.service.worker import RECENT
from proxy.sessions.nonce_memory import NoMemory, open_memory
from proxy.telemetry.counters import Counters
from proxy.telemetry.events import Events
from proxy.telemetry.region import Region

_SWAP_WITHIN = 10.0  # seconds; a worker that takes longer serves the old snapshot until then
_END_WITHIN = 5.0  # the same when it has to end its sessions
_HURRY_WITHIN = 0.5  # the same after a second request to stop
_LAST_WORDS = 10_000
_LESSON = 500  # standings in one message


class Team:
    """A `Crew` of several."""

    def __init__(self, snapshot: Snapshot, memory: Memory, events: Events, level: str) -> None:
        count = snapshot.workers
        self._own = Region.create()  # of the supervisor's own process
        self.regions: Sequence[Region] = (*(Region.create() for _ in range(count)), self._own)
        self._snapshot, self._memory, self._events, self._level = snapshot, memory, events, level
        self._packed = orders.pack(snapshot)
        self._turn = 0
        self._listeners: Listeners | None = None
        self._leaving = False
        self._recent: deque[views.Session] = deque(maxlen=RECENT)
        self._tally = _memory_of(limits.size(count))
        with mmap.mmap(self._tally, 0) as region, memoryview(region) as view:
            limits.prepare(view, os.urandom(limits.KEY_SIZE))
        self._nonces = self._open_nonces()
        self._hands = [self._hand(number) for number in range(count)]
        self._hurry = trio.Event()
        self._last_word: dict[tuple[str, int], tuple[int, float]] = {}  # which worker, when

    def _hand(self, number: int) -> Hand:
        memories = (self.regions[number].fd, self._tally, self._nonces)
        hand = Hand(partial(self._hello, number), memories, self._events, self._heard, self._rearrange)
        hand.wanted = partial(self._wanted, number)
        return hand

    async def run(
        self, listeners: Listeners, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """As `Crew.run`."""
        self._listeners = listeners
        async with trio.open_nursery() as nursery:
            for hand in self._hands:
                nursery.start_soon(hand.live)
            for hand in self._hands:
                await hand.until_served(0)
            nursery.start_soon(count_troubles, Counters(self._own), self._events)
            task_status.started()

    async def swap(self, snapshot: Snapshot, listeners: Listeners) -> None:
        """As `Crew.swap`."""
        self._snapshot, self._packed, self._listeners = snapshot, orders.pack(snapshot), listeners
        self._turn += 1
        for hand in self._hands:
            hand.serve(self._turn)
        with trio.move_on_after(_SWAP_WITHIN):
            for hand in self._hands:
                if hand.pid:
                    await hand.until_served(self._turn)

    async def leave(self) -> None:
        """As `Crew.leave`. Our copies go first: who closes the last one of a socket must have emptied its queue."""
        self._leaving = True
        if self._listeners is not None:
            for sockets in self._listeners.shares:
                for several in sockets.values():
                    for sock in several:
                        accept.close_listener(sock, unlink=False)
        for hand in self._hands:
            hand.leaving = True
            hand.say(orders.Leave())
        with trio.move_on_after(_END_WITHIN):
            while any(hand.state == "ready" for hand in self._hands):  # noqa: ASYNC110  # a hundred times at most
                await trio.sleep(0.05)

    async def drain(self, limit: float) -> int:
        """As `Crew.drain`."""
        if not self._leaving:
            await self.leave()
        for hand in self._hands:
            hand.say(orders.Drain(limit))
        with trio.move_on_after(limit):
            await self._until_drained()
        if any(hand.pid for hand in self._hands):
            for hand in self._hands:
                hand.say(orders.Drain(0.0))
            with trio.move_on_after(_HURRY_WITHIN if self._hurry.is_set() else _END_WITHIN):
                await self._drained()
        for hand in self._hands:
            hand.kill()
        return sum(hand.cut_off or 0 for hand in self._hands)

    async def _until_drained(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_when_hurried, nursery.cancel_scope)
            await self._drained()
            nursery.cancel_scope.cancel()

    async def _drained(self) -> None:
        while any(hand.pid for hand in self._hands):  # noqa: ASYNC110  # few, and rarely
            await trio.sleep(0.02)

    async def _cancel_when_hurried(self, scope: trio.CancelScope) -> None:
        await self._hurry.wait()
        scope.cancel()

    def cut_off(self) -> None:
        """As `Crew.cut_off`."""
        self._hurry.set()

    def warm_up(self) -> None:
        """As `Crew.warm_up`."""
        for hand in self._hands:
            hand.say(orders.WarmUp())

    def warming(self) -> Warming | None:
        """As `Crew.warming`."""
        return together.warm_up(self._reports())

    def set_level(self, level: str) -> None:
        """As `Crew.set_level`."""
        self._level = level
        for hand in self._hands:
            hand.say(orders.Level(level, self._snapshot.log.format))

    # --- what is known of them

    def workers(self) -> Sequence[views.Worker]:
        """As `Crew.workers`."""
        now, wall = trio.current_time(), wall_clock()
        return [
            views.Worker(
                number=hand.number,
                pid=hand.pid,
                state=hand.state,
                open=sum(way[3] for way in hand.report.open) if hand.report is not None else 0,
                restarts=max(hand.restarts, 0),
                began=wall - (now - hand.began),
                tasks=hand.report.tasks if hand.report is not None else 0,
            )
            for hand in self._hands
        ]

    def census(self) -> Census:
        """As `Crew.census`."""
        return together.census(self._reports())

    def recent(self) -> Sequence[views.Session]:
        """As `Crew.recent`."""
        return list(self._recent)

    def health(self, endpoint: Endpoint) -> bool | None:
        """As `Crew.health`."""
        return together.health(self._reports(), endpoint)

    def outages(self) -> Mapping[str, Outages]:
        """As `Crew.outages`."""
        return together.outages(self._reports())

    def spares(self) -> SparesData:
        """As `Crew.spares`."""
        return together.spares(self._reports())

    def _reports(self) -> list[orders.Report]:
        """The last one of everybody who is there."""
        return [hand.report for hand in self._hands if hand.report is not None]

    # --- what they are told, and what they tell

    def _hello(self, number: int) -> orders.Begin:
        return orders.Begin(number, len(self.regions) - 1, self._level, self._snapshot.log.format)

    def _wanted(self, number: int) -> tuple[orders.Serve, Sockets]:
        shares = self._listeners.shares if self._listeners is not None and not self._leaving else []
        sockets = {name: list(several) for name, several in shares[number].items()} if shares else {}
        for absent in self._absent(number) if shares else ():
            for name, several in shares[absent].items():
                sockets[name] += [sock for sock in several if sock not in sockets[name]]
        return orders.Serve(self._turn, self._packed, {}, server_bit()), sockets

    def _absent(self, number: int) -> list[int]:
        """Whose sockets ``number`` minds as well: each of those who have died has the next who has not."""
        present = [hand.number for hand in self._hands if hand.state == "ready"]
        if number not in present:
            return []
        absent = [hand.number for hand in self._hands if hand.has_served and hand.number not in present]
        return [
            one for one in absent if next((other for other in present if other > one), present[0]) == number
        ]

    def _rearrange(self) -> None:
        """Somebody has died, or is back: his sockets are minded by another, or by himself again."""
        if self._leaving:
            return
        self._turn += 1
        for hand in self._hands:
            if hand.state == "ready":
                hand.serve(self._turn)

    def _heard(self, hand: Hand, answer: orders.Answer) -> None:
        if isinstance(answer, orders.Serving) and not hand.taught:
            hand.taught = True
            self._teach_all(hand)
            if hand.restarts:
                self._rearrange()
        if not isinstance(answer, orders.Report):
            return
        now, memory = trio.current_time(), self._memory
        if len(self._last_word) > _LAST_WORDS:
            self._last_word.clear()
        self._recent.extend(answer.recent)
        for spent in answer.accounts:
            memory.ledger.merge((spent.listener, spent.cluster, spent.endpoint), spent.account)
        for entry in answer.standings:
            known = memory.standings.peek(Endpoint(entry.host, entry.port))
            by, at = self._last_word.get((entry.host, entry.port), (hand.number, now))
            if by != hand.number and now < at + FRESH and known and not says_more(entry.state, known.state):
                continue
            self._last_word[entry.host, entry.port] = hand.number, now
            memory.standings.adopt(entry, now, now)
            self._pass_on(hand, (entry.host, entry.port), orders.Learn(standings=[entry]))
        for habits in answer.patience:
            patience = memory.patience(habits.listener, habits.cluster, set())
            if patience.sessions < habits.habits.sessions:
                patience.recall(habits.habits)
            self._pass_on(hand, (habits.listener, habits.cluster, ""), orders.Learn(patience=[habits]))

    def _pass_on(self, by: Hand, key: object, lesson: orders.Learn) -> None:
        for hand in self._hands:
            if hand is not by and hand.state == "ready":
                hand.teach(key, lesson)

    def _teach_all(self, hand: Hand) -> None:
        """One that has just begun hears everything."""
        now = trio.current_time()
        known: list[Remembered] = self._memory.standings.remember(now, now)
        for at in range(0, len(known), _LESSON):
            hand.say(orders.Learn(standings=known[at : at + _LESSON]))
        habits = [ListenerHabits(*key, patience.habits()) for key, patience in self._memory.patiences()]
        if habits:
            hand.say(orders.Learn(patience=habits))

    def _open_nonces(self) -> int:
        tunnels = any(listener.far_side is not None for listener in self._snapshot.listeners)
        now = wall_clock()
        try:
            return open_memory(self._snapshot.state if tunnels else None, now)
        except NoMemory as problem:
            self._events.nonces_not_kept(str(problem))
            return open_memory(None, now)


def _memory_of(size: int) -> int:
    fd = os.memfd_create("tfo-proxy tally", os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    return fd
