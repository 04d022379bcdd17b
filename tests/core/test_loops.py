from __future__ import annotations

import random

import pytest

from proxy.core.loops import FEW, PROVEN_FOR, Found, Loops

HELLO = b"\x16\x03\x01\x00\x80\x01\x00\x00\x7c\x03\x03" + bytes(range(32)) + b"x" * 90
GET = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"


class Session:
    def __init__(self) -> None:
        self.is_unanswered = self.is_silent = True


def loops(seed: int = 1) -> Loops:
    return Loops(random.Random(seed).randint)


@pytest.mark.parametrize(
    "first", [GET, b"hi", bytes(4096), b"ab" * 50, b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n" + GET]
)
def test_many_clients_that_say_the_same_to_a_slow_server_are_all_served(first: bytes) -> None:
    table = loops()
    sessions = [Session() for _ in range(2000)]
    parts = [table.enter(one, "a", "c", first, 0.0) for one in sessions]
    assert all(0 < part <= len(first) for part in parts)
    assert len([part for part in parts if part < len(first)]) < 40, "few of them are tested"
    for one in sessions:
        table.leave(one)
    assert not table.alert
    assert not table._groups
    assert not table._where


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("first", [HELLO, GET, b"hi", b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n" + GET])
def test_what_a_test_has_said_is_known_and_refused_for_a_while(first: bytes, seed: int) -> None:
    table, said = loops(seed), first
    sessions: list[Session] = []
    with pytest.raises(Found, match="came back by way of others"):
        while len(sessions) < 100:
            sessions.append(Session())
            said = said[: table.enter(sessions[-1], "a", "c", said, 0.0)]
    assert len(sessions) == FEW + 2
    with pytest.raises(Found, match="a moment ago"):
        table.enter(Session(), "a", "c", first, 1.0)
    assert table.enter(Session(), "a", "other", first, 1.0) <= len(first), "another destination"
    assert table.enter(Session(), "b", "c", first, 1.0) == len(first), "another listener"
    assert table.enter(Session(), "a", "c", first, PROVEN_FOR + 1) <= len(first), "later"


def test_each_level_may_put_a_header_in_front() -> None:
    table, said = loops(), GET
    with pytest.raises(Found):
        for number in range(100):
            said = said[: table.enter(Session(), "a", "c", said, 0.0)]
            said = b"PROXY TCP4 1.1.1.1 2.2.2.2 %d 2\r\n" % number + said


def test_a_hello_that_comes_too_often_is_a_loop_though_no_test_came_back() -> None:
    table = loops()
    with pytest.raises(Found, match="same TLS hello"):
        for _ in range(100):
            table.enter(Session(), "a", "c", HELLO, 0.0)
    answered = loops()
    for _ in range(1000):
        session = Session()
        answered.enter(session, "a", "c", HELLO, 0.0)
        session.is_unanswered = False


def test_sessions_in_which_nothing_is_said_are_limited() -> None:
    table, sessions = loops(), [Session() for _ in range(100)]
    for one in sessions:
        table.enter_silent(one, "a", "c", None, 100)
    table.enter_silent(Session(), "a", "d", None, 100)
    with pytest.raises(Found, match=r"100 sessions .* limits.per_destination"):
        table.enter_silent(Session(), "a", "c", None, 100)
    table.enter_silent(Session(), "a", "c", None, None)
    sessions[50].is_silent = sessions[51].is_silent = False
    table.enter_silent(Session(), "a", "c", None, 100)


def test_a_silent_dial_that_comes_back_is_known_by_its_address_or_by_its_port_several_times() -> None:
    def chain(host: str) -> int:
        table, source = loops(), ("192.0.2.1", 1000)
        for number in range(100):
            session = Session()
            try:
                table.enter_silent(session, "a", "c", source, 1000)
            except Found:
                return number
            table.dialled(session, lambda port=2000 + number: ("10.0.0.1", port))  # type: ignore[misc]
            source = (host, 2000 + number)
        return 100

    assert chain("10.0.0.1") <= FEW + 6
    assert chain("203.0.113.9") <= FEW + 6


def test_what_is_tested_says_a_part_of_at_least_half() -> None:
    table = loops()
    header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
    assert table.test(Session(), "a", "c", header) == len(header), "this one comes in one piece"
    assert table.test(Session(), "a", "c", header + b"hi") == len(header) + 1
    for size in (2, 3, 17, 1000):
        assert (size + 1) // 2 <= table.test(Session(), "a", "c", bytes(size)) < size


def test_clients_whose_bytes_repeat_themselves_may_be_read_in_pieces_of_any_length() -> None:
    said = b"0123456789" * 6554
    for seed in range(5):
        table, lengths = loops(seed), random.Random(seed)
        for _ in range(60):
            table.enter(Session(), "a", "c", said[: lengths.randint(20_000, 65_536)], 0.0)
