"""From a cluster to the endpoints that may be dialled for one session, in the order to try them.

Names are resolved for each dial through a small cache: the C library's resolver honours ``/etc/hosts`` and nsswitch
but tells no time to live, so answers are kept for a fixed while.
"""

from __future__ import annotations

import socket

import trio

from proxy.core.address import Authority, Endpoint
from proxy.core.snapshot import Cluster

TTL = 30.0
NEGATIVE_TTL = 5.0
_MOST_NAMES = 4096


class NoSuchHost(Exception):
    """A name with no address; says which name and what the resolver said."""


class _Answer:
    __slots__ = ("endpoints", "error", "expires", "ready")

    def __init__(self) -> None:
        self.ready: trio.Event | None = trio.Event()
        self.endpoints: list[Endpoint] = []
        self.error = ""
        self.expires = 0.0


class Resolver:
    """Candidates for each dial; names looked up once at a time (single flight), kept a while."""

    def __init__(self) -> None:
        self._answers: dict[Authority, _Answer] = {}
        self._turns: dict[str, int] = {}

    async def candidates(self, cluster: Cluster) -> list[Endpoint]:
        """The cluster's endpoints, each session beginning with the next one; raises `NoSuchHost`."""
        targets = cluster.endpoints
        if len(targets) == 1 and isinstance(targets[0], Endpoint):
            return [targets[0]]
        endpoints: list[Endpoint] = []
        failure: NoSuchHost | None = None
        for target in targets:
            if isinstance(target, Endpoint):
                endpoints.append(target)
                continue
            try:
                endpoints += await self.lookup(target)
            except NoSuchHost as missing:
                failure = missing
        if not endpoints:
            raise failure or NoSuchHost(f"cluster {cluster.name} has no endpoints")
        turn = self._turns.get(cluster.name, -1) + 1
        self._turns[cluster.name] = turn
        first = turn % len(endpoints)
        return endpoints[first:] + endpoints[:first]

    async def lookup(self, authority: Authority) -> list[Endpoint]:
        """The addresses of one name; raises `NoSuchHost`."""
        answer = self._answers.get(authority)
        while answer is not None and answer.ready is not None:  # somebody is asking: hear it with them
            await answer.ready.wait()
            answer = self._answers.get(authority)
        if answer is None or answer.expires <= trio.current_time():
            answer = await self._ask(authority)
        if answer.error:
            raise NoSuchHost(answer.error)
        return answer.endpoints

    async def _ask(self, authority: Authority) -> _Answer:
        if len(self._answers) >= _MOST_NAMES:
            self._answers.pop(next(iter(self._answers)))
        answer = self._answers[authority] = _Answer()
        done = answer.ready
        try:
            found = await trio.to_thread.run_sync(_getaddrinfo, authority, abandon_on_cancel=True)
        except OSError as error:
            answer.error = f"{authority.host}: {error.strerror or error}"
            answer.expires = trio.current_time() + NEGATIVE_TTL
        except BaseException:
            self._answers.pop(authority, None)  # whoever waits with us asks again
            raise
        else:
            answer.endpoints = found
            answer.expires = trio.current_time() + TTL
        finally:
            answer.ready = None
            if done is not None:
                done.set()
        return answer


def _getaddrinfo(authority: Authority) -> list[Endpoint]:
    rows = socket.getaddrinfo(authority.host, authority.port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(Endpoint(str(row[4][0]), authority.port) for row in rows))
