"""Which endpoints of a cluster are better left alone: those whose dials fail, and those a health check has found down.

An endpoint that fails several dials in a row is ejected for a while, for longer each time, and never so many at once
that the rest could not carry the load. The first dial that works wipes the slate clean.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.core.address import Endpoint
from proxy.core.clusters import Ejection
from proxy.core.members import Members

_NONE: frozenset[Endpoint] = frozenset()


@dataclass(frozen=True, slots=True)
class Outages:
    """A cluster's endpoints: how many there are, and whom nobody is sent to just now."""

    members: int
    down: frozenset[Endpoint] = _NONE  # health checks find nobody there
    ejected: frozenset[Endpoint] = _NONE  # dials failed in a row

    def __or__(self, other: Outages) -> Outages:
        """What two workers have found."""
        members = max(self.members, other.members)
        return Outages(members, self.down | other.down, self.ejected | other.ejected)


class _Trouble:
    __slots__ = ("checks", "failures", "times", "until")

    def __init__(self) -> None:
        self.failures = 0  # dials in a row that failed
        self.times = 0  # ejections in a row
        self.until = 0.0  # it is out until then
        self.checks = 0  # health checks in a row that said the other thing than is believed


class Availability:
    """What is known of one cluster's endpoints; most are never heard of. ``now`` is monotonic seconds."""

    __slots__ = ("_down", "_policy", "_troubles")

    def __init__(self, policy: Ejection) -> None:
        self._policy = policy
        self._troubles: dict[Endpoint, _Trouble] = {}
        self._down: set[Endpoint] = set()

    def failed(self, endpoint: Endpoint, members: int, now: float) -> bool:
        """A dial failed, for which the endpoint or the way there may be blamed; whether that ejects it."""
        policy = self._policy
        trouble = self._troubles.setdefault(endpoint, _Trouble())
        trouble.failures += 1
        if trouble.failures < policy.after or now < trouble.until:
            return False
        out = sum(1 for other in self._troubles.values() if now < other.until)
        if (out + 1) * 100 > members * policy.most:
            return False
        trouble.until = now + min(policy.time * 2**trouble.times, policy.longest)
        trouble.times = min(trouble.times + 1, 32)
        trouble.failures = policy.after - 1  # back from there, it has one try
        return True

    def worked(self, endpoint: Endpoint) -> bool:
        """A dial worked; whether that ends what ejections began."""
        if not self._troubles:
            return False
        trouble = self._troubles.pop(endpoint, None)
        return trouble is not None and trouble.times > 0

    def checked(self, endpoint: Endpoint, *, healthy: bool, rise: int, fall: int) -> bool:
        """A health check has ended; whether it was the last straw, so that the endpoint is up or down now."""
        if healthy is (endpoint not in self._down):
            if endpoint in self._troubles:
                self._troubles[endpoint].checks = 0
            return False
        trouble = self._troubles.setdefault(endpoint, _Trouble())
        trouble.checks += 1
        if trouble.checks < (rise if healthy else fall):
            return False
        trouble.checks = 0
        if healthy:
            self._down.discard(endpoint)
            self._troubles.pop(endpoint, None)
        else:
            self._down.add(endpoint)
        return True

    def is_down(self, endpoint: Endpoint) -> bool:
        """Whether health checks say so."""
        return endpoint in self._down

    def until(self, endpoint: Endpoint) -> float:
        """The end of its ejection, past or to come; 0: it was never ejected."""
        trouble = self._troubles.get(endpoint)
        return trouble.until if trouble is not None else 0.0

    def out(self, members: Members, now: float) -> frozenset[Endpoint]:
        """Those to be left alone now. None at all where every member is: then any may be as good as another."""
        if not self._troubles and not self._down:
            return _NONE
        out = frozenset((self._ejected(now) | self._down) & members.at.keys())
        return out if len(out) < len(members) else _NONE

    def outages(self, members: Members, now: float) -> Outages:
        """The same in full, for those who look on."""
        down = frozenset(self._down & members.at.keys())
        return Outages(len(members), down, frozenset(self._ejected(now) & members.at.keys()) - down)

    def _ejected(self, now: float) -> set[Endpoint]:
        return {endpoint for endpoint, trouble in self._troubles.items() if now < trouble.until}

    def inherit(self, former: Availability, *, checked: bool) -> None:
        """Go on from what was known under another policy; who is not checked any more is not down any more."""
        self._troubles = {
            endpoint: trouble
            for endpoint, trouble in former._troubles.items()
            if checked or endpoint not in former._down
        }
        self._down = set(former._down) if checked else set()

    def keep(self, members: Members) -> None:
        """Forget those that are no members any more."""
        for endpoint in tuple(self._troubles):
            if endpoint not in members.at:
                del self._troubles[endpoint]
        self._down &= members.at.keys()
