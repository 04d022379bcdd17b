from __future__ import annotations

import pytest

from proxy.core.account import FIRST_BYTE_BOUNDS, Account, add_up, was_fast
from proxy.core.evidence import Evidence
from proxy.core.outcomes import EndedBy, Reason, Stage
from proxy.core.record import SessionRecord


def record(
    first_byte: float | None, evidence: Evidence | None, saved: float = 0.0, *, spare: bool = False
) -> SessionRecord:
    made = SessionRecord(1, "web", ("192.0.2.1", 1), "api", 0.0)
    made.first_byte, made.evidence, made.saved, made.spare = first_byte, evidence, saved, spare
    made.ended_by, made.during, made.reason = EndedBy.UPSTREAM, Stage.RELAY, Reason.CLOSED
    return made


@pytest.mark.parametrize(
    ("evidence", "saved", "fast"),
    [
        (Evidence.SYN_DATA_ACKED, 0.1, True),
        (Evidence.SYN_DATA_ACKED, 0.0, True),  # taken from the SYN, though the wait for it took as long
        (Evidence.EMPTY_OPEN, 0.1, True),
        (Evidence.EMPTY_OPEN, 0.0, False),  # the client spoke: its bytes came after the handshake
        (Evidence.PLAIN, 0.0, False),
        (None, 0.0, False),
    ],
)
def test_what_brought_the_first_byte(evidence: Evidence | None, saved: float, fast: bool) -> None:
    assert was_fast(record(0.1, evidence, saved)) is fast


def test_first_bytes_by_time() -> None:
    account = Account()
    account.count(record(0.0005, Evidence.SYN_DATA_ACKED))
    account.count(record(0.15, Evidence.SYN_DATA_ACKED))
    account.count(record(99.0, Evidence.PLAIN))
    account.count(record(None, Evidence.PLAIN))
    account.count(record(0.1, Evidence.PLAIN, spare=True))
    assert account.first_byte_fast[0] == account.first_byte_fast[FIRST_BYTE_BOUNDS.index(0.15)] == 1
    assert sum(account.first_byte_fast) == 2
    assert account.first_byte_plain[-1] == sum(account.first_byte_plain) == 1
    assert account.first_bytes_fast == pytest.approx(0.1505)
    assert account.first_bytes_plain == 99.0


def test_accounts_add_up() -> None:
    one, other = Account(), Account()
    one.count(record(0.1, Evidence.SYN_DATA_ACKED, 0.1))
    other.count(record(0.1, Evidence.SYN_DATA_ACKED, 0.1))
    other.count(record(0.2, Evidence.PLAIN))
    total = add_up([one, other])
    assert (total.sessions, sum(total.first_byte_fast), sum(total.first_byte_plain)) == (3, 2, 1)
    assert total.first_bytes_fast == pytest.approx(0.2)
    assert (one.sessions, sum(one.first_byte_fast)) == (1, 1), "what is added up stays as it is"
    assert add_up([]) == Account()
