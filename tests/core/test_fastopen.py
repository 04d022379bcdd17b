from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.evidence import LOSSES, Evidence
from proxy.core.fastopen import (
    FIRST_SENTENCE,
    LARGER_AFTER,
    LARGER_MOST,
    LONGEST_SENTENCE,
    NEXT,
    PLAIN_PLAN,
    PROBE_PATIENCE,
    SMALL_SYN,
    UNCOUNTED,
    Open,
    Plan,
    Standing,
    State,
)
from proxy.core.snapshot import AUTO, Cluster, FastOpen

AUTOMATIC = Cluster("auto", ())
ALWAYS = Cluster("always", (), fast_open=FastOpen.ALWAYS)
OFF = Cluster("off", (), fast_open=FastOpen.OFF)
SAFE = 500  # early bytes that may be sent twice
losses = pytest.mark.parametrize("loss", sorted(LOSSES))


def dialled(
    standing: Standing, evidence: Evidence, now: float = 0.0, *, safe: int = SAFE, syn_bytes: int = SAFE
) -> Plan:
    """One dial, planned and learned from."""
    plan = standing.plan(AUTOMATIC, safe, now)
    standing.learn(evidence, plan, now, syn_bytes)
    return plan


def quarantined(loss: Evidence = Evidence.SYN_DATA_LOST, now: float = 0.0) -> Standing:
    standing = Standing()
    dialled(standing, loss, now)
    dialled(standing, loss, now)
    assert standing.state is State.QUARANTINED
    return standing


def trusted() -> Standing:
    standing = Standing()
    dialled(standing, Evidence.SYN_DATA_ACKED)
    standing.answered = True
    return standing


# --- the table


def test_the_table_is_total() -> None:
    assert set(NEXT) == set(State)
    for row in NEXT.values():
        assert set(row) == set(Evidence)


@losses
def test_no_single_loss_leads_into_quarantine(loss: Evidence) -> None:
    trusted = {State.UNKNOWN, State.LEARNING, State.CONFIRMED, State.UNSUPPORTED}
    for state in trusted:
        assert NEXT[state][loss] in {State.OPTION_DOUBTED, State.DATA_DOUBTED}
    for state in set(State) - trusted:
        assert NEXT[state][loss] is State.QUARANTINED


def test_data_that_was_taken_clears_everything() -> None:
    assert {row[Evidence.SYN_DATA_ACKED] for row in NEXT.values()} == {State.CONFIRMED}


@pytest.mark.parametrize("evidence", [Evidence.PLAIN, Evidence.UNAVAILABLE])
def test_what_says_nothing_changes_nothing(evidence: Evidence) -> None:
    assert all(row[evidence] is state for state, row in NEXT.items())


def test_nothing_leads_into_probing_but_a_plan() -> None:
    assert all(
        target is not State.PROBING or state is State.PROBING
        for state, row in NEXT.items()
        for target in row.values()
    )


def test_only_losses_lead_into_quarantine() -> None:
    for state, row in NEXT.items():
        for evidence, target in row.items():
            if target is State.QUARANTINED and state is not State.QUARANTINED:
                assert evidence in LOSSES


# --- losses


@losses
def test_two_losses_in_a_row_not_one(loss: Evidence) -> None:
    standing = Standing()
    dialled(standing, loss)
    planned = standing.plan(AUTOMATIC, SAFE, 0.0)
    assert planned.open is Open.DATA
    standing.abandon(planned)
    dialled(standing, loss)
    assert standing.plan(AUTOMATIC, SAFE, 0.0) is PLAIN_PLAN
    assert not standing.worth_waiting(AUTOMATIC, 0.0)


@losses
def test_a_chance_loss_is_forgiven(loss: Evidence) -> None:
    standing = Standing()
    for now in range(20):
        dialled(standing, loss, now)
        dialled(standing, Evidence.SYN_DATA_ACKED, now)
    assert standing.state is State.CONFIRMED
    assert (standing.sentence, standing.cause) == (0.0, None)


def test_an_option_that_gets_through_does_not_clear_a_doubt_about_data() -> None:
    standing = Standing()
    dialled(standing, Evidence.SYN_DATA_LOST)
    dialled(standing, Evidence.EMPTY_OPEN, safe=0)
    dialled(standing, Evidence.COOKIE_REQUESTED)
    dialled(standing, Evidence.SYN_DATA_LOST)
    assert standing.state is State.QUARANTINED


def test_an_option_that_gets_through_clears_a_doubt_about_itself() -> None:
    standing = Standing()
    dialled(standing, Evidence.OPTION_LOST)
    dialled(standing, Evidence.COOKIE_REQUESTED)
    dialled(standing, Evidence.OPTION_LOST)
    assert standing.state is State.OPTION_DOUBTED


@losses
def test_dials_planned_before_the_first_loss_are_one_event(loss: Evidence) -> None:
    standing = Standing()
    plans = [standing.plan(AUTOMATIC, SAFE, 0.0) for _ in range(10)]
    for plan in plans:
        standing.learn(loss, plan, 1.0, SAFE)
    assert standing.plan(AUTOMATIC, SAFE, 1.0).open is Open.DATA
    dialled(standing, loss, 1.0)
    assert standing.plan(AUTOMATIC, SAFE, 1.0) is PLAIN_PLAN


def test_late_losses_do_not_lengthen_a_sentence() -> None:
    standing = trusted()
    early = [standing.plan(AUTOMATIC, SAFE, 0.0) for _ in range(3)]
    dialled(standing, Evidence.REFUSED)
    middle = [standing.plan(AUTOMATIC, SAFE, 0.0) for _ in range(3)]
    standing.learn(Evidence.REFUSED, middle[0], 0.0, SAFE)
    for plan in early + middle:
        standing.learn(Evidence.REFUSED, plan, 30.0, SAFE)
    assert (standing.sentence, standing.until) == (FIRST_SENTENCE, FIRST_SENTENCE)


def test_late_good_news_ends_a_quarantine() -> None:
    standing = Standing()
    before = standing.plan(AUTOMATIC, SAFE, 0.0)
    dialled(standing, Evidence.SYN_DATA_LOST)
    dialled(standing, Evidence.SYN_DATA_LOST)
    standing.learn(Evidence.SYN_DATA_ACKED, before, 2.0, SAFE)
    assert standing.plan(AUTOMATIC, SAFE, 2.0).open is Open.DATA


def test_a_lost_syn_ack_counts_for_nothing() -> None:
    standing = Standing()
    for _ in range(10):
        dialled(standing, Evidence.SYN_ACK_LOST)
    assert standing.state is State.LEARNING


# --- sentences and probes


def test_sentences_double_up_to_a_cap() -> None:
    standing, now, sentences = quarantined(), 0.0, [FIRST_SENTENCE]
    for _ in range(12):
        now = standing.until
        assert standing.plan(AUTOMATIC, SAFE, now - 0.001) is PLAIN_PLAN
        assert dialled(standing, Evidence.SYN_DATA_LOST, now).probe
        assert standing.state is State.QUARANTINED
        sentences.append(standing.until - now)
    assert sentences == [min(FIRST_SENTENCE * 2**n, LONGEST_SENTENCE) for n in range(13)]


def test_a_success_makes_the_next_sentence_short_again() -> None:
    standing = quarantined()
    for _ in range(4):
        dialled(standing, Evidence.SYN_DATA_LOST, standing.until)
    dialled(standing, Evidence.SYN_DATA_ACKED, standing.until)
    dialled(standing, Evidence.SYN_DATA_LOST)
    dialled(standing, Evidence.SYN_DATA_LOST)
    assert standing.sentence == FIRST_SENTENCE


def test_one_probe_at_a_time() -> None:
    standing = quarantined()
    plans = [standing.plan(AUTOMATIC, SAFE, FIRST_SENTENCE) for _ in range(5)]
    assert [plan.probe for plan in plans] == [True, False, False, False, False]
    assert [plan.open for plan in plans] == [Open.DATA] + [Open.PLAIN] * 4
    assert plans[0].hedge is not None
    assert standing.state is State.PROBING


def test_a_probe_that_never_reports_is_written_off() -> None:
    standing = quarantined()
    lost = standing.plan(AUTOMATIC, SAFE, FIRST_SENTENCE)
    soon = FIRST_SENTENCE + PROBE_PATIENCE
    assert standing.plan(AUTOMATIC, SAFE, soon - 1) is PLAIN_PLAN
    assert standing.plan(AUTOMATIC, SAFE, soon).probe
    standing.learn(
        Evidence.SYN_DATA_LOST, lost, soon + 1, SAFE
    )  # it does report, in the end: one loss all the same
    assert standing.state is State.QUARANTINED


@pytest.mark.parametrize("loss", sorted(LOSSES - {Evidence.OPTION_LOST}))
def test_what_was_about_data_is_probed_with_data(loss: Evidence) -> None:
    standing = quarantined(loss)
    assert standing.plan(AUTOMATIC, 0, FIRST_SENTENCE) is PLAIN_PLAN
    plan = standing.plan(AUTOMATIC, SAFE, FIRST_SENTENCE)
    assert (plan.open, plan.probe) == (Open.DATA, True)


def test_what_was_about_the_option_is_probed_with_anything() -> None:
    plan = quarantined(Evidence.OPTION_LOST).plan(AUTOMATIC, 0, FIRST_SENTENCE)
    assert (plan.open, plan.probe) == (Open.EMPTY, True)


def test_a_probe_that_finds_no_cookie_learns_again() -> None:
    standing = quarantined()
    dialled(standing, Evidence.COOKIE_REQUESTED, FIRST_SENTENCE)
    assert standing.state is State.LEARNING
    dialled(standing, Evidence.SYN_DATA_LOST)
    dialled(standing, Evidence.SYN_DATA_LOST)
    assert standing.sentence == 2 * FIRST_SENTENCE


def test_waiting_is_worth_it_for_a_probe() -> None:
    standing = quarantined()
    assert not standing.worth_waiting(AUTOMATIC, FIRST_SENTENCE - 1)
    assert standing.worth_waiting(AUTOMATIC, FIRST_SENTENCE)
    standing.plan(AUTOMATIC, SAFE, FIRST_SENTENCE)
    assert not standing.worth_waiting(AUTOMATIC, FIRST_SENTENCE)


# --- endpoints without Fast Open


def test_three_requests_without_a_cookie_mean_that_there_is_none() -> None:
    standing = Standing()
    for _ in range(UNCOUNTED - 1):
        dialled(standing, Evidence.COOKIE_REQUESTED)
        assert standing.state is State.LEARNING
    dialled(standing, Evidence.COOKIE_REQUESTED)
    assert standing.state is State.UNSUPPORTED
    plan = standing.plan(AUTOMATIC, SAFE, 1.0)
    assert (plan.open, plan.limit) == (Open.EMPTY, 0)
    assert not standing.worth_waiting(AUTOMATIC, 1.0)


def test_concurrent_requests_count_once() -> None:
    standing = Standing()
    for plan in [standing.plan(AUTOMATIC, SAFE, 0.0) for _ in range(10)]:
        standing.learn(Evidence.COOKIE_REQUESTED, plan, 0.1, 0)
    assert (standing.state, standing.requested) == (State.LEARNING, 1)


def test_a_cookie_that_comes_after_all_is_used() -> None:
    standing = Standing()
    for _ in range(UNCOUNTED):
        dialled(standing, Evidence.COOKIE_REQUESTED)
    dialled(standing, Evidence.EMPTY_OPEN, 1.0)
    assert standing.state is State.LEARNING
    assert standing.plan(AUTOMATIC, SAFE, 1.0).open is Open.DATA


def test_data_that_is_always_ignored_is_tried_ever_more_rarely() -> None:
    """The cookie is there (another port of that address gave it), so that an empty open proves nothing."""
    standing, sent, now = Standing(), 0, 0.0
    while now < 4000.0:
        plan = standing.plan(AUTOMATIC, SAFE, now)
        taken = plan.open is Open.DATA
        standing.learn(Evidence.SYN_DATA_NOT_ACKED if taken else Evidence.EMPTY_OPEN, plan, now, SAFE)
        sent += taken
        now += 1.0
    assert standing.state is State.UNSUPPORTED
    assert sent <= UNCOUNTED + 7  # after 60, 120, 240 ... seconds


def test_a_balancer_with_two_keys_is_no_reason_to_stop() -> None:
    standing = Standing()
    for _ in range(20):
        dialled(standing, Evidence.SYN_DATA_NOT_ACKED)
        dialled(standing, Evidence.SYN_DATA_NOT_ACKED)
        dialled(standing, Evidence.SYN_DATA_ACKED)
    assert standing.plan(AUTOMATIC, SAFE, 0.0).open is Open.DATA


def test_a_server_that_learns_fast_open_is_noticed() -> None:
    standing = Standing()
    for _ in range(UNCOUNTED):
        dialled(standing, Evidence.SYN_DATA_NOT_ACKED)
    assert standing.plan(AUTOMATIC, SAFE, FIRST_SENTENCE - 1).open is Open.EMPTY
    assert dialled(standing, Evidence.SYN_DATA_ACKED, FIRST_SENTENCE).open is Open.DATA
    assert standing.state is State.CONFIRMED


# --- how much, and how long


def test_path_mtu_shrinks_the_syn() -> None:
    standing = Standing()
    assert dialled(standing, Evidence.PATH_MTU, safe=5000, syn_bytes=1420).limit == 5000
    assert standing.plan(AUTOMATIC, 5000, 0.0).limit == SMALL_SYN
    assert standing.state is State.LEARNING


def test_a_large_syn_that_was_lost_is_tried_smaller_first() -> None:
    standing = Standing()
    dialled(standing, Evidence.SYN_DATA_LOST, safe=5000, syn_bytes=1420)
    assert standing.plan(AUTOMATIC, 5000, 0.0).limit == SMALL_SYN
    dialled(standing, Evidence.SYN_DATA_ACKED, safe=5000, syn_bytes=SMALL_SYN)
    assert standing.state is State.CONFIRMED


def test_a_small_syn_that_was_lost_is_not_made_smaller() -> None:
    standing = Standing()
    dialled(standing, Evidence.SYN_DATA_LOST, syn_bytes=SMALL_SYN)
    assert standing.largest_syn(AUTO) == 65535


@pytest.mark.parametrize(("configured", "limit"), [(AUTO, SMALL_SYN), (100, 100), (1400, SMALL_SYN)])
def test_no_more_than_configured(configured: int, limit: int) -> None:
    standing = Standing()
    dialled(standing, Evidence.PATH_MTU)
    assert standing.plan(Cluster("c", (), syn_data=configured), 5000, 0.0).limit == limit


def test_bytes_that_may_not_be_sent_twice_stay_out() -> None:
    plan = Standing().plan(AUTOMATIC, 0, 0.0)
    assert (plan.open, plan.limit) == (Open.EMPTY, 0)


@pytest.mark.parametrize("configured", [None, 0.4])
def test_the_hedge_may_be_configured(configured: float | None) -> None:
    assert Standing().plan(Cluster("c", (), hedge=configured), SAFE, 0.0).hedge == configured


# --- a risk is taken by one dial at a time


@pytest.mark.parametrize("safe", [SAFE, 0])
def test_of_many_first_dials_one_takes_the_risk(safe: int) -> None:
    standing = Standing()
    first, *others = [standing.plan(AUTOMATIC, safe, 0.0) for _ in range(10)]
    assert first.alone
    assert first.open is not Open.PLAIN
    assert set(others) == {PLAIN_PLAN}


def test_while_one_dial_takes_the_risk_the_others_are_plain() -> None:
    standing = Standing()
    dialled(standing, Evidence.COOKIE_REQUESTED)
    first, *others = [standing.plan(AUTOMATIC, SAFE, 0.0) for _ in range(10)]
    assert (first.open, first.alone) == (Open.DATA, True)
    assert {(plan.open, plan.limit, plan.alone) for plan in others} == {(Open.PLAIN, 0, False)}


@pytest.mark.parametrize("evidence", [Evidence.SYN_DATA_ACKED, Evidence.SYN_DATA_LOST, Evidence.PLAIN])
def test_the_risk_is_free_again_when_the_dial_has_reported(evidence: Evidence) -> None:
    standing = Standing()
    standing.learn(evidence, standing.plan(AUTOMATIC, SAFE, 0.0), 0.1)
    assert standing.plan(AUTOMATIC, SAFE, 0.1).alone


def test_or_when_it_has_been_given_up() -> None:
    standing = Standing()
    standing.abandon(standing.plan(AUTOMATIC, SAFE, 0.0))
    assert standing.plan(AUTOMATIC, SAFE, 0.0).alone


def test_or_after_a_while_if_nobody_said_so() -> None:
    standing = Standing()
    standing.plan(AUTOMATIC, SAFE, 0.0)
    assert standing.plan(AUTOMATIC, SAFE, PROBE_PATIENCE - 1) is PLAIN_PLAN
    assert standing.plan(AUTOMATIC, SAFE, PROBE_PATIENCE).alone


def test_a_probe_that_was_given_up_is_made_again() -> None:
    standing = quarantined()
    probe = standing.plan(AUTOMATIC, SAFE, FIRST_SENTENCE)
    assert probe.probe
    standing.abandon(probe)
    assert standing.plan(AUTOMATIC, SAFE, FIRST_SENTENCE).probe


def test_where_data_was_taken_and_answered_there_is_no_risk() -> None:
    standing = trusted()
    plans = [standing.plan(AUTOMATIC, SAFE, 0.0) for _ in range(10)]
    assert {(plan.open, plan.alone) for plan in plans} == {(Open.DATA, False)}


def test_bytes_that_cannot_all_be_repeated_wait_until_an_answer_was_seen() -> None:
    standing = Standing()
    dialled(standing, Evidence.SYN_DATA_ACKED)
    assert standing.plan(AUTOMATIC, SAFE, 0.0, unsafe=1).open is Open.PLAIN, "an empty open could win nothing"
    standing.answered = True
    assert standing.plan(AUTOMATIC, SAFE, 0.0, unsafe=1).open is Open.DATA


# --- silence


def test_silence_takes_back_that_it_answers() -> None:
    standing = trusted()
    dialled(standing, Evidence.SILENT)
    assert not standing.answered
    assert standing.doubted


@pytest.mark.parametrize("answered", [True, False])
def test_how_a_session_ended_tells_whether_syn_data_is_answered(answered: bool) -> None:
    standing = trusted()
    plan = standing.plan(AUTOMATIC, SAFE, 0.0)
    standing.learn_end(Evidence.SYN_DATA_ACKED, plan, 9.0, answered=answered)
    assert standing.answered is answered
    assert standing.state is State.CONFIRMED


def test_an_empty_open_that_is_never_answered_is_a_loss_in_the_end() -> None:
    standing = Standing()
    for now in (1.0, 2.0):
        plan = dialled(standing, Evidence.EMPTY_OPEN, now, safe=0)
        standing.learn_end(Evidence.EMPTY_OPEN, plan, now, answered=False)
    assert (standing.state, standing.cause) == (State.QUARANTINED, Evidence.SILENT)


def test_but_first_it_is_doubted_where_one_was_answered_before() -> None:
    standing = Standing()
    for answered in (True, False):
        plan = dialled(standing, Evidence.EMPTY_OPEN, safe=0)
        standing.learn_end(Evidence.EMPTY_OPEN, plan, 1.0, answered=answered)
        assert standing.greeted is answered
    assert standing.state is State.LEARNING


# --- a lossy path


def test_a_path_that_loses_every_tenth_packet_is_seldom_quarantined() -> None:
    """The first SYN and its SYN-ACK both may be lost: about every fifth dial."""
    dice = random.Random(7413)
    standing, sentences, now = Standing(), 0, 0.0
    for _ in range(2000):
        plan = standing.plan(AUTOMATIC, SAFE, now)
        if plan.open is Open.PLAIN:
            sentences, now = sentences + 1, standing.until
            continue
        lost = dice.random() < 0.1 or dice.random() < 0.1
        standing.learn(Evidence.SYN_DATA_LOST if lost else Evidence.SYN_DATA_ACKED, plan, now, SAFE)
    assert sentences < 20


# --- policies


def test_off_means_plain_and_no_wait() -> None:
    assert Standing().plan(OFF, SAFE, 0.0) is PLAIN_PLAN
    assert not Standing().worth_waiting(OFF, 0.0)


def test_always_means_whatever_happened() -> None:
    for standing in (Standing(), quarantined()):
        for _ in range(5):
            plan = standing.plan(ALWAYS, SAFE, 0.0)
            assert (plan.open, plan.limit, plan.probe) == (Open.DATA, SAFE, False)
            assert standing.worth_waiting(ALWAYS, 0.0)
            standing.learn(Evidence.SYN_DATA_LOST, plan, 0.0, SAFE)
    standing = Standing()
    for _ in range(9):
        standing.learn(Evidence.SYN_DATA_NOT_ACKED, standing.plan(ALWAYS, SAFE, 0.0), 0.0, SAFE)
    assert standing.plan(ALWAYS, SAFE, 0.0).limit == SAFE


# --- whatever happens

steps = st.tuples(
    st.sampled_from(Evidence), st.integers(0, 6), st.booleans(), st.floats(0, 2 * FIRST_SENTENCE)
)


@settings(max_examples=60)
@given(st.lists(steps, max_size=60))
def test_two_losses_for_every_quarantine(history: list[tuple[Evidence, int, bool, float]]) -> None:
    """Two losses in a row, or two dropped answers since the last quarantine for them.

    Dials overlap, report late, or never; only what they were planned to find out counts against the endpoint.
    """
    standing, now, flying, lost, dropped = Standing(), 0.0, list[Plan](), 0, 0
    for shown, which, data, later in history:
        now += later
        before = standing.state
        flying.append(standing.plan(AUTOMATIC, SAFE if data else 0, now))
        plan = flying.pop(which % len(flying))
        evidence = Evidence.PLAIN if plan is PLAIN_PLAN else shown
        if len(flying) > 6:
            flying.pop(0)
        fresh = plan.era == standing.era
        standing.learn(evidence, plan, now, SAFE)
        lost = 0 if evidence is Evidence.SYN_DATA_ACKED else lost + (evidence in LOSSES and fresh)
        dropped += evidence is Evidence.ANSWER_DROPPED and fresh
        if standing.state is State.QUARANTINED:
            assert FIRST_SENTENCE <= standing.sentence <= LONGEST_SENTENCE
            assert standing.until <= now + LONGEST_SENTENCE
        if standing.state is not State.QUARANTINED or before is State.QUARANTINED:
            continue
        if evidence is Evidence.ANSWER_DROPPED:
            assert dropped >= 2
            dropped = 0
        else:
            assert evidence in LOSSES
            assert lost >= (1 if before is State.PROBING else 2)


# --- spares


@pytest.mark.parametrize("safe", [0, SAFE])
def test_a_spare_never_stands_in_for_a_dial_that_would_find_something_out(safe: int) -> None:
    """Whatever the state: where a spare may be used, the dial would have been plain, or an empty open in vain."""
    for state in State:
        for cause in (Evidence.OPTION_LOST, Evidence.SYN_DATA_LOST):
            for now in (10.0, 20.0, 30.0):
                standing = Standing()
                standing.state, standing.cause, standing.until = state, cause, 20.0
                instead = standing.brings_nothing(AUTOMATIC, safe, now)
                plan = standing.plan(AUTOMATIC, safe, now)
                if state is State.UNSUPPORTED:
                    assert instead == (now < 20.0)
                else:
                    assert instead == (plan.open is Open.PLAIN)
                assert not (instead and plan.probe)


def test_a_spare_may_stand_in_wherever_fast_open_is_off_and_nowhere_it_is_insisted_on() -> None:
    assert Standing().brings_nothing(OFF, SAFE, 0.0)
    assert not quarantined().brings_nothing(ALWAYS, SAFE, 0.0)


# --- answers that are dropped because they overtake the SYN-ACK


def over(standing: Standing, share: float, sessions: int, *, mended: bool = False) -> tuple[int, int]:
    """How many of so many sessions, a second apart, were fast-opened, and how many of these lost their answer so."""
    dice, opened, dropped = random.Random(7413), 0, 0
    for second in range(sessions):
        plan = standing.plan(AUTOMATIC, SAFE, float(second))
        if plan.open is not Open.DATA:
            continue
        happened = dice.random() < share
        opened, dropped = opened + 1, dropped + happened
        evidence = Evidence.ANSWER_DROPPED if happened else Evidence.SYN_DATA_ACKED
        standing.learn(evidence, plan, float(second), SAFE, answered=mended or not happened)
    return opened, dropped


@pytest.mark.parametrize("share", [0.2, 0.4, 0.7, 1.0])
def test_dropped_answers_cost_little_where_they_are_common(share: float) -> None:
    """Ten round trips for each that is dropped, one saved by each other: some 20 sentences fit into a day."""
    standing = trusted()
    _, dropped = over(standing, share, 86400)
    assert dropped <= 60
    assert standing.sentence > 3600


@pytest.mark.parametrize(("share", "mended"), [(0.01, False), (0.08, True)])
def test_dropped_answers_change_nothing_where_they_are_rare(share: float, mended: bool) -> None:
    """Where a plain dial brings the answer at once, it costs little more than a round trip."""
    opened, dropped = over(trusted(), share, 20_000, mended=mended)
    assert dropped > 100
    assert opened - dropped > 10 * dropped
    assert opened > 0.7 * 20_000


# --- larger SYNs


def test_a_larger_syn_is_tried_again_after_a_while() -> None:
    standing, now, waits = trusted(), 0.0, list[float]()
    for _ in range(12):
        dialled(standing, Evidence.SYN_DATA_LOST, now, safe=1400, syn_bytes=1400)
        lost = now
        dialled(standing, Evidence.SYN_DATA_ACKED, now, safe=1400, syn_bytes=SMALL_SYN)
        while standing.plan(AUTOMATIC, 1400, now).limit <= SMALL_SYN:
            now += LARGER_AFTER / 2
        waits.append(now - lost)
        assert standing.plan(AUTOMATIC, 1400, now).limit == SMALL_SYN, "one at a time"
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (LARGER_AFTER, LARGER_MOST)
    dialled(standing, Evidence.SYN_DATA_ACKED, now, safe=1400, syn_bytes=1400)
    assert standing.syn_data is None


def test_a_small_syn_does_not_use_up_the_try() -> None:
    standing = trusted()
    dialled(standing, Evidence.SYN_DATA_LOST, safe=1400, syn_bytes=1400)
    dialled(standing, Evidence.SYN_DATA_ACKED, syn_bytes=SAFE)
    assert standing.plan(AUTOMATIC, SAFE, LARGER_AFTER).limit == SAFE
    assert standing.plan(AUTOMATIC, 1400, LARGER_AFTER).limit == 1400


# --- endpoints that fail plainly, too, and answers that have not come


def test_an_endpoint_that_fails_plainly_is_asked_once_until_it_is_back() -> None:
    standing = trusted()
    standing.failed()
    for _ in range(3):
        assert standing.plan(AUTOMATIC, SAFE, 1.0) == PLAIN_PLAN
        assert standing.plan(ALWAYS, SAFE, 1.0).open is Open.DATA
        assert not standing.worth_waiting(AUTOMATIC, 1.0)
    standing.learn(Evidence.PLAIN, PLAIN_PLAN, 2.0)
    assert standing.plan(AUTOMATIC, SAFE, 2.0).open is Open.DATA


@pytest.mark.parametrize("state", list(State))
def test_without_an_answer_syn_data_that_was_acked_confirms_nothing(state: State) -> None:
    standing = Standing()
    standing.state = state
    standing.learn(Evidence.SYN_DATA_ACKED, PLAIN_PLAN, 0.0, SAFE, answered=False)
    assert standing.state is not State.CONFIRMED or state is State.CONFIRMED
    standing.learn_end(Evidence.SYN_DATA_ACKED, PLAIN_PLAN, 1.0, answered=True)
    assert (standing.state, standing.answered) == (State.CONFIRMED, True)


# --- connections that were ended without a byte


def test_an_end_without_a_byte_that_plain_does_not_share_is_sure_evidence() -> None:
    standing = Standing()
    plan = standing.plan(AUTOMATIC, SAFE, 0.0)
    standing.compared(plan, 0.0, plain_answered=True)
    assert standing.state is State.QUARANTINED


@pytest.mark.parametrize("plain_answered", [True, False])
def test_where_it_could_not_be_compared_the_next_plain_connection_tells(plain_answered: bool) -> None:
    standing = Standing()
    standing.ended_unanswered(standing.plan(AUTOMATIC, SAFE, 0.0), 0.0)
    before, doubted = standing.state, State.DATA_DOUBTED
    assert before is doubted
    assert standing.plan(AUTOMATIC, SAFE, 100.0) == PLAIN_PLAN
    standing.plain_ended(100.0, answered=plain_answered)
    assert (standing.state is State.QUARANTINED) is plain_answered


def test_a_server_that_ends_so_in_any_case_is_compared_less_and_less() -> None:
    standing, now, compared = Standing(), 0.0, 0
    while now < 3600.0:
        plan = standing.plan(AUTOMATIC, SAFE, now)
        if plan == PLAIN_PLAN:
            standing.plain_ended(now, answered=False)
        else:
            compared += 1
            standing.compared(plan, now, plain_answered=False)
        now += 1.0
    assert compared <= 20
    assert standing.state is not State.QUARANTINED
    standing.plain_ended(now, answered=True)
    assert standing.plan(AUTOMATIC, SAFE, now) != PLAIN_PLAN


def test_a_path_that_stalls_is_tried_less_and_less_until_something_gets_through() -> None:
    standing, now, sentences = Standing(), 0.0, list[float]()
    for _ in range(3):
        for _ in range(2):
            standing.stalled(standing.plan(AUTOMATIC, SAFE, now)._replace(era=standing.era), now)
        sentences.append(standing.sentence)
        now = standing.until
        standing.unanswered = None
        dialled(standing, Evidence.SYN_DATA_ACKED)
    assert sentences == sorted(set(sentences))
