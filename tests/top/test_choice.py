from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.admin.views import Session
from proxy.top.choice import FILTERS, ORDERS, Choice, Row, Section
from tests.top.sample import ENDPOINTS, LISTENERS, OPEN, SESSIONS

ALL: dict[Section, list[Row]] = {
    Section.ENDPOINTS: [*ENDPOINTS],
    Section.SESSIONS: [*SESSIONS, *OPEN],
    Section.LISTENERS: [*LISTENERS],
}
KEYS = [
    *string.printable, "up", "down", "left", "right", "home", "end", "page up", "page down", "tab", "back tab",
    "enter", "escape", "backspace",
]  # fmt: skip


def pressed(*keys: str) -> Choice:
    choice = Choice()
    for key in keys:
        choice.press(key)
    return choice


def names(choice: Choice) -> list[str]:
    return [
        getattr(row, "endpoint", "") or getattr(row, "name", "") for row in choice.rows(ALL[choice.section])
    ]


def ids(choice: Choice) -> list[str]:
    return [row.id[-1] for row in choice.rows(ALL[Section.SESSIONS]) if isinstance(row, Session)]


@pytest.mark.parametrize(
    ("keys", "section"),
    [
        ("", Section.ENDPOINTS), ("2", Section.SESSIONS), ("3", Section.LISTENERS), ("31", Section.ENDPOINTS),
    ],
)  # fmt: skip
def test_lists_by_number(keys: str, section: Section) -> None:
    assert pressed(*keys).section is section


def test_lists_in_turn() -> None:
    assert pressed("tab").section is pressed("right").section is Section.SESSIONS
    assert pressed("tab", "tab", "tab").section is Section.ENDPOINTS
    assert pressed("back tab").section is pressed("left").section is Section.LISTENERS


def test_orders_of_endpoints() -> None:
    assert names(pressed())[:2] == ["203.0.113.10:443", "192.0.2.77:80"]  # sessions
    assert names(pressed("s"))[-1] == "192.0.2.77:80"  # saved
    assert names(pressed("s", "s"))[0] == "192.0.2.77:80"  # round trip
    assert names(pressed("s", "s", "s"))[:2] == ["192.0.2.201:6379", "192.0.2.77:80"]  # trouble
    assert names(pressed("S")) == sorted(one.endpoint for one in ENDPOINTS)  # name
    assert names(pressed("r"))[-1] == "203.0.113.10:443"
    assert names(pressed("S", "r")) == sorted((one.endpoint for one in ENDPOINTS), reverse=True)


def test_orders_of_the_others() -> None:
    assert ids(pressed("2"))[:2] == ["a", "1"]  # what is open lasts until now
    assert ids(pressed("2", "s"))[-1] == "3"  # saved
    assert ids(pressed("2", "s", "s"))[0] == "4"  # bytes
    assert ids(pressed("2", "S"))[0] == "a"  # duration
    assert names(pressed("3")) == ["db", "web"]
    assert names(pressed("3", "s")) == ["web", "db"]


def test_each_list_keeps_its_own_order() -> None:
    assert pressed("s", "2", "r", "1").order.name == "saved"
    assert not pressed("2", "r", "1").turned


@pytest.mark.parametrize(
    ("presses", "found"),
    [
        (1, ["203.0.113.10:443"]),
        (2, ["192.0.2.14:443", "192.0.2.201:6379"]),
        (3, ["198.51.100.23:25"]),
        (4, ["192.0.2.77:80", "192.0.2.201:6379"]),
    ],
)
def test_filters_of_endpoints(presses: int, found: list[str]) -> None:
    assert names(pressed(*["f"] * presses)) == found
    assert len(names(pressed(*["f"] * len(FILTERS[Section.ENDPOINTS])))) == len(ENDPOINTS)


@pytest.mark.parametrize(
    ("presses", "found"), [(1, {"1", "a"}), (2, {"3"}), (3, {"2", "3", "4"}), (4, {"a"})]
)
def test_filters_of_sessions(presses: int, found: set[str]) -> None:
    assert set(ids(pressed("2", *["f"] * presses))) == found


def test_find() -> None:
    choice = pressed("/", *"77 QUARx", "backspace")
    assert (choice.typing, choice.find, names(choice)) == (True, "77 QUAR", ["192.0.2.77:80"])
    choice.press("enter")
    assert (choice.typing, names(choice)) == (False, ["192.0.2.77:80"])
    choice.press("escape")
    assert (choice.find, len(names(choice))) == ("", len(ENDPOINTS))


def test_letters_are_letters_while_one_types() -> None:
    choice = pressed("/", "q", "s", "?", "f")
    assert (choice.quit, choice.help, choice.find) == (False, False, "qs?f")
    choice.press("escape")
    assert (choice.typing, choice.find) == (False, "")


def test_find_among_sessions_and_listeners() -> None:
    assert ids(pressed("2", "/", *"server broke")) == ["3"]
    assert names(pressed("3", "/", *"5432")) == ["db"]


def test_help_ends_with_any_key_and_quits_with_q() -> None:
    choice = pressed("?", "s")
    assert (choice.help, choice.order.name) == (False, "sessions")
    assert pressed("?").help
    assert pressed("?", "q").quit


def test_pause() -> None:
    assert pressed("p").paused
    assert not pressed("p", " ").paused


def test_scrolling_never_goes_above_the_first() -> None:
    assert pressed("down", "j", "page down", "up", "k").offset == 10
    assert pressed("up", "page up").offset == 0
    assert pressed("end", "home").offset == 0
    assert pressed("down", "2").offset == 0


@settings(max_examples=60)
@given(st.lists(st.sampled_from(KEYS), max_size=40))
def test_whatever_is_pressed_every_row_is_at_most_once_there(keys: list[str]) -> None:
    choice = pressed(*keys)
    rows = choice.rows(ALL[choice.section])
    assert len({id(row) for row in rows}) == len(rows) <= len(ALL[choice.section])
    assert choice.offset >= 0
    assert choice.order in ORDERS[choice.section]
