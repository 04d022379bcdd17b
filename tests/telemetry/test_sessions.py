"""The line that is put together is the one that the logger would write; what is in it is told by test_events.py."""

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
from proxy.core.record import SessionRecord
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
    "dial_time": st.none() | seconds,
    "first_byte": st.none() | seconds,
    "rtt": st.none() | seconds,
    "retransmits": st.integers(0, 2),
    "saved": st.just(0.0) | seconds,
    "lost": st.just(0.0) | seconds,
    "repeated_bytes": st.just(0) | sizes,
    "up_bytes": sizes,
    "down_bytes": sizes,
    "duration": seconds,
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


def at_the_same_time(line: bytes) -> bytes:
    return line.replace(line[9 : 9 + len(TIME)], TIME.encode(), 1)


@settings(max_examples=200)
@given(records())
@example(SessionRecord(1, "a", ("127.0.0.1", 1), "c", 0.0))
def test_it_is_the_line_that_the_logger_writes(record: SessionRecord) -> None:
    line = session_line(record, WHEN)
    assert line + b"\n" == at_the_same_time(written(record))
    assert b"\n" not in line
    assert json.loads(line)["event"] == "session"


@settings(max_examples=300)
@given(seconds)
@example(9.5e-6)
@example(9.4999e-6)
@example(0.0000105)
@example(99999999.999999)
@example(float("inf"))
def test_times(time: float) -> None:
    record = SessionRecord(1, "a", ("127.0.0.1", 1), "c", 0.0)
    record.duration = time
    assert session_line(record, WHEN) + b"\n" == at_the_same_time(written(record))


@pytest.mark.parametrize("user", ['"},{"', "\n", "\x1b[2J", "\u202e", "\\"])
def test_nobody_gets_out_of_the_text_that_is_his(user: str) -> None:
    record = SessionRecord(1, "a", "", "c", 0.0)
    record.mode, record.user, record.detail = "socks5", user, user
    line = session_line(record, WHEN)
    assert (json.loads(line)["user"], json.loads(line)["detail"]) == (user, user)
    assert line.decode().isprintable()
