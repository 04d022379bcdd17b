"""Accounts and counters as the `views.Tally` of the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxy.admin import views
from proxy.core.account import FIRST_BYTE_BOUNDS, Account
from proxy.core.evidence import Evidence
from proxy.telemetry.region import OfWay
from proxy.telemetry.sums import histogram

_BUCKETS = len(FIRST_BYTE_BOUNDS) + 1


def of_numbers(
    numbers: Sequence[float], endings: Mapping[tuple[str, str, str], int], open_now: int
) -> views.Tally:
    """From the slots of one way, or of several added up."""

    def count(slot: OfWay) -> int:
        return int(numbers[slot])

    evidence = {
        str(one): int(numbers[OfWay.EVIDENCE + number])
        for number, one in enumerate(Evidence)
        if numbers[OfWay.EVIDENCE + number]
    }
    return views.Tally(
        sessions=count(OfWay.SESSIONS),
        open=open_now,
        up_bytes=count(OfWay.UP_BYTES),
        down_bytes=count(OfWay.DOWN_BYTES),
        round_trips_saved=count(OfWay.ROUND_TRIPS_SAVED),
        seconds_saved=numbers[OfWay.SECONDS_SAVED],
        seconds_lost=numbers[OfWay.SECONDS_LOST],
        hedges=count(OfWay.HEDGES),
        redials=count(OfWay.REDIALS),
        repeated_bytes=count(OfWay.REPEATED_BYTES),
        duplicates=count(OfWay.DUPLICATES),
        on_spares=count(OfWay.ON_SPARES),
        failed=count(OfWay.FAILED),
        evidence=evidence,
        endings=_endings(endings),
        first_byte_fast=spread(*histogram(numbers, OfWay.FIRST_BYTE_FAST, _BUCKETS)),
        first_byte_plain=spread(*histogram(numbers, OfWay.FIRST_BYTE_PLAIN, _BUCKETS)),
    )


def of_account(account: Account, open_now: int) -> views.Tally:
    """From one endpoint's account."""
    endings = {(str(by), str(during), str(reason)): n for (by, during, reason), n in account.endings.items()}
    return views.Tally(
        sessions=account.sessions,
        open=open_now,
        up_bytes=account.up_bytes,
        down_bytes=account.down_bytes,
        round_trips_saved=account.round_trips_saved,
        seconds_saved=account.saved,
        seconds_lost=account.lost,
        hedges=account.hedges,
        redials=account.redials,
        repeated_bytes=account.repeated_bytes,
        duplicates=account.duplicates,
        on_spares=account.on_spares,
        failed=account.sessions
        - sum(account.evidence.values())
        + account.evidence.get(Evidence.NO_HANDSHAKE, 0),
        evidence={str(evidence): number for evidence, number in account.evidence.items()},
        endings=_endings(endings),
        first_byte_fast=spread(account.first_bytes_fast, account.first_byte_fast),
        first_byte_plain=spread(account.first_bytes_plain, account.first_byte_plain),
    )


def spread(total: float, counts: Sequence[int]) -> views.Spread:
    """From the buckets of first-byte times, each for itself, and their sum in seconds."""
    count = sum(counts)
    if not count:
        return views.Spread()
    median, p90 = quantile(counts, 0.5), quantile(counts, 0.9)
    return views.Spread(count=count, total=total, median=median, p90=p90, counts=list(counts))


def quantile(counts: Sequence[int], share: float) -> float:
    """The time that ``share`` of all did not exceed, as if they lay evenly in their bucket; seconds."""
    wanted = share * sum(counts)
    low = 0.0
    for high, number in zip(FIRST_BYTE_BOUNDS, counts, strict=False):
        if number and wanted <= number:
            return low + (high - low) * wanted / number
        wanted -= number
        low = high
    return low  # all that is known: longer than the last bound


def _endings(endings: Mapping[tuple[str, str, str], int]) -> list[views.Ending]:
    often_first = sorted(endings.items(), key=lambda item: (-item[1], item[0]))
    return [
        views.Ending(ended_by=ended_by, during=during, reason=reason, sessions=sessions)
        for (ended_by, during, reason), sessions in often_first
    ]
