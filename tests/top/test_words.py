from __future__ import annotations

import pytest

from proxy.admin.views import Session, WarmUp
from proxy.core.evidence import Evidence
from proxy.core.outcomes import EndedBy, Reason, Stage
from proxy.top import words
from tests.top.sample import session


def test_where_a_session_went() -> None:
    assert words.destination(session(1)) == "host1.example:443"
    assert words.destination(session(1, authority=None)) == "203.0.113.10:443"
    assert words.destination(session(1, authority=None, endpoint=None)) == "api"
    assert words.destination(session(1, authority=None, endpoint=None, during="sniff")) == "no destination"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "–"), (0, "0 s"), (0.00042, "0.4 ms"), (0.0483, "48 ms"), (0.9994, "999 ms"), (0.9996, "1.0 s"),
        (9.96, "10 s"), (59.9, "60 s"), (59.96, "1m 0s"), (402, "6m 42s"), (11520, "3h 12m"), (187_200, "2d 4h"),
        (-3.1, "-3.1 s"),
    ],
)  # fmt: skip
def test_durations(seconds: float | None, said: str) -> None:
    assert words.duration(seconds) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1_047_000, "1022 KiB"),
        (1 << 20, "1.0 MiB"),
        (5 << 40, "5.0 TiB"),
    ],
)
def test_sizes(number: int, said: str) -> None:
    assert words.size(number) == said


def test_nothing_that_a_terminal_obeys_is_left() -> None:
    assert words.visible("a\x1b[2J\x00\x9b\u202eé\n") == "a�[2J���é�"


def test_every_evidence_has_words_that_fit_its_column() -> None:
    for evidence in Evidence:
        said = words.opening(session(1, evidence=evidence.value, syn_bytes=65535))
        assert len(said) <= 20
        assert "_" not in said


def test_openings() -> None:
    assert words.opening(session(1)) == "517 B in the SYN"
    assert words.opening(session(1, open="spare")) == "on a ready connection"
    assert words.opening(session(1, evidence=None)) == "–"
    assert words.opening(session(1, evidence=None, is_open=True)) == "being opened"


def test_every_ending_has_words() -> None:
    for by in EndedBy:
        for stage in Stage:
            for reason in Reason:
                ended = session(1, ended_by=by.value, during=stage.value, reason=reason.value)
                assert "_" not in words.ending(ended)


@pytest.mark.parametrize(
    ("fields", "said", "failed"),
    [
        ({}, "client hung up", False),
        ({"ended_by": "upstream", "reason": "reset"}, "server broke off", True),
        ({"ended_by": "upstream", "reason": "refused", "during": "dial"}, "server refused (dial)", True),
        ({"ended_by": "timeout", "reason": "idle"}, "idle", True),
        ({"ended_by": "operator", "reason": "drain"}, "drain", False),
        ({"is_open": True, "reason": ""}, "open", False),
        ({"ended_by": "proxy", "reason": "something new"}, "something new", True),
    ],
)
def test_endings(fields: dict[str, object], said: str, failed: bool) -> None:
    ended: Session = session(1, **fields)
    assert (words.ending(ended), words.failed(ended)) == (said, failed)


def test_the_warm_up() -> None:
    numbers = {"fetched": 2, "held": 0, "no_fast_open": 0, "dropped": 1, "unreachable": 0}
    one = WarmUp(began=0.0, seconds=2.0, is_over=False, endpoints=1200, waiting=1197, **numbers)
    assert words.warm_up(one) == (
        "warm-up: 3 of 1,200 endpoints, 2 cookies fetched, 1 lost on the way, for 2.0 s"
    )
