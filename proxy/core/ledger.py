"""The account: what Fast Open won and cost, for each session, each endpoint, each listener's cluster, and in all.

A session is compared with a plain dial made at the moment when the session could first have dialled. What counts is
when the request that was answered left for the server (or, where the server speaks first, when the server could begin):
plainly that is at the end of the handshake, or when the client spoke, if that was later. Earlier than that is saved,
later is lost, whatever caused it: a wait, a hedge, a redial, a SYN that the kernel had to repeat, an answer that the
kernel dropped. A session to which the server sent no byte has neither saved nor lost.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TypedDict

from proxy.core.account import Account, AccountData, add_up
from proxy.core.address import Endpoint
from proxy.core.evidence import LOSSES, Evidence
from proxy.core.record import Dial, SessionRecord

MOST_ENDPOINTS = 10_000
_JUST_THEN = 0.002  # a client heard so soon after the handshake may have spoken during it
_COSTLY = LOSSES | {Evidence.PATH_MTU}
# Bound once: asking an enum for a member costs as much as a call (Python 3.11).
_ACKED, _EMPTY_OPEN, _NO_HANDSHAKE = Evidence.SYN_DATA_ACKED, Evidence.EMPTY_OPEN, Evidence.NO_HANDSHAKE
_PLAIN, _PLAINLY = Evidence.PLAIN, frozenset({"plain", "spare"})
_SECOND = frozenset({"hedge", "doubt"})


def settle(record: SessionRecord) -> None:
    """Fill in what a finished session's dials say of it, and ``saved`` and ``lost``."""
    dials = record.dials
    if not dials:
        return
    if len(dials) > 1:
        record.hedged = record.hedged or any(dial.why in _SECOND for dial in dials)
        record.redialled = record.redialled or any(dial.why == "redial" for dial in dials)
    if record.evidence is None:
        _settle_failed(record, dials)
    elif record.evidence is _PLAIN and record.open not in _PLAINLY:
        # A plain connection was used, and nothing tells both apart: the fast open showed what it showed, or was late.
        record.evidence = _first_to(record.endpoint, dials).evidence or Evidence.SYN_ACK_LOST
    spoken = record.early_bytes or record.client_first or record.server_first
    if (
        record.first_byte is not None
        and spoken
        and (record.open != "plain" or record.waited or record.dead_spare)
    ):
        gain = _gain(record)
        record.saved, record.lost = max(gain, 0.0), max(-gain, 0.0)


def _settle_failed(record: SessionRecord, dials: Sequence[Dial]) -> None:
    """No connection was made, or the session ended before one was chosen."""
    record.evidence = _NO_HANDSHAKE
    record.standing_after = record.standing_after or record.standing_before
    first = _first_to(record.endpoint, dials)
    record.syn_bytes = first.syn_bytes
    record.retransmits = max(dial.retransmits for dial in dials)


def _gain(record: SessionRecord) -> float:
    """Seconds by which the answer came sooner than after a plain dial; below 0: later."""
    used = record.dial
    assert used is not None
    first = _first_to(record.endpoint if used.why != "rival" else None, record.dials)
    origin = first.started - record.waited  # a plain dial would have begun then
    started = used.started - origin
    ended = used.ended - origin if used.ended is not None else started
    spoke = _spoke(record, ended)
    if record.spare:
        rtt = record.rtt or 0.0
        if record.server_first and not record.early_bytes:
            assert record.first_byte is not None
            return max(2 * rtt - (record.began + record.first_byte - origin), 0.0)
        return max(spoke, rtt) - max(spoke, started)
    took = ended - started
    trip = min(used.rtt if used.rtt is not None else record.rtt or took, took)
    plain = trip if used.why == "first" and record.evidence in _COSTLY else took
    sooner = max(spoke, plain)  # when the request would have left
    if record.overtaken:
        assert record.first_byte is not None
        return sooner + trip - (record.began + record.first_byte - origin)
    if not _is_early(record, used):
        return sooner - max(spoke, ended)
    if used.rtt is not None:
        return max(max(spoke, trip) - started, 0.0)
    return sooner - max(spoke, ended - trip)  # an answer comes after the SYN-ACK, and that was repeated


def _spoke(record: SessionRecord, ended: float) -> float:
    """When the client's first bytes were there; the beginning where the server speaks first, or that is not known."""
    if record.early_bytes:
        return record.waited
    delay = record.client_delay
    if not record.client_first or delay is None or record.reply == "dialed":
        return 0.0
    return delay if delay > ended + _JUST_THEN else 0.0


def _is_early(record: SessionRecord, used: Dial) -> bool:
    """Whether the server could begin with the SYN, not with what came after the handshake."""
    if used.open == "plain":
        return False
    if record.early_bytes:
        whole = record.syn_bytes >= record.early_bytes
        return record.evidence is _ACKED and (whole or answered_early(record))
    return (
        record.evidence is _EMPTY_OPEN and record.server_first and (record.greeted or answered_early(record))
    )


def answered_early(record: SessionRecord) -> bool:
    """Whether the upstream's first byte came with the handshake, not a round trip after it."""
    used = record.dial
    if record.first_byte is None or used is None or used.ended is None:
        return False
    took = used.ended - used.started
    return record.began + record.first_byte - used.ended < min(record.rtt or took, took) / 2


def _first_to(endpoint: Endpoint | None, dials: Sequence[Dial]) -> Dial:
    """The first dial to ``endpoint``; of all where there is none."""
    return next((dial for dial in dials if dial.endpoint == endpoint), dials[0])


class LedgerData(TypedDict):
    """A `Ledger` as plain data."""

    total: AccountData
    clusters: dict[str, dict[str, AccountData]]  # listener → cluster → account
    endpoints: dict[str, AccountData]


class Ledger:
    """All accounts of a process: one for each listener, cluster and endpoint that met; sums are made when asked for.

    Bounded: the least recently used account is merged into its cluster's remainder.
    """

    __slots__ = ("_accounts", "_most", "_remainders")

    def __init__(self, most: int = MOST_ENDPOINTS) -> None:
        self._accounts: OrderedDict[tuple[str, str, Endpoint | None], Account] = OrderedDict()
        self._remainders: dict[tuple[str, str], Account] = {}
        self._most = most

    def add(self, *records: SessionRecord) -> None:
        """Account for sessions that have ended and been settled."""
        key, account = None, _NONE
        for record in records:
            wanted = (record.listener, record.cluster, record.endpoint)
            if wanted != key:
                key = wanted
                account = self._accounts.get(key) or self._new(key)
                self._accounts.move_to_end(key)
            account.count(record)

    def take(self, most: int) -> list[tuple[tuple[str, str, Endpoint | None], Account]]:
        """Hand over what has been added up, of at most ``most`` kinds of sessions, and forget it here."""
        taken: list[tuple[tuple[str, str, Endpoint | None], Account]] = []
        while self._remainders and len(taken) < most:
            (listener, cluster), account = self._remainders.popitem()
            taken.append(((listener, cluster, None), account))
        while self._accounts and len(taken) < most:
            taken.append(self._accounts.popitem(last=False))
        return taken

    def merge(self, key: tuple[str, str, Endpoint | None], account: Account) -> None:
        """Add what another ledger has handed over."""
        known = self._accounts.get(key) or self._new(key)
        self._accounts[key] = known + account
        self._accounts.move_to_end(key)

    def everything(self) -> list[tuple[tuple[str, str, Endpoint | None], Account]]:
        """All accounts, for another ledger to `merge`; the least recently used first."""
        remainders = [((*way, None), account) for way, account in self._remainders.items()]
        return [*remainders, *self._accounts.items()]

    @property
    def clusters(self) -> dict[tuple[str, str], Account]:
        """Sums by listener and cluster."""
        sums = dict(self._remainders)
        for (listener, cluster, _), account in self._accounts.items():
            sums[listener, cluster] = sums.get((listener, cluster), _NONE) + account
        return sums

    @property
    def endpoints(self) -> dict[Endpoint, Account]:
        """Sums by endpoint, the least recently used first."""
        sums: dict[Endpoint, Account] = {}
        for (_, _, endpoint), account in self._accounts.items():
            if endpoint is not None:
                sums[endpoint] = sums.pop(endpoint, _NONE) + account
        return sums

    def latest(self, most: int) -> dict[Endpoint, tuple[Account, set[str]]]:
        """The endpoints used last, at most so many, the last one first: their sums, and whose clusters they serve."""
        found: dict[Endpoint, tuple[Account, set[str]]] = {}
        for (_, cluster, endpoint), account in reversed(self._accounts.items()):
            if endpoint is None or (endpoint not in found and len(found) >= most):
                continue
            known = found.get(endpoint)
            found[endpoint] = (
                (account, {cluster}) if known is None else (known[0] + account, known[1] | {cluster})
            )
        return found

    @property
    def total(self) -> Account:
        """All sessions of this process."""
        return add_up([*self._accounts.values(), *self._remainders.values()])

    def plain(self) -> LedgerData:
        """As plain data, for the status."""
        clusters: dict[str, dict[str, AccountData]] = {}
        for (listener, cluster), account in self.clusters.items():
            clusters.setdefault(listener, {})[cluster] = account.plain()
        return {
            "total": self.total.plain(),
            "clusters": clusters,
            "endpoints": {str(endpoint): account.plain() for endpoint, account in self.endpoints.items()},
        }

    def _new(self, key: tuple[str, str, Endpoint | None]) -> Account:
        if len(self._accounts) >= self._most:
            (listener, cluster, _), forgotten = self._accounts.popitem(last=False)
            self._remainders[listener, cluster] = self._remainders.get((listener, cluster), _NONE) + forgotten
        account = self._accounts[key] = Account()
        return account


_NONE = Account()
