"""A small DNS server on loopback, for tests: answers over UDP from a table, as slowly as it is told to."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import trio

from proxy.core.address import Endpoint


class NameServer:
    """``records``: (name, type) → the data of each record. What is not there does not exist."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.delays: dict[str, float] = {}  # by type
        self.may_answer: Callable[[], bool] = lambda: True
        self.ttl = 60
        self.rcode = dns.rcode.NOERROR
        self.asked: Counter[tuple[str, str]] = Counter()
        self.endpoint = Endpoint("127.0.0.1", 0)

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        self.asked[name, kind] += 1
        response = dns.message.make_response(query)
        response.set_rcode(self.rcode)
        data = self.records.get((name, kind), [])
        if data:
            response.answer.append(dns.rrset.from_text(question.name, self.ttl, "IN", kind, *data))
        elif not any(known == name for known, _ in self.records):
            response.set_rcode(self.rcode or dns.rcode.NXDOMAIN)
        return response

    async def serve(self, sock: trio.socket.SocketType) -> None:
        async def reply(wire: bytes, peer: tuple[str, int]) -> None:
            query = dns.message.from_wire(wire)
            response = self.answer(query)
            await trio.sleep(self.delays.get(dns.rdatatype.to_text(query.question[0].rdtype), 0.0))
            while not self.may_answer():  # noqa: ASYNC110  # whatever the test goes by
                await trio.sleep(0.005)
            await sock.sendto(response.to_wire(), peer)

        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(reply, *await sock.recvfrom(4096))


@asynccontextmanager
async def name_server() -> AsyncIterator[NameServer]:
    server = NameServer()
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))
        server.endpoint = Endpoint(*sock.getsockname())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, sock)
            yield server
            nursery.cancel_scope.cancel()
