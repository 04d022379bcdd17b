"""Ask DNS servers with dnspython: both address families at once, with their times to live, and SRV.

Loading dnspython takes a while, so this module is imported when it is first needed.
"""

from __future__ import annotations

from collections.abc import Callable

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver
import trio

from proxy.core.address import Endpoint
from proxy.net.answers import MOST_ADDRESSES, Addresses, LookupFailed, Server, Servers, of_both_families

_MARGIN = 0.2  # seconds
_EACH = 2.0  # seconds that dnspython gives one server before it asks the next
_LEAST = 5.0


class Records:
    """Asks the servers of resolv.conf(5), or ``servers``; raises `LookupFailed` where there are none."""

    def __init__(self, servers: tuple[Endpoint, ...], resolv_conf: str = "/etc/resolv.conf") -> None:
        try:
            self._resolver = dns.asyncresolver.Resolver(resolv_conf, configure=not servers)
        except dns.resolver.NoResolverConfiguration:
            raise LookupFailed(f"{resolv_conf} names no server, or cannot be read") from None
        if servers:
            self._resolver.nameservers = [
                dns.nameserver.Do53Nameserver(one.host, one.port) for one in servers
            ]
        # Every server is asked once at least, also where those in front of it do not answer.
        self._patience = max(_LEAST, (_EACH + 0.5) * len(self._resolver.nameservers))

    async def addresses(self, name: str, on_part: Callable[[Addresses], None]) -> Addresses:
        """AAAA and A at once, as `of_both_families` does it; raises `LookupFailed`."""

        async def ask(is_ipv6: bool) -> Addresses:
            answer = await self._query(name, "AAAA" if is_ipv6 else "A")
            hosts = tuple(str(row.address) for _, row in zip(range(MOST_ADDRESSES), answer, strict=False))
            return Addresses(hosts, _ttl(answer))

        return await of_both_families(ask, on_part)

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
        """Within ``_patience`` of a clock that cannot be set: dnspython goes by the one on the wall."""
        deadline = trio.current_time() + self._patience
        with trio.move_on_at(deadline + _MARGIN):
            while True:
                try:
                    return await self._resolver.resolve(name, kind, search=True, lifetime=self._patience)
                except dns.resolver.LifetimeTimeout:
                    if trio.current_time() > deadline - _MARGIN:
                        raise
        raise LookupFailed(f"{name}: no answer within {self._patience:g} s")


def _ttl(answer: dns.resolver.Answer) -> float:
    return float(answer.rrset.ttl) if answer.rrset is not None else 0.0
