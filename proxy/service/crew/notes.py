"""What a worker tells of itself, bounded in size and in how often, and what it takes over from others."""

from __future__ import annotations

from math import inf, log2
from time import time as wall_clock  # noqa: TID251  # the operator reads it
from typing import TypeAlias

import trio

from proxy.admin import portrait
from proxy.core.address import Endpoint
from proxy.core.fastopen import State
from proxy.core.standings import Remembered, SharedStandings, says_more
from proxy.service.crew import orders
from proxy.service.crew.alone import census
from proxy.service.memory import Memory
from proxy.service.state import ListenerHabits
from proxy.service.worker import Worker

FRESH = 3.0  # seconds that it takes at most until everybody has heard of something

_Gist: TypeAlias = tuple[object, ...]


class Notes:
    """Of one worker."""

    def __init__(self, worker: Worker, memory: Memory, standings: SharedStandings) -> None:
        self._worker, self._memory, self._standings = worker, memory, standings
        self._told: dict[Endpoint, _Gist] = {}
        self._spoke: dict[Endpoint, float] = {}  # when we last told the others something of our own
        self._habits: dict[tuple[str, str], int] = {}

    def report(self) -> orders.Report:
        """Everything that is new."""
        worker, memory = self._worker, self._memory
        now, wall = trio.current_time(), wall_clock()
        open_now = census(worker.sessions)
        spares, recent = worker.spares.plain(), list(worker.recent)
        worker.recent.clear()
        return orders.Report(
            open=[(*way, count) for way, count in open_now.by_way.items()],
            oldest=list(open_now.oldest),
            recent=[portrait.session(record, now, wall) for record in recent],
            standings=self._news(now),
            patience=self._new_habits(),
            accounts=[
                orders.Spent(*key, account) for key, account in memory.ledger.take(orders.MOST_ACCOUNTS)
            ],
            health=worker.pools.checked(orders.MOST_CHECKED),
            spares=(spares["ready"], spares["taken"], spares["wasted"]),
            tasks=trio.lowlevel.current_statistics().tasks_living,
            warming=worker.tending.warming,
            outages=worker.pools.outages(orders.MOST_ACCOUNTS),
        )

    def learn(self, order: orders.Learn) -> None:
        """Take over what others know better."""
        now = trio.current_time()
        for entry in order.standings:
            endpoint = Endpoint(entry.host, entry.port)
            ours = self._standings.peek(endpoint)
            if ours is not None and self._is_fresh(endpoint, now) and not says_more(entry.state, ours.state):
                continue
            if self._standings.adopt(entry, now, now):
                adopted = self._standings.shared(endpoint, now, now)
                self._told[endpoint] = _gist(adopted or entry)
        for habits in order.patience:
            patience = self._memory.patience(habits.listener, habits.cluster, set())
            if patience.sessions * 2 < habits.habits.sessions and patience.recall(habits.habits):
                self._habits[habits.listener, habits.cluster] = patience.sessions

    def _is_fresh(self, endpoint: Endpoint, now: float) -> bool:
        """Whether we have found something out ourselves that the others may not have known when they spoke."""
        if now < self._spoke.get(endpoint, -inf) + FRESH:
            return True
        entry = self._standings.shared(endpoint, now, now)
        return entry is not None and self._told.get(endpoint) != _gist(entry)

    def _news(self, now: float) -> list[Remembered]:
        standings, news = self._standings, list[Remembered]()
        for endpoint in standings.take_touched(orders.MOST_STANDINGS):
            entry = standings.shared(endpoint, now, now)
            if entry is None:
                self._told.pop(endpoint, None)
            elif self._told.get(endpoint) != (gist := _gist(entry)):
                self._told[endpoint], self._spoke[endpoint] = gist, now
                news.append(entry)
        if len(self._told) > 4 * len(standings) + 1000:
            self._told.clear()  # those that have been forgotten since
        self._spoke = {endpoint: at for endpoint, at in self._spoke.items() if now < at + FRESH}
        return news

    def _new_habits(self) -> list[ListenerHabits]:
        """Of those who have learned a good deal more since they were last told of."""
        news: list[ListenerHabits] = []
        for key, patience in self._memory.patiences():
            if len(news) == orders.MOST_ACCOUNTS:
                break
            if patience.sessions > self._habits.get(key, 0) * 1.25:
                self._habits[key] = patience.sessions
                news.append(ListenerHabits(*key, patience.habits()))
        return news


def _gist(entry: Remembered) -> _Gist:
    """What others would dial differently for: not the last per cent of a round trip."""
    rtt = None if entry.rtt is None else round(4 * log2(max(entry.rtt, 1e-6)))
    sentence = entry.sentence if entry.state in {State.QUARANTINED, State.UNSUPPORTED} else 0
    return (
        entry.state,
        sentence,
        entry.cause,
        entry.requested,
        entry.ignored,
        entry.syn_data,
        entry.answered,
        rtt,
    )
