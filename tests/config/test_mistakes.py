from __future__ import annotations

import pytest

from proxy.config.mistakes import (
    ConfigError,
    Findings,
    Mistake,
    Place,
    Source,
    closest,
    in_order,
    listed,
    quoted,
)

SOURCE = Source("c.yaml", "one: 1\ntwo:\t{x: 2}\n名前: \x1b[31mred\nlast")


def test_a_mistake_shows_its_line_and_a_caret() -> None:
    assert (
        str(Mistake(Place(SOURCE, 1, 6), "wrong; meant"))
        == "c.yaml:1:6: wrong; meant\n    one: 1\n         ^"
    )


def test_tabs_and_wide_characters_keep_the_caret_in_its_column() -> None:
    assert str(Mistake(Place(SOURCE, 2, 6), "x")).splitlines()[1:] == ["    two: {x: 2}", "         ^"]
    assert str(Mistake(Place(SOURCE, 3, 4), "x")).splitlines()[2] == "    " + " " * 5 + "^"


def test_nothing_in_a_report_can_steer_a_terminal() -> None:
    text = str(Mistake(Place(Source("\x1b]0;c", SOURCE.text), 3, 5), "bad \x1b[2J"))
    assert "\x1b" not in text
    assert "\N{REPLACEMENT CHARACTER}[31mred" in text


def test_a_long_line_is_cut_around_the_caret() -> None:
    source = Source("c.yaml", "a" * 5000 + "HERE" + "b" * 5000)
    _, line, caret = str(Mistake(Place(source, 1, 5001), "x")).splitlines()
    assert len(line) == 124
    assert line[caret.index("^") :].startswith("HEREbb")


def test_a_secret_is_not_shown() -> None:
    text = str(Mistake(Place(Source("c.yaml", "key: hunter2"), 1, 6), "bad", hide=True))
    assert text.splitlines()[1:] == ["    key: ***", "         ^"]


@pytest.mark.parametrize(("line", "column"), [(0, 0), (99, 1)])
def test_a_place_without_a_line_has_no_excerpt(line: int, column: int) -> None:
    assert "\n" not in str(Mistake(Place(SOURCE, line, column), "x"))


def test_a_column_behind_the_end_of_its_line_still_has_a_caret() -> None:
    assert str(Mistake(Place(SOURCE, 4, 99), "x")).endswith("    last\n        ^")


def test_a_flag_has_no_line_numbers() -> None:
    flag = Source("--forward", "a=b", is_flag=True)
    assert str(Mistake(Place(flag, 1, 3), "bad")) == "--forward: bad\n    a=b\n      ^"


def test_mistakes_come_in_order_each_once_and_flags_last() -> None:
    flag = Mistake(Place(Source("--a", "", is_flag=True), 1, 1), "f")
    later, sooner = Mistake(Place(SOURCE, 2, 1), "l"), Mistake(Place(SOURCE, 1, 9), "s")
    assert in_order([flag, later, sooner, later]) == (sooner, later, flag)


def test_a_report_of_thousands_is_cut() -> None:
    text = str(ConfigError([Mistake(Place(SOURCE, 0, 0), f"m{n}") for n in range(1000)]))
    assert len(text.splitlines()) == 101
    assert text.endswith("... and 900 more mistakes")


def test_findings_tell_an_alias_only_once() -> None:
    findings = Findings()
    findings.wrong_once(Place(SOURCE, 1, 1), "first")
    findings.wrong_once(Place(SOURCE, 1, 1), "again")
    findings.wrong(Place(SOURCE, 1, 1), "another thing")
    findings.pointless(Place(SOURCE, 2, 1), "unused")
    assert [mistake.problem for mistake in findings.mistakes] == ["first", "another thing"]
    assert [warning.problem for warning in findings.warnings] == ["warning: unused"]


def test_long_texts_and_lists_are_cut() -> None:
    assert quoted("it's") == '"it\'s"'
    assert len(quoted("x" * 10_000)) < 90
    assert listed(["a", "b"]) == "a, b"
    assert listed(f"n{i}" for i in range(10_000)).endswith("n9, ...")


@pytest.mark.parametrize(
    ("text", "found"),
    [("bnd", "bind"), ("BIND", "bind"), ("timeout", "timeouts"), ("zzz", None), ("b" * 9999, None)],
)
def test_the_closest_word(text: str, found: str | None) -> None:
    assert closest(text, ["bind", "timeouts", "mode"]) == found


@pytest.mark.parametrize(
    "line",
    [
        'admin: {token: "s3cret-s3cret-s3cret", drian: 1}',
        "admin: {bind: 127.0.0.1:1, token: s3cret-s3cret-s3cret}, drian: 1",
        "{'token': 's3cret', drian: 1}",
        "tfo_keys: [s3cret00, s3cret11], drian: 1",
        "web: {users: {alice: s3cret, bob: s3cret}, drian: 1}",
        "via: {socks: 'u:s3cret@gw:1080', drian: 1}",
    ],
)
def test_a_mistake_beside_a_secret_shows_none(line: str) -> None:
    place = Place(Source("c.yaml", line), 1, line.index("drian") + 1)
    said = str(Mistake(place, "unknown key 'drian'"))
    assert "s3cret" not in said
    shown, caret = said.split("\n")[1:]
    assert shown[caret.index("^") :].startswith("drian")
