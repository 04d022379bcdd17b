from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from proxy.core.address import Endpoint
from proxy.core.evidence import Evidence
from proxy.core.fastopen import Open, Plan, Standing, State
from proxy.core.outcomes import Reason
from proxy.core.record import SessionRecord
from proxy.core.snapshot import Cluster
from proxy.net.sniff import NOTHING_YET, EarlyData
from proxy.net.upstream import Upstream
from proxy.sessions import doubt

ENDPOINT = Endpoint("192.0.2.1", 80)
GET = EarlyData(b"GET / HTTP/1.1\r\n\r\n", ended=False, waited=0.0)
SIZE = len(GET.data)
DATA = Plan(Open.DATA, SIZE, 0.1, probe=False, era=0)
EMPTY = Plan(Open.EMPTY, 0, 0.1, probe=False, era=0)


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        yield sock


def connected(sock: socket.socket, evidence: Evidence = Evidence.SYN_DATA_ACKED, syn: int = SIZE) -> Upstream:
    return Upstream(ENDPOINT, sock, syn, evidence, syn, 0.0, 0.1, None)


def test_what_was_all_safe_may_be_said_again(sock: socket.socket) -> None:
    standing = Standing()
    assert doubt.may_start_over(connected(sock), standing, GET, SIZE)
    assert doubt.may_start_over(connected(sock, syn=0), standing, GET, SIZE)
    assert not doubt.may_start_over(connected(sock), standing, GET, SIZE - 1)


def test_silence_is_doubted_behind_syn_data_only_and_with_a_hedge(sock: socket.socket) -> None:
    standing = Standing()
    assert doubt.is_due(connected(sock), DATA, standing, GET, SIZE)
    assert not doubt.is_due(connected(sock, syn=0), DATA, standing, GET, SIZE)
    assert not doubt.is_due(connected(sock), DATA._replace(hedge=None), standing, GET, SIZE)


def test_a_plain_connection_is_beyond_doubt(sock: socket.socket) -> None:
    upstream = connected(sock)
    upstream.plain = True
    assert not doubt.may_start_over(upstream, Standing(), GET, SIZE)


def test_a_banner_is_missed_until_one_came_or_the_server_proved_quiet(sock: socket.socket) -> None:
    standing, upstream = Standing(), connected(sock, Evidence.EMPTY_OPEN, syn=0)
    assert doubt.is_due(upstream, EMPTY, standing, NOTHING_YET, 0)
    assert not doubt.is_due(upstream, EMPTY, standing, NOTHING_YET._replace(ended=True), 0)
    for told in ("quiet", "greeted", "answered"):
        standing = Standing()
        setattr(standing, told, True)
        assert not doubt.is_due(upstream, EMPTY, standing, NOTHING_YET, 0)


def test_without_a_cookie_nothing_was_fast_opened(sock: socket.socket) -> None:
    upstream = connected(sock, Evidence.COOKIE_REQUESTED, syn=0)
    assert not doubt.is_due(upstream, EMPTY, Standing(), NOTHING_YET, 0)


def test_an_endpoint_that_answers_is_not_due(sock: socket.socket) -> None:
    standing = Standing()
    assert doubt.is_due(connected(sock), DATA, standing, GET, SIZE)
    standing.answered = True
    assert not doubt.is_due(connected(sock), DATA, standing, GET, SIZE)
    assert doubt.may_start_over(connected(sock), standing, GET, SIZE), "it may be doubted later"


def session(evidence: Evidence, up_bytes: int = 100) -> SessionRecord:
    record = SessionRecord(1, "a", ("192.0.2.2", 1), "c", 0.0)
    record.evidence, record.up_bytes, record.dial_time = evidence, up_bytes, 0.1
    return record


@pytest.mark.parametrize(
    ("now", "up_bytes", "suspicious"), [(9.0, 100, True), (0.5, 100, False), (9.0, 0, False)]
)
def test_a_long_silence_after_a_request_is_remembered(now: float, up_bytes: int, suspicious: bool) -> None:
    standing = Standing()
    standing.answered = True
    record = session(Evidence.SYN_DATA_ACKED, up_bytes)
    doubt.look_back(record, DATA, standing, now, answered=False, ended=False)
    assert standing.answered is not suspicious


def test_an_answer_is_remembered_by_how_the_connection_was_opened() -> None:
    for evidence, answered, greeted in (
        (Evidence.SYN_DATA_ACKED, True, False),
        (Evidence.EMPTY_OPEN, False, True),
        (Evidence.PLAIN, False, False),
    ):
        standing = Standing()
        doubt.look_back(session(evidence), DATA, standing, 1.0, answered=True, ended=False)
        assert (standing.answered, standing.greeted) == (answered, greeted)


def test_a_spare_tells_nothing() -> None:
    standing, record = Standing(), session(Evidence.EMPTY_OPEN)
    record.spare = True
    doubt.look_back(record, EMPTY, standing, 9.0, answered=False, ended=False)
    assert standing.state is State.UNKNOWN


@pytest.mark.parametrize(
    ("evidence", "up_bytes", "reason", "after", "doubted"),
    [
        (Evidence.SYN_DATA_ACKED, 100, Reason.RESET, 0.2, True),
        (Evidence.SYN_DATA_ACKED, 100, Reason.CLOSED, 0.2, True),
        (Evidence.EMPTY_OPEN, 100, Reason.VANISHED, 20.0, True),
        (Evidence.COOKIE_REQUESTED, 100, Reason.RESET, 0.2, True),
        (Evidence.EMPTY_OPEN, 0, Reason.RESET, 0.2, True),
        (Evidence.EMPTY_OPEN, 0, Reason.RESET, 60.0, False),
        (Evidence.EMPTY_OPEN, 0, Reason.CLOSED, 60.0, False),
    ],
    ids=["reset", "fin", "timeout", "no cookie", "no banner", "idle and reset", "idle and closed"],
)
def test_an_end_without_an_answer_is_followed_by_plain_dials(
    evidence: Evidence, up_bytes: int, reason: Reason, after: float, doubted: bool
) -> None:
    standing, record = Standing(), session(evidence, up_bytes)
    record.reason = reason
    doubt.look_back(record, DATA, standing, after, answered=False, ended=True)
    cluster = Cluster("c", ())
    assert (standing.plan(cluster, SIZE, after + 0.1).open is Open.PLAIN) is doubted
