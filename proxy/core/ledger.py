"""The account: what Fast Open won and cost, for each session, each endpoint, each listener's cluster, and in all.

A session is compared with what a plain dial at the moment of accept would have done to it. That dial would have been
ready one round trip later, so bytes that the client had said ``d`` seconds after accept would have left at
``max(d, rtt)``, and a banner would have come after two round trips. What is later than that is lost, whatever caused
it: a wait, a hedge, a redial, a SYN that the kernel had to repeat.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypedDict

from proxy.core.account import Account, AccountData, add_up
from proxy.core.address import Endpoint
from proxy.core.evidence import LOSSES, Evidence
from proxy.core.record import SessionRecord

MOST_ENDPOINTS = 10_000
_JUST_THEN = 0.002  # a client heard so soon after the handshake may have spoken during it
_COSTLY = LOSSES | {Evidence.PATH_MTU}
# Bound once: asking an enum for a member costs as much as a call (Python 3.11).
_ACKED, _NOT_ACKED = Evidence.SYN_DATA_ACKED, Evidence.SYN_DATA_NOT_ACKED
_EMPTY_OPEN = Evidence.EMPTY_OPEN


def settle(record: SessionRecord) -> None:
    """Fill in ``saved`` and ``lost`` of a session that has ended, from what is known of it."""
    if not record.waited and record.open == "plain":
        return  # as plain as plain can be
    record.saved = record.lost = 0.0
    dialled, rtt = record.dial_time, _round_trip(record)
    if dialled is None or rtt is None:
        record.lost = record.waited + record.dead_spare  # it failed, and that much later
        return
    if record.spare:
        _settle_spare(record, rtt)
        return
    late = record.dead_spare + dialled - _plain_dial(record, dialled, rtt)
    if record.early_bytes:
        _settle_early(record, rtt, late)
    elif record.server_first:
        record.saved = rtt if record.evidence is _EMPTY_OPEN and _answered_early(record, rtt) else 0.0
        record.lost = record.waited + late
    elif record.client_first and _was_kept(record, dialled):
        record.lost = record.waited + late


def _settle_early(record: SessionRecord, rtt: float, late: float) -> None:
    """The client spoke within the wait."""
    spoke = record.waited
    acked = record.evidence is _ACKED
    if acked and (record.syn_bytes >= record.early_bytes or _answered_early(record, rtt)):
        record.saved = max(rtt - spoke, 0.0)
    else:
        record.lost = min(spoke, rtt) + late


def _settle_spare(record: SessionRecord, rtt: float) -> None:
    """Its connection was ready at once, and so was a banner that had come before the client."""
    if record.early_bytes:
        record.saved = max(rtt - record.waited, 0.0)
        record.lost = max(record.waited - rtt, 0.0)
    elif record.server_first and record.first_byte is not None:
        record.saved = max(2 * rtt - record.first_byte, 0.0)


def _round_trip(record: SessionRecord) -> float | None:
    """The session's round trip: what its handshake took, unless that was disturbed; then what was known before."""
    if record.rtt is None or record.dial_time is None:
        return record.dial_time
    if record.spare:
        return record.rtt
    return record.rtt if _disturbed(record) else min(record.rtt, record.dial_time)


def _disturbed(record: SessionRecord) -> bool:
    if record.hedged or record.redialled or record.evidence in _COSTLY:
        return True
    return record.retransmits > 0 and record.evidence is not _NOT_ACKED


def _plain_dial(record: SessionRecord, dialled: float, rtt: float) -> float:
    """How long a plain handshake would have taken: as long as ours, unless Fast Open was what delayed it."""
    return min(rtt, dialled) if record.evidence in _COSTLY else dialled


def _answered_early(record: SessionRecord, rtt: float) -> bool:
    """Whether the upstream's first byte came with the handshake, not a round trip after it."""
    if record.first_byte is None or record.dial_time is None:
        return False
    return record.first_byte - record.waited - record.dial_time < rtt / 2


def _was_kept(record: SessionRecord, dialled: float) -> bool:
    """Whether the client spoke before all was ready. Where that is not known, it did."""
    return record.client_delay is None or record.client_delay <= record.waited + dialled + _JUST_THEN


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
