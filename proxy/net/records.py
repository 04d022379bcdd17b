"""Ask DNS servers with dnspython: both address families at once, with their times to live, and SRV.

Loading dnspython takes a while, so this module is imported when it is first needed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import dns.asyncresolver
import dns.exception
import dns.message
import dns.nameserver
import dns.resolver
import trio
from dns._asyncbackend import Backend

from proxy.core.address import Endpoint
from proxy.net.answers import MOST_ADDRESSES, Addresses, LookupFailed, Server, Servers, of_both_families

_MARGIN = 0.2  # seconds
_EACH = 2.0  # seconds that dnspython gives one server before it asks the next
_LEAST = 5.0
MOST_ANSWER = 8 * 1024  # bytes, some 500 addresses; to read it takes the event loop 30 ms at worst


class _Server(dns.nameserver.Do53Nameserver):
    """A name server whose answers are bounded before they are read: over TCP they may have 64 KiB."""

    async def async_query(  # noqa: PLR0913, PLR0917  # dnspython's signature
        self,
        request: dns.message.QueryMessage,
        timeout: float,
        source: str | None,
        source_port: int,
        max_size: bool,
        backend: Backend,
        one_rr_per_rrset: bool = False,
        ignore_trailing: bool = False,
    ) -> dns.message.Message:
        """Ask over TCP where ``max_size`` says that the answer does not fit a datagram."""
        if not max_size:
            return await super().async_query(
                request, timeout, source, source_port, max_size, backend, one_rr_per_rrset, ignore_trailing
            )
        wire = request.to_wire()
        with trio.fail_after(timeout):
            async with await trio.open_tcp_stream(self.address, self.port) as stream:
                await stream.send_all(len(wire).to_bytes(2, "big") + wire)
                size = int.from_bytes(await _exactly(stream, 2), "big")
                if size > MOST_ANSWER:
                    raise OSError(
                        errno.EMSGSIZE, f"an answer of {size} bytes; at most {MOST_ANSWER} are read"
                    )
                reply = dns.message.from_wire(await _exactly(stream, size))
                if not request.is_response(reply):
                    raise OSError(errno.EBADMSG, "an answer to another question")
                return reply


async def _exactly(stream: trio.SocketStream, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = await stream.receive_some(size - len(data))
        if not more:
            raise EOFError("the server closed the connection within its answer")
        data += more
    return bytes(data)


class Records:
    """Asks the servers of resolv.conf(5), or ``servers``; raises `LookupFailed` where there are none."""

    def __init__(self, servers: tuple[Endpoint, ...], resolv_conf: str = "/etc/resolv.conf") -> None:
        try:
            self._resolver = dns.asyncresolver.Resolver(resolv_conf, configure=not servers)
        except dns.resolver.NoResolverConfiguration:
            raise LookupFailed(f"{resolv_conf} names no server, or cannot be read") from None
        if servers:
            self._resolver.nameservers = [_Server(one.host, one.port) for one in servers]
        else:
            self._resolver.nameservers = [
                _Server(str(one), self._resolver.port) if isinstance(one, str) else one
                for one in self._resolver.nameservers
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
