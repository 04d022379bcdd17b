"""The session line: what the logger would write of its fields, whatever is in them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.core.address import Authority, Endpoint
from proxy.core.evidence import Evidence
from proxy.core.fastopen import Open, State
from proxy.core.outcomes import EndedBy, Reason, Stage
from proxy.core.protocol import Protocol
from proxy.core.record import Dial, SessionRecord
from proxy.telemetry.logs import Logger, configure, time_of
from proxy.telemetry.sessions import session_fields, session_line

WHEN = 1795418828.329757
TIME = time_of(WHEN)
odd = ["", "é", "\x7f", "\u2028", "\u202e", "\ud800", '"\\', "\0"]
texts = st.text(st.characters(), max_size=12) | st.sampled_from(odd)
hosts = st.sampled_from(["127.0.0.1", "::1", "::ffff:192.0.2.1", "fe80::1%eth0", "fe80::1%\u2028"])
peers = st.tuples(hosts, st.integers(0, 65535)) | st.tuples(
    hosts, st.integers(0, 65535), st.just(0), st.just(0)
)
places = st.builds(Endpoint, hosts | texts.map("/{}".format), st.integers(0, 65535))
targets = places | st.builds(Authority, texts, st.integers(1, 65535))
seconds = (
    st.floats(0, 1e-5) | st.floats(0, 10) | st.floats(0, 1e18) | st.integers(0, 2_000_000).map(lambda n: n / 1e6)
    | st.integers(0, 200).map(lambda n: n / 2e6)
)  # fmt: skip
sizes = st.integers(0, 2**63 - 1) | st.just(0)
words: dict[str, st.SearchStrategy[Any]] = {
    "endpoint": st.none() | places,
    "mode": st.sampled_from(["", "socks5", "http", "tls"]),
    "authority": st.none() | targets,
    "user": st.none() | texts,
    "asked": seconds,
    "reply": st.sampled_from(["", "dialed", "optimistic"]),
    "protocol": st.sampled_from(["", *Protocol]),
    "early_bytes": sizes,
    "client_syn_bytes": st.just(0) | sizes,
    "duplicate": st.booleans(),
    "waited": st.just(0.0) | seconds,
    "open": st.sampled_from([*Open, "spare"]),
    "syn_bytes": sizes,
    "evidence": st.none() | st.sampled_from(Evidence),
    "standing_before": st.none() | st.sampled_from(State),
    "standing_after": st.none() | st.sampled_from(State),
    "hedged": st.booleans(),
    "redialled": st.booleans(),
    "spare": st.booleans(),
    "dead_spare": st.just(0.0) | seconds,
    "tried": st.integers(0, 3),
    "doubted": st.just(0.0) | seconds,
    "dials": st.lists(
        st.builds(
            Dial,
            places,
            st.sampled_from([*Open, "spare"]),
            st.floats(0, 1e6),
            st.none() | places,
            planned=sizes,
            syn_bytes=sizes,
            why=st.sampled_from(["first", "hedge", "doubt", "redial", "rival"]),
            result=st.sampled_from(["won", "lost", "silent", "abandoned", *Reason]),
            ended=st.none() | st.floats(0, 1e6),
            acked=st.none() | sizes,
            retransmits=st.integers(0, 3),
        ),
        max_size=3,
    ),
    "dial_time": st.none() | seconds,
    "first_byte": st.none() | seconds,
    "rtt": st.none() | seconds,
    "retransmits": st.integers(0, 2),
    "saved": st.just(0.0) | seconds,
    "lost": st.just(0.0) | seconds,
    "repeated_bytes": st.just(0) | sizes,
    "up_bytes": sizes,
    "down_bytes": sizes,
    "duration": seconds.filter(lambda time: time < 1e9),
    "ended_by": st.sampled_from(EndedBy),
    "during": st.sampled_from(Stage),
    "reason": st.sampled_from(Reason),
    "detail": texts | st.just("x" * 5000),
}


@st.composite
def records(draw: Callable[..., Any]) -> SessionRecord:
    """Of any kind, also of kinds that cannot be."""
    peer = draw(peers | st.sampled_from(["", b""]))
    record = SessionRecord(draw(st.integers(0, 1 << 40)), draw(texts), peer, draw(texts), 0.0)
    for name in draw(st.sets(st.sampled_from(sorted(words)))):
        setattr(record, name, draw(words[name]))
    return record


class Bytes(io.BytesIO):
    """A stream that the logger writes to."""

    def said(self) -> bytes:
        self.seek(0)
        said = self.read()
        self.seek(0)
        self.truncate()
        return said


@lru_cache(1)
def logger() -> tuple[Bytes, io.TextIOWrapper, Logger]:
    out = Bytes()
    stream = io.TextIOWrapper(out, write_through=True)
    return out, stream, configure("info", "json", stream)


def written(record: SessionRecord) -> bytes:
    """By the logger."""
    out, _, log = logger()
    log.info("session", **session_fields(record))
    return out.said()


@settings(max_examples=200)
@given(records())
@example(SessionRecord(1, "a", ("127.0.0.1", 1), "c", 0.0))
def test_it_is_the_line_that_the_logger_writes(record: SessionRecord) -> None:
    line = session_line(record, WHEN, WHEN - 1.5)
    made, logged = json.loads(line), json.loads(written(record))
    assert made.pop("start") == time_of(WHEN - 1.5)
    assert made.pop("time") == TIME
    del logged["time"]
    assert made == logged
    assert list(made) == list(logged)
    assert b"\n" not in line
    assert line.decode().isprintable()
    assert made["event"] == "session"


def test_a_session_of_several_dials_names_them_all() -> None:
    record = SessionRecord(1, "a", ("127.0.0.1", 1), "c", 100.0)
    endpoint = record.endpoint = Endpoint("192.0.2.1", 443)
    record.dials = [
        Dial(endpoint, Open.DATA, 100.001, Endpoint("192.0.2.9", 4001), 600, 517, result="lost", ended=100.3,
             retransmits=1),
        Dial(endpoint, Open.PLAIN, 100.151, Endpoint("192.0.2.9", 4002), why="hedge", result="won", ended=100.251),
    ]  # fmt: skip
    record.open, record.syn_bytes, record.evidence, record.dial_time = (
        "data",
        517,
        Evidence.SYN_DATA_LOST,
        0.25,
    )
    record.hedged, record.duration = True, 1.5
    line = json.loads(session_line(record, WHEN, WHEN - 1.5))
    assert (line["local"], line["dial_start"], line["syn_planned"], line["hedged"]) == (
        "192.0.2.9:4002", 0.001, 600, True,
    )  # fmt: skip
    assert line["start"] == time_of(WHEN - 1.5)
    assert line["dials"] == [
        {"local": "192.0.2.9:4001", "endpoint": "192.0.2.1:443", "open": "data", "why": "first", "at": 0.001,
         "syn_bytes": 517, "took": 0.299, "retransmits": 1, "result": "lost"},
        {"local": "192.0.2.9:4002", "endpoint": "192.0.2.1:443", "open": "plain", "why": "hedge", "at": 0.151,
         "took": 0.1, "result": "won"},
    ]  # fmt: skip


@pytest.mark.parametrize("user", ['"},{"', "\n", "\x1b[2J", "\u202e", "\\"])
def test_text_of_clients_stays_inside_its_field(user: str) -> None:
    record = SessionRecord(1, "a", "", "c", 0.0)
    record.mode, record.user, record.detail = "socks5", user, user
    line = session_line(record, WHEN, WHEN - 1.5)
    assert (json.loads(line)["user"], json.loads(line)["detail"]) == (user, user)
    assert line.decode().isprintable()
