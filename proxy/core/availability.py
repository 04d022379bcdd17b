"""Which endpoints of a cluster are better left alone: those whose dials fail, and those a health check has found down.

An endpoint that fails several dials in a row is ejected for a while, for longer each time, and never so many at once
that the rest could not carry the load. The first dial that works wipes the slate clean.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.core.address import Endpoint
from proxy.core.clusters import Ejection
from proxy.core.members import Members

_NONE: frozenset[Endpoint] = frozenset()


@dataclass(frozen=True, slots=True)
class Outages:
    """A cluster's endpoints that do not work, by what is done about it.

    ``troubles`` has for each of them when it began, in monotonic seconds, and the last error, as text.
    """

    members: int  # all endpoints of the cluster
    down: frozenset[Endpoint] = _NONE  # health checks cannot reach it: it gets no sessions
    ejected: frozenset[Endpoint] = _NONE  # dials failed in a row: it gets no sessions for a while
    failing: frozenset[Endpoint] = _NONE  # the last dial failed: it still gets sessions
    troubles: dict[Endpoint, tuple[float, str]] = field(default_factory=dict[Endpoint, tuple[float, str]])

    def __or__(self, other: Outages) -> Outages:
        """The outages that two workers have found, together: the worse condition, and the earlier beginning."""
        down = self.down | other.down
        ejected = (self.ejected | other.ejected) - down
        failing = (self.failing | other.failing) - down - ejected
        troubles = dict(other.troubles)
        for endpoint, (since, error) in self.troubles.items():
            known = troubles.get(endpoint, (since, error))
            troubles[endpoint] = min(since, known[0]), error or known[1]
        return Outages(max(self.members, other.members), down, ejected, failing, troubles)


class _Trouble:
    __slots__ = ("checks", "error", "failures", "since", "times", "until")

    def __init__(self, now: float) -> None:
        self.since = now  # when the first dial or health check failed
        self.error = ""  # of the last one
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

    def failed(self, endpoint: Endpoint, members: int, now: float, error: str = "") -> bool:
        """A dial failed, for which the endpoint or the way there may be blamed; whether that ejects it."""
        policy = self._policy
        trouble = self._trouble(endpoint, now)
        trouble.error = error
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

    def checked(  # the check's policy and its result
        self, endpoint: Endpoint, now: float, error: str = "", *, healthy: bool, rise: int, fall: int
    ) -> bool:
        """A health check has ended; whether the endpoint is up or down from now on. ``error`` is what was wrong."""
        if healthy is (endpoint not in self._down):
            if endpoint in self._troubles:
                self._troubles[endpoint].checks = 0
            return False
        trouble = self._trouble(endpoint, now)
        trouble.error = error or trouble.error
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
        """The endpoints that do not work, with the reasons, for the status."""
        down = frozenset(self._down & members.at.keys())
        ejected = frozenset(self._ejected(now) & members.at.keys()) - down
        failed = {
            endpoint for endpoint, trouble in self._troubles.items() if trouble.failures or trouble.times
        }
        failing = frozenset(failed & members.at.keys()) - down - ejected
        troubles = {
            endpoint: (trouble.since, trouble.error)
            for endpoint, trouble in self._troubles.items()
            if endpoint in down or endpoint in ejected or endpoint in failing
        }
        return Outages(len(members), down, ejected, failing, troubles)

    def _trouble(self, endpoint: Endpoint, now: float) -> _Trouble:
        trouble = self._troubles.get(endpoint)
        if trouble is None:
            trouble = self._troubles[endpoint] = _Trouble(now)
        return trouble

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
