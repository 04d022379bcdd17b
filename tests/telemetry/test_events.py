from __future__ import annotations

import errno
from typing import Any, cast

import pytest

from proxy.core.address import Endpoint
from proxy.core.evidence import Evidence
from proxy.core.fastopen import State
from proxy.core.outcomes import EndedBy, Reason, Stage
from proxy.core.record import Dial, SessionRecord
from proxy.telemetry.events import Events, session_fields, session_id
from proxy.telemetry.logs import Logger


class Log:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def __getattr__(self, level: str) -> Any:
        return lambda event, **fields: self.lines.append({"level": level, "event": event, **fields})


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def events(log: Log) -> Events:
    return Events(cast(Logger, log))


def record(number: int = 1) -> SessionRecord:
    return SessionRecord(number, "web", ("192.0.2.7", 4711), "api", 100.0)


def test_a_session_that_did_nothing_says_only_what_is_known() -> None:
    fields = session_fields(record())
    assert fields["client"] == "192.0.2.7:4711"
    assert (fields["ended_by"], fields["during"], fields["reason"]) == ("proxy", "accept", "fault")
    assert (fields["up_bytes"], fields["down_bytes"], fields["duration"]) == (0, 0, 0.0)
    assert not {"endpoint", "evidence", "syn_bytes", "rtt", "hedged", "tried", "detail"} & set(fields)


def test_a_full_session(events: Events, log: Log) -> None:
    full = record(255)
    full.endpoint = Endpoint("2001:db8::1", 443)
    full.protocol, full.early_bytes, full.client_syn_bytes = "tls", 517, 100
    full.open, full.syn_bytes, full.evidence = "data", 517, Evidence.SYN_DATA_ACKED
    full.standing_before, full.standing_after = State.LEARNING, State.CONFIRMED
    full.waited, full.dial_time, full.first_byte, full.rtt = 0.0000004, 0.1000004, 0.2, 0.1
    full.hedged, full.tried, full.up_bytes, full.down_bytes, full.duration = True, 2, 1, 2, 3.00000049
    full.ended_by, full.during, full.reason = EndedBy.DOWNSTREAM, Stage.RELAY, Reason.CLOSED
    full.detail = "as it should"
    endpoint = full.endpoint
    full.dials = [
        Dial(endpoint, "data", 100.0, Endpoint("::1", 1)),
        Dial(endpoint, "plain", 100.1, None, why="hedge"),
    ]
    events.session(full)
    (line,) = log.lines
    assert (line["level"], line["event"]) == ("info", "session")
    assert line["id"].endswith("-ff")
    assert line["endpoint"] == "[2001:db8::1]:443"
    assert (line["protocol"], line["early_bytes"], line["client_syn_bytes"]) == ("tls", 517, 100)
    assert (line["open"], line["syn_bytes"], line["evidence"]) == ("data", 517, "syn_data_acked")
    assert (line["standing_before"], line["standing_after"]) == ("learning", "confirmed")
    assert (line["dial_time"], line["duration"]) == (0.1, 3.0)
    assert (line["hedged"], line["tried"], line["detail"]) == (True, 2, "as it should")


@pytest.mark.parametrize(
    ("peer", "text"),
    [
        (("192.0.2.7", 1), "192.0.2.7:1"),
        (("2001:db8::7", 1, 0, 0), "[2001:db8::7]:1"),
        (("::ffff:192.0.2.7", 1, 0, 0), "192.0.2.7:1"),
        ("", "unix"),
        (b"", "unix"),
    ],
)
def test_how_clients_are_written(peer: Any, text: str) -> None:
    assert session_fields(SessionRecord(1, "web", peer, "api", 0.0))["client"] == text


def test_names_of_sessions_differ_and_belong_together() -> None:
    one, other = session_id(record(1)), session_id(record(2))
    assert one != other
    assert one.split("-")[0] == other.split("-")[0]


def test_a_fault_is_an_error_with_its_exception(events: Events, log: Log) -> None:
    fault = ValueError("boom")
    events.fault(record(3), fault)
    (line,) = log.lines
    assert (line["level"], line["event"], line["exc_info"]) == ("error", "session_fault", fault)
    assert line["id"] == session_id(record(3))


def test_accept_trouble_is_said_in_words(events: Events, log: Log) -> None:
    events.accept_trouble("web", OSError(errno.EMFILE, "x"))
    assert log.lines == [
        {
            "level": "warning", "event": "accept_trouble", "listener": "web",
            "error": "Too many open files", "errno": "EMFILE",
        }
    ]  # fmt: skip


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOPROTOOPT])
def test_what_to_do_where_there_is_no_fast_open(events: Events, log: Log, code: int) -> None:
    events.fast_open_unavailable(code)
    (line,) = log.lines
    assert line["level"] == "warning"
    assert ("net.ipv4.tcp_fastopen=1" in line["do"]) is (code == errno.EOPNOTSUPP)
    assert ("doctor" in line["do"]) is (code != errno.EOPNOTSUPP)


def test_the_program_speaks_of_itself(events: Events, log: Log) -> None:
    events.listening("web", "127.0.0.1:80", "api", fast_open=True)
    events.say("ready", pid=1)
    events.warn("odd", why="because")
    assert [(line["level"], line["event"]) for line in log.lines] == [
        ("info", "listening"), ("info", "ready"), ("warning", "odd"),
    ]  # fmt: skip
    assert (log.lines[0]["to"], log.lines[0]["fast_open"]) == ("api", True)
