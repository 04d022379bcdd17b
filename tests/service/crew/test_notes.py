"""What a worker reports, and what it takes over."""

from __future__ import annotations

import trio

from proxy.core.address import Endpoint
from proxy.core.evidence import Evidence
from proxy.core.fastopen import State
from proxy.core.standings import Remembered, SharedStandings
from proxy.service.crew import orders
from proxy.service.crew.notes import Notes
from proxy.service.listeners import Listeners
from proxy.service.memory import Memory
from proxy.service.state import ListenerHabits
from proxy.service.worker import Worker
from tests.serving import Recorder, echo, one_listener, upstream


async def test_a_report_tells_what_is_new_and_tells_it_once() -> None:
    async with upstream(echo) as cluster:
        events, listeners, standings = Recorder(), Listeners(), SharedStandings()
        snapshot = one_listener(cluster)
        listeners.open(snapshot)
        memory = Memory(None, events, standings)
        worker = Worker(snapshot, memory, events, takes_syn_data=False)
        notes = Notes(worker, memory, standings)
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run, listeners.shares[0])
            during = notes.report()
            for _ in range(2):
                async with await trio.open_tcp_stream(*listeners.shares[0]["a"][0].getsockname()) as stream:
                    await stream.send_all(b"x")
                    await stream.receive_some()
                    during = notes.report()
                    assert [way[3] for way in during.open] == [1]
                    assert len(during.oldest) == 1
            await events.record(2)
            first = notes.report()
            assert [session.up_bytes for session in first.recent][-1] == 1
            assert sum(spent.account.sessions for spent in (*during.accounts, *first.accounts)) in {1, 2}
            assert not first.open
            assert orders.answer(orders.encode(first)) == first
            quiet = notes.report()
            assert (quiet.recent, quiet.accounts, quiet.standings, quiet.patience) == ([], [], [], [])
            endpoint = cluster.only[0]
            standing = standings.get(endpoint)
            standing.learn(Evidence.SYN_DATA_ACKED, standing.plan(cluster, 0, 0.0), trio.current_time())
            (news,) = notes.report().standings
            assert (news.host, news.port, news.state) == (*endpoint, State.CONFIRMED)
            await worker.drain(0.0)
            nursery.cancel_scope.cancel()


async def test_what_others_know_is_taken_over_and_not_told_back() -> None:
    async with upstream(echo) as cluster:
        events, standings = Recorder(), SharedStandings()
        memory = Memory(None, events, standings)
        worker = Worker(one_listener(cluster), memory, events, takes_syn_data=False)
        notes = Notes(worker, memory, standings)
        entry = Remembered("192.0.2.1", 80, State.CONFIRMED, rtt=0.1, answered=True)
        learned = memory.patience("a", "c", set())
        for _ in range(10):
            learned.server_spoke()
        other = Memory(None, events).patience("a", "c", set())
        for _ in range(100):
            other.client_spoke(0.001)
        notes.learn(orders.Learn([entry], [ListenerHabits("a", "c", other.habits())]))
        standing = standings.get(Endpoint("192.0.2.1", 80))
        assert (standing.state, standing.rtt) == (State.CONFIRMED, 0.1)
        assert learned.sessions == 100
        report = notes.report()
        assert (report.standings, report.patience) == ([], [])


async def test_of_two_that_speak_at_once_the_one_who_knows_more_is_believed() -> None:
    async with upstream(echo) as cluster:
        events, standings = Recorder(), SharedStandings()
        memory = Memory(None, events, standings)
        notes = Notes(Worker(one_listener(cluster), memory, events, takes_syn_data=False), memory, standings)
        endpoint = Endpoint("192.0.2.1", 80)
        standing = standings.get(endpoint)
        standing.learn(Evidence.SYN_DATA_ACKED, standing.plan(cluster, 0, 0.0), trio.current_time())

        def believed() -> State:
            return standings.get(endpoint).state

        learning = Remembered(*endpoint, State.LEARNING, rtt=0.1)
        notes.learn(orders.Learn([learning]))
        assert believed() is State.CONFIRMED, "nobody has been told of it yet"
        assert [entry.state for entry in notes.report().standings] == [State.CONFIRMED]
        notes.learn(orders.Learn([learning]))
        assert believed() is State.CONFIRMED, "they had not heard of it when they spoke"
        worse = Remembered(
            *endpoint, State.QUARANTINED, until=2e9, sentence=60.0, cause=Evidence.SYN_DATA_LOST
        )
        notes.learn(orders.Learn([worse]))
        assert believed() is State.QUARANTINED
        notes._spoke.clear()
        notes.learn(orders.Learn([learning]))
        assert believed() is State.LEARNING, "later the last word counts"
