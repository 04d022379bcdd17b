from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.admin import tally, views
from proxy.core.account import FIRST_BYTE_BOUNDS, Account
from proxy.core.evidence import Evidence
from proxy.telemetry.counters import Counters
from proxy.telemetry.sums import add_up
from tests.admin.house import a_record

BUCKETS = len(FIRST_BYTE_BOUNDS) + 1


def test_counters_and_accounts_make_the_same_tally() -> None:
    account, counters = Account(), Counters()
    for number, evidence in enumerate([*Evidence, None]):
        record = a_record(number, evidence=evidence, hedged=number % 3 == 0, redialled=number % 5 == 0, lost=0.5,
            duplicate=number == 1, repeated_bytes=number, first_byte=0.01 * number)  # fmt: skip
        account.count(record)
        counters.accepted("web")
        counters.ended(record)
    sums = add_up([counters.region])
    one, other = tally.of_account(account, 3), tally.of_numbers(sums.total, sums.endings_of(), 3)
    for name in views.Tally.__struct_fields__:
        assert (
            getattr(one, name) == pytest.approx(getattr(other, name))
            if name.startswith("seconds")
            else (name.startswith("first_byte") or getattr(one, name) == getattr(other, name))
        ), name
    assert one.first_byte_fast.counts == other.first_byte_fast.counts
    assert one.first_byte_plain.total == pytest.approx(other.first_byte_plain.total)


def test_of_nothing() -> None:
    assert tally.of_account(Account(), 0) == views.Tally()
    assert tally.spread(0.0, [0] * BUCKETS) == views.Spread()


@given(st.lists(st.integers(0, 50), min_size=BUCKETS, max_size=BUCKETS).filter(any))
def test_quantiles_are_in_order(counts: list[int]) -> None:
    found = [tally.quantile(counts, share / 10) for share in range(1, 11)]
    assert found == sorted(found)
    assert 0 <= found[0] <= found[-1] <= FIRST_BYTE_BOUNDS[-1]


def test_a_median() -> None:
    counts = [0] * BUCKETS
    counts[3] = 10  # from 5 to 10 ms
    assert tally.quantile(counts, 0.5) == pytest.approx(0.0075)
    counts[-1] = 100
    assert tally.quantile(counts, 0.9) == FIRST_BYTE_BOUNDS[-1]
