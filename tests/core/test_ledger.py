from __future__ import annotations

import json

import pytest

from proxy.core.account import Account, add_up
from proxy.core.address import Endpoint
from proxy.core.evidence import Evidence
from proxy.core.ledger import Ledger, settle
from proxy.core.outcomes import EndedBy, Reason, Stage
from proxy.core.record import Dial, SessionRecord

RTT = 0.1
HEDGE = 0.15


def exactly(seconds: float) -> float:
    """To the nanosecond."""
    return round(seconds, 9)


def session(**facts: object) -> SessionRecord:
    record = SessionRecord(1, "web", "192.0.2.9:1", "api", 1000.0)
    record.endpoint = Endpoint("192.0.2.1", 443)
    record.dial_time, record.rtt = RTT, RTT
    for name, value in facts.items():
        assert hasattr(record, name), name
        setattr(record, name, value)
    took = facts.get("dial_time", RTT)
    if "first_byte" not in facts and isinstance(took, float):
        record.first_byte = record.waited + took + RTT
    record.dials = dials(record)
    return record


def dials(record: SessionRecord) -> list[Dial]:
    """The dials that such a record is of; the second one begins when the first has shown what it shows."""
    if record.endpoint is None or record.dial_time is None:
        return []
    began, whole = record.began + record.waited + record.dead_spare, record.dial_time
    first = Dial(record.endpoint, record.open, began, None, syn_bytes=record.syn_bytes)
    first.retransmits = record.retransmits
    spares = [Dial(record.endpoint, "spare", began - record.dead_spare, None)] if record.dead_spare else []
    second = record.evidence in {
        Evidence.SYN_DATA_LOST,
        Evidence.OPTION_LOST,
        Evidence.SILENT,
        Evidence.REFUSED,
    }
    if not second or not (record.hedged or record.redialled):
        first.result, first.ended = "won", began + whole
        if not record.retransmits and not record.hedged:
            first.rtt = whole if record.rtt is None else min(record.rtt, whole)
        return [*spares, first]
    first.result = "lost"
    plain = Dial(
        record.endpoint, "plain", began + whole - RTT, None, result="won", ended=began + whole, rtt=RTT
    )
    plain.why = "redial" if record.redialled else "hedge"
    return [*spares, first, plain]


def settled(**facts: object) -> tuple[float, float]:
    record = session(**facts)
    settle(record)
    return exactly(record.saved), exactly(record.lost)


def early(evidence: Evidence | None, spoke: float = 0.0, **facts: object) -> tuple[float, float]:
    """A session whose client spoke so many seconds after accept, and said 100 bytes."""
    syn_bytes = 100 if evidence in {Evidence.SYN_DATA_ACKED, Evidence.SYN_DATA_LOST, Evidence.REFUSED} else 0
    return settled(
        **{
            "early_bytes": 100, "client_first": True, "waited": spoke, "evidence": evidence, "syn_bytes": syn_bytes,
            "open": "data",
        } | facts
    )  # fmt: skip


def server_first(evidence: Evidence | None, waited: float = 0.0, **facts: object) -> tuple[float, float]:
    return settled(**{"server_first": True, "waited": waited, "evidence": evidence} | facts)


# --- the client spoke within the wait


@pytest.mark.parametrize(
    ("spoke", "saved"), [(0.0, 0.1), (0.002, 0.098), (0.09, 0.01), (0.1, 0.0), (0.3, 0.0)]
)
def test_data_taken_in_the_syn_saves_what_a_plain_dial_had_left_to_do(spoke: float, saved: float) -> None:
    assert early(Evidence.SYN_DATA_ACKED, spoke) == (exactly(saved), 0.0)


@pytest.mark.parametrize(
    "evidence", [Evidence.COOKIE_REQUESTED, Evidence.SYN_DATA_NOT_ACKED, Evidence.EMPTY_OPEN]
)
@pytest.mark.parametrize(("spoke", "lost"), [(0.0, 0.0), (0.002, 0.002), (0.3, 0.1)])
def test_data_not_taken_loses_the_wait(evidence: Evidence, spoke: float, lost: float) -> None:
    """A plain dial begun at accept would have been ready meanwhile, but no sooner than after a round trip."""
    assert early(evidence, spoke) == (0.0, exactly(lost))


def test_a_repeated_syn_data_is_no_delay() -> None:
    """The kernel sends data that was not acked again at once: one segment repeated, no time."""
    assert early(Evidence.SYN_DATA_NOT_ACKED, retransmits=1) == (0.0, 0.0)


@pytest.mark.parametrize("evidence", [Evidence.SYN_DATA_LOST, Evidence.OPTION_LOST])
def test_a_hedge_that_wins_was_late(evidence: Evidence) -> None:
    assert early(evidence, hedged=True, dial_time=HEDGE + RTT) == (0.0, exactly(HEDGE))
    assert early(evidence, 0.01, hedged=True, dial_time=HEDGE + RTT) == (0.0, exactly(HEDGE + 0.01))


def test_a_redial_costs_what_the_refusal_took() -> None:
    assert early(Evidence.REFUSED, redialled=True, dial_time=2 * RTT) == (0.0, exactly(RTT))


def test_a_syn_that_the_kernel_repeated_costs_its_second() -> None:
    facts = {"dial_time": 1.1, "retransmits": 2}
    assert early(Evidence.SYN_DATA_LOST, **facts) == (0.0, exactly(1.0))
    assert early(Evidence.PATH_MTU, dial_time=0.13, retransmits=3) == (0.0, exactly(0.03))


def test_a_lost_syn_ack_is_nobodys_fault() -> None:
    assert early(Evidence.SYN_ACK_LOST, dial_time=1.1, retransmits=1) == (0.0, 0.0)


def test_a_lost_syn_ack_is_no_round_trip_of_a_second() -> None:
    assert early(Evidence.SYN_DATA_ACKED, dial_time=1.1, retransmits=1) == (exactly(RTT), 0.0)


def test_only_the_round_trip_of_this_session_is_claimed() -> None:
    assert early(Evidence.SYN_DATA_ACKED, dial_time=0.02) == (exactly(0.02), 0.0)  # it was 0.1 until now
    assert early(Evidence.SYN_DATA_ACKED, rtt=0.02) == (
        exactly(0.02),
        0.0,
    )  # a slow start of the session is no gain
    assert early(Evidence.SYN_DATA_ACKED, rtt=None) == (exactly(RTT), 0.0)


def test_a_hedge_that_was_not_needed_loses_nothing() -> None:
    assert early(Evidence.SYN_DATA_ACKED, hedged=True, dial_time=0.16) == (exactly(RTT), 0.0)
    assert early(Evidence.COOKIE_REQUESTED, hedged=True, dial_time=0.16) == (0.0, 0.0)


def test_silence_after_the_handshake_costs_the_time_until_the_plain_one() -> None:
    assert early(Evidence.SILENT, hedged=True, dial_time=0.25) == (0.0, exactly(0.15))


def test_half_a_request_in_the_syn_saves_nothing_unless_it_is_answered() -> None:
    facts = {"early_bytes": 300, "syn_bytes": 100, "evidence": Evidence.SYN_DATA_ACKED}
    assert settled(**facts, first_byte=0.2) == (0.0, 0.0)
    assert settled(**facts, waited=0.01, first_byte=0.21) == (0.0, exactly(0.01))
    assert settled(**facts, first_byte=0.101) == (exactly(RTT), 0.0)  # the first of two requests was whole


# --- the server spoke first


def test_an_empty_open_that_is_answered_early_saves_a_round_trip() -> None:
    assert server_first(Evidence.EMPTY_OPEN, first_byte=0.101) == (exactly(RTT), 0.0)
    assert server_first(Evidence.EMPTY_OPEN, 0.05, first_byte=0.151) == (exactly(RTT - 0.05), 0.0)


def test_one_that_is_answered_a_round_trip_later_does_not() -> None:
    assert server_first(Evidence.EMPTY_OPEN, first_byte=0.201) == (0.0, 0.0)
    assert server_first(Evidence.EMPTY_OPEN, 0.05, first_byte=0.251) == (0.0, exactly(0.05))


@pytest.mark.parametrize("evidence", [Evidence.PLAIN, Evidence.COOKIE_REQUESTED, Evidence.UNAVAILABLE])
def test_without_a_cookie_nothing_is_claimed(evidence: Evidence) -> None:
    assert server_first(evidence, first_byte=0.101) == (0.0, 0.0)


def test_a_lost_option_delays_the_banner() -> None:
    assert server_first(
        Evidence.OPTION_LOST, hedged=True, dial_time=HEDGE + RTT, first_byte=HEDGE + 2 * RTT
    ) == (0.0, exactly(HEDGE))  # fmt: skip


# --- nobody spoke, or too late, or there was no connection


def test_a_client_that_spoke_while_we_dialled_lost_the_wait() -> None:
    facts = {"client_first": True, "waited": 0.05, "evidence": Evidence.EMPTY_OPEN}
    assert settled(**facts) == (0.0, exactly(0.05))
    assert settled(**facts, client_delay=0.1502) == (0.0, exactly(0.05))


def test_a_client_that_spoke_later_was_not_kept() -> None:
    facts = {"client_first": True, "waited": 0.05, "evidence": Evidence.EMPTY_OPEN}
    assert settled(**facts, client_delay=2.0) == (0.0, 0.0)


def test_a_silent_client_loses_nothing() -> None:
    assert settled(waited=0.05, evidence=Evidence.EMPTY_OPEN) == (0.0, 0.0)


@pytest.mark.parametrize(
    "evidence", [None, Evidence.SYN_DATA_ACKED, Evidence.SYN_DATA_LOST, Evidence.REFUSED]
)
@pytest.mark.parametrize("waited", [0.0, 0.05])
def test_without_an_answer_nothing_is_saved_or_lost(evidence: Evidence | None, waited: float) -> None:
    assert early(evidence, waited, first_byte=None) == (0.0, 0.0)
    assert server_first(evidence, waited, first_byte=None) == (0.0, 0.0)
    assert settled(waited=waited, dial_time=None, rtt=None) == (0.0, 0.0)


@pytest.mark.parametrize("facts", [{}, {"dial_time": 3.1, "retransmits": 2}, {"rtt": None, "dial_time": 0.0}])
@pytest.mark.parametrize("who", [{"early_bytes": 9}, {"server_first": True}, {"client_first": True}])
def test_a_plain_dial_is_never_worse_than_itself(facts: dict[str, object], who: dict[str, object]) -> None:
    assert settled(evidence=Evidence.PLAIN, open="plain", first_byte=0.2, **facts, **who) == (0.0, 0.0)


# --- accounts


def test_sessions_are_counted() -> None:
    ledger = Ledger()
    good = session(
        evidence=Evidence.SYN_DATA_ACKED, early_bytes=9, syn_bytes=9, up_bytes=10, down_bytes=200,
        ended_by=EndedBy.DOWNSTREAM, during=Stage.RELAY, reason=Reason.CLOSED,
    )  # fmt: skip
    bad = session(
        evidence=Evidence.SYN_DATA_LOST, early_bytes=9, syn_bytes=9, hedged=True, dial_time=HEDGE + RTT,
        repeated_bytes=9, ended_by=EndedBy.UPSTREAM, during=Stage.RELAY, reason=Reason.RESET,
    )  # fmt: skip
    nowhere = session(endpoint=None, dial_time=None, during=Stage.ROUTE, reason=Reason.NO_SUCH_HOST)
    for record in (good, good, bad, nowhere):
        settle(record)
        ledger.add(record)
    assert ledger.total.plain() == {
        "sessions": 4,
        "evidence": {"syn_data_acked": 2, "syn_data_lost": 1},
        "endings": {"downstream/relay/closed": 2, "upstream/relay/reset": 1, "proxy/route/no_such_host": 1},
        "up_bytes": 20,
        "down_bytes": 400,
        "round_trips_saved": 2,
        "seconds_saved": pytest.approx(2 * RTT),
        "seconds_lost": pytest.approx(HEDGE),
        "seconds_net": pytest.approx(2 * RTT - HEDGE),
        "hedges": 1,
        "redials": 0,
        "repeated_bytes": 9,
        "duplicates": 0,
        "on_spares": 0,
        "dead_spares": 0,
        "round_trips_saved_by_spares": 0,
        "seconds_saved_by_spares": 0.0,
    }
    assert ledger.endpoints[Endpoint("192.0.2.1", 443)].sessions == 3


def test_many_at_once_are_as_one_by_one() -> None:
    records = [
        session(listener=listener, cluster="api", endpoint=Endpoint("192.0.2.1", port), up_bytes=port)
        for listener, port in [("web", 1), ("web", 1), ("web", 2), ("mail", 2), ("web", 1)]
    ]
    together, apart = Ledger(), Ledger()
    together.add(*records)
    together.add()
    for record in records:
        apart.add(record)
    assert together.plain() == apart.plain()
    assert list(together.endpoints) == list(apart.endpoints), "the least recently used comes first"


def test_listeners_and_clusters_are_told_apart() -> None:
    ledger = Ledger()
    for listener, cluster in (("web", "api"), ("web", "api"), ("web", "db"), ("mail", "api")):
        ledger.add(session(listener=listener, cluster=cluster))
    plain = ledger.plain()
    assert {
        listener: {cluster: account["sessions"] for cluster, account in of_listener.items()}
        for listener, of_listener in plain["clusters"].items()
    } == {"web": {"api": 2, "db": 1}, "mail": {"api": 1}}
    assert plain["endpoints"]["192.0.2.1:443"]["sessions"] == plain["total"]["sessions"] == 4
    assert json.loads(json.dumps(plain)) == plain


# --- spares


def on_spare(**facts: object) -> tuple[float, float]:
    return settled(**{"spare": True, "open": "spare", "evidence": Evidence.PLAIN, "dial_time": 0.0} | facts)


@pytest.mark.parametrize(
    ("spoke", "saved", "lost"), [(0.0, 0.1, 0.0), (0.002, 0.098, 0.0), (0.1, 0.0, 0.0), (0.3, 0.0, 0.0)]
)
def test_a_spare_saves_the_handshake_less_the_wait(spoke: float, saved: float, lost: float) -> None:
    assert on_spare(early_bytes=100, client_first=True, waited=spoke) == (saved, exactly(lost))


def test_a_banner_that_was_there_saves_its_own_way_too() -> None:
    assert on_spare(server_first=True, first_byte=0.001) == (exactly(2 * RTT - 0.001), 0.0)
    assert on_spare(server_first=True, first_byte=0.5) == (0.0, 0.0)
    assert on_spare() == (0.0, 0.0)


def test_a_dead_spare_is_lost_time() -> None:
    assert early(Evidence.PLAIN, dead_spare=0.03) == (0.0, 0.03)
    assert server_first(Evidence.PLAIN, dead_spare=0.03) == (0.0, 0.03)


def test_what_spares_save_is_told_apart() -> None:
    ledger = Ledger()
    for facts in (
        {"spare": True, "evidence": Evidence.PLAIN, "dial_time": 0.0, "early_bytes": 1},
        {"spare": True, "evidence": Evidence.PLAIN, "dial_time": 0.0},
        {"dead_spare": 0.01, "evidence": Evidence.PLAIN, "early_bytes": 1},
        {"evidence": Evidence.SYN_DATA_ACKED, "early_bytes": 1, "syn_bytes": 1},
    ):
        record = session(**facts)
        settle(record)
        ledger.add(record)
    plain = (ledger.total + Account()).plain()
    assert (plain["on_spares"], plain["dead_spares"]) == (2, 1)
    assert (plain["round_trips_saved"], plain["round_trips_saved_by_spares"]) == (2, 1)
    assert (plain["seconds_saved"], plain["seconds_saved_by_spares"]) == pytest.approx((2 * RTT, RTT))


def test_accounts_add_up() -> None:
    ledgers = [Ledger() for _ in range(3)]
    for number, ledger in enumerate(ledgers):
        for _ in range(number + 1):
            record = session(evidence=Evidence.SYN_DATA_ACKED, early_bytes=1, syn_bytes=1, reason=Reason.IDLE)
            settle(record)
            ledger.add(record)
    total = add_up(ledger.total for ledger in ledgers)
    assert total.sessions == total.evidence[Evidence.SYN_DATA_ACKED] == total.round_trips_saved == 6
    assert total.net == pytest.approx(6 * RTT)
    assert total + Account() == total
    assert add_up([]) == Account()


def test_endpoints_are_bounded_and_the_total_is_not() -> None:
    ledger = Ledger(most=3)
    for number in (1, 2, 3, 1, 4):
        ledger.add(session(endpoint=Endpoint(f"192.0.2.{number}", 443)))
    assert [endpoint.host for endpoint in ledger.endpoints] == ["192.0.2.3", "192.0.2.1", "192.0.2.4"]
    assert ledger.total.sessions == 5


def test_what_is_handed_over_adds_up_elsewhere() -> None:
    one, other = Ledger(most=2), Ledger()
    for port in (1, 2, 3):
        found = session()
        found.endpoint = Endpoint("192.0.2.1", port)
        one.add(found)
    while taken := one.take(2):
        assert len(taken) <= 2
        for key, account in taken:
            other.merge(key, account)
            other.merge(key, account)
    assert one.total.sessions == 0
    assert other.total.sessions == 6
    assert len(other.endpoints) == 2


def test_everything_can_be_handed_on() -> None:
    ledger, other = Ledger(most=2), Ledger()
    for port in (1, 2, 3):
        ledger.add(session(endpoint=Endpoint("192.0.2.1", port), listener="a", cluster="c"))
    handed = ledger.everything()
    assert [key[2] for key, _ in handed] == [None, Endpoint("192.0.2.1", 2), Endpoint("192.0.2.1", 3)]
    for key, account in handed:
        other.merge(key, account)
    assert other.plain()["total"] == ledger.plain()["total"]
    assert ledger.total.sessions == 3, "and stays here"
