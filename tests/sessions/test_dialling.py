"""Sessions that dial through a bad path at the same time, one after the other, and from endpoint to endpoint."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import trio

from proxy.core.address import Endpoint
from proxy.core.clusters import Balance, Cluster
from proxy.core.fastopen import State
from proxy.core.record import SessionRecord
from proxy.core.snapshot import Timeouts
from proxy.lab.behaviours import answers
from proxy.lab.clients import ask
from proxy.lab.servers import Conversation, Server
from proxy.lab.wan import Wan
from tests.serving import Serving, one_listener, serving

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.06)]

GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi"
PATIENT = Timeouts(first_bytes=30.0)  # a client whose bytes come late is not one that says nothing


def cluster_of(*endpoints: tuple[str, int]) -> Cluster:
    return Cluster("c", tuple(Endpoint(*endpoint) for endpoint in endpoints), warm_up=False)


def warm_server(wan: Wan, request: bytes = GET) -> Server:
    """The kernel has its cookie, and the lab begins anew."""
    server = wan.serve(answers(request=len(request)))
    ask(server.address, b"", expect=0)
    wan.forget()
    return server


async def request(served: Serving, data: bytes = GET) -> bytes:
    async with await served.connect() as client:
        await client.send_all(data)
        return bytes(await client.receive_some())


async def burst(served: Serving, count: int, data: bytes = GET) -> list[SessionRecord]:
    """So many at once; all must be served."""
    before = len(served.events.records)
    replies: list[bytes] = []

    async def one() -> None:
        replies.append(await request(served, data))

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)
    assert replies == [b"pong"] * count
    await served.events.record(before + count)
    return served.events.records[before:]


async def test_of_ten_at_once_on_a_dropping_path_one_pays(wan: Wan) -> None:
    server = warm_server(wan)
    with wan.through("drops-syn-data"):
        async with serving(one_listener(cluster_of(server.address), timeouts=PATIENT)) as served:
            await burst(served, 1, POST)  # now the option is known to pass
            for payers in (1, 1, 0):
                wan.forget()
                records = await burst(served, 10)
                assert len(wan.capture().dropped()) == payers
            assert {record.standing_before for record in records} == {State.QUARANTINED}


async def test_ten_at_once_where_all_is_well_and_ten_more(wan: Wan) -> None:
    server = warm_server(wan)
    async with serving(one_listener(cluster_of(server.address), timeouts=PATIENT)) as served:
        wan.set_rtt(0.5)  # the nine begin before the first has its answer, also on a slow machine
        first = Counter(record.open for record in await burst(served, 10))
        assert first["plain"] == 9, "one goes first"
        wan.set_rtt(0.06)
        second = Counter(record.evidence for record in await burst(served, 10))
        assert second == {"syn_data_acked": 10}
    await trio.to_thread.run_sync(server.wait, 21)
    assert server.received.count(GET) == 20


async def test_a_busy_server_does_not_get_twice_the_work(wan: Wan) -> None:
    """It used to answer at once, and now takes two seconds: one session at a time asks again."""

    def thinks(conversation: Conversation) -> None:
        """Whoever asks again is served after the others, also where threads wait for a processor."""
        again = server.conversations.index(conversation) >= 3 + 10
        answers(request=len(GET), delay=5.0 if again else 2.0)(conversation)

    server = wan.serve(answers(request=len(GET), delay=0.0))
    async with serving(one_listener(cluster_of(server.address), timeouts=PATIENT)) as served:
        for _ in range(3):
            await burst(served, 1)
        server._behaviour = thinks
        records = await burst(served, 10)
    assert sum(record.repeated_bytes > 0 for record in records) <= 2
    assert sum(record.repeated_bytes for record in records) <= 2 * len(GET)
    assert {record.standing_after for record in records} == {State.CONFIRMED}
    assert server.received.count(GET) <= 3 + 10 + 2


async def test_on_a_path_that_falls_silent_all_of_ten_are_answered(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)))
    async with serving(one_listener(cluster_of(server.address), timeouts=PATIENT)) as served:
        for _ in range(3):
            await burst(served, 1)
        with wan.through("silent-after-handshake"):
            records = await burst(served, 10)
            assert Counter(record.evidence for record in records) == {"silent": 10}
            assert (await burst(served, 1))[0].evidence in {"silent", "plain"}


async def test_what_may_not_be_repeated_waits_until_an_answer_was_seen(wan: Wan) -> None:
    pipelined = GET + POST
    server = warm_server(wan, pipelined)
    async with serving(one_listener(cluster_of(server.address), timeouts=PATIENT)) as served:
        carried = []
        for data in (pipelined, GET + b" " * len(POST), pipelined):
            (record,) = await burst(served, 1, data)
            carried.append(record.syn_bytes)
    assert carried[0] == 0
    assert carried[2] in {0, len(GET)}


async def test_what_two_endpoints_were_told_is_counted(wan: Wan) -> None:
    gone, server = warm_server(wan), wan.serve(answers(request=len(GET)))
    gone.close()
    cluster = replace(cluster_of(gone.address, server.address), balance=Balance.FIRST)
    async with serving(one_listener(cluster, timeouts=PATIENT)) as served:
        (record,) = await burst(served, 1)
    assert (record.tried, record.endpoint) == (2, Endpoint(*server.address))
    assert record.repeated_bytes == len(GET), "the first may have had it, for all we know"
