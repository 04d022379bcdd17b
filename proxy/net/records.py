"""Ask DNS servers with dnspython: both address families at once, with their times to live, and SRV.

Loads dnspython, so it is imported only where that is installed and wanted.
"""

from __future__ import annotations

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver
import trio

from proxy.core.address import Endpoint
from proxy.net.answers import LOOKUP_TIMEOUT, Addresses, LookupFailed, Server, Servers

_MARGIN = 0.2  # seconds
_RESOLUTION_DELAY = 0.05  # for the other family, once one has come (RFC 8305 section 3)


class Records:
    """Asks the servers of resolv.conf(5), or ``servers``; raises OSError where there are none."""

    def __init__(self, servers: tuple[Endpoint, ...]) -> None:
        self._resolver = dns.asyncresolver.Resolver(configure=not servers)
        if servers:
            self._resolver.nameservers = [
                dns.nameserver.Do53Nameserver(one.host, one.port) for one in servers
            ]

    async def addresses(self, name: str) -> Addresses:
        """AAAA and A at once; raises `LookupFailed`. The second to come is not waited for long."""
        found: list[dns.resolver.Answer] = []
        failures: list[LookupFailed] = []

        async def ask(kind: str) -> None:
            try:
                found.append(await self._query(name, kind))
            except LookupFailed as failure:
                failures.append(failure)
            else:
                both.cancel_scope.deadline = trio.current_time() + _RESOLUTION_DELAY

        async with trio.open_nursery() as both:
            both.start_soon(ask, "AAAA")
            both.start_soon(ask, "A")
        if not found:
            raise next((failure for failure in failures if not failure.lasting), failures[0])
        hosts = tuple(str(row.address) for answer in found for row in answer)
        return Addresses(hosts, min(_ttl(answer) for answer in found))

    async def servers(self, name: str) -> Servers:
        """SRV; raises `LookupFailed`."""
        answer = await self._query(name, "SRV")
        found = [
            Server(row.priority, row.weight, str(row.target), row.port) for row in answer
        ]  # names end with a dot
        return Servers(tuple(server for server in found if server.host != "."), _ttl(answer))

    async def _query(self, name: str, kind: str) -> dns.resolver.Answer:
        try:
            return await self._in_time(name, kind)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            raise LookupFailed(f"{name}: there is no {kind} record", lasting=True) from None
        except (dns.exception.DNSException, OSError) as error:
            raise LookupFailed(f"{name}: {error}") from None

    async def _in_time(self, name: str, kind: str) -> dns.resolver.Answer:
        """Within `LOOKUP_TIMEOUT` of a clock that nobody can set: dnspython goes by the one on the wall."""
        deadline = trio.current_time() + LOOKUP_TIMEOUT
        with trio.move_on_at(deadline + _MARGIN):
            while True:
                try:
                    return await self._resolver.resolve(name, kind, search=True, lifetime=LOOKUP_TIMEOUT)
                except dns.resolver.LifetimeTimeout:
                    if trio.current_time() > deadline - _MARGIN:
                        raise
        raise LookupFailed(f"{name}: no answer within {LOOKUP_TIMEOUT:g} s")


def _ttl(answer: dns.resolver.Answer) -> float:
    return float(answer.rrset.ttl) if answer.rrset is not None else 0.0
