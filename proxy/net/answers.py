"""What looking a name up yields, and how the answers of both address families are put together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import trio

MOST_ADDRESSES = 32  # of one name that are kept; no session dials so many
_RESOLUTION_DELAY = 0.05  # seconds; for IPv6 addresses once IPv4 ones have come (RFC 8305 section 3)
# The other way round RFC 8305 waits no time at all. But both answers mostly come within milliseconds, and whole ones
# can be put in the order that is known to be the best.
_OTHER_DELAY = 0.01


class LookupFailed(Exception):
    """No answer; says what was asked and why. ``lasting``: the name is known not to exist."""

    def __init__(self, problem: str, *, lasting: bool = False) -> None:
        super().__init__(problem)
        self.lasting = lasting


class Addresses(NamedTuple):
    """Numeric addresses, the best first (RFC 6724), and how long they are good for; None: nobody said.

    ``complete``: False where only one address family has answered.
    """

    hosts: tuple[str, ...]
    ttl: float | None
    complete: bool = True


class Server(NamedTuple):
    """One server of a service (RFC 2782)."""

    priority: int
    weight: int
    host: str
    port: int


class Servers(NamedTuple):
    """All servers of a service, and how long they are good for."""

    servers: tuple[Server, ...]
    ttl: float | None
    complete: bool = True


async def of_both_families(
    ask: Callable[[bool], Awaitable[Addresses]], on_part: Callable[[Addresses], None]
) -> Addresses:
    """The addresses of both families, asked for at once by ``ask`` (True: IPv6); raises `LookupFailed`.

    Where one family takes longer, ``on_part`` is given the other's addresses before: IPv4 ones after the Resolution
    Delay of RFC 8305 section 3, IPv6 ones sooner.
    """
    found: dict[bool, Addresses] = {}
    failures: list[LookupFailed] = []
    over = {True: trio.Event(), False: trio.Event()}

    async def one(is_ipv6: bool) -> None:
        try:
            found[is_ipv6] = answer = await ask(is_ipv6)
        except LookupFailed as failure:
            failures.append(failure)
            return
        finally:
            over[is_ipv6].set()
        with trio.move_on_after(_OTHER_DELAY if is_ipv6 else _RESOLUTION_DELAY):
            await over[not is_ipv6].wait()
        if len(found) + len(failures) < 2:
            on_part(answer._replace(complete=False))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, True)
        nursery.start_soon(one, False)
    if not found:
        raise next((failure for failure in failures if not failure.lasting), failures[0])
    hosts = tuple(host for is_ipv6 in (True, False) if is_ipv6 in found for host in found[is_ipv6].hosts)
    ttl = min((answer.ttl for answer in found.values() if answer.ttl is not None), default=None)
    return Addresses(hosts, ttl, complete=all(failure.lasting for failure in failures))
