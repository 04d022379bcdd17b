from __future__ import annotations

import re

from proxy.demo.board import board
from proxy.demo.scenes import scene
from tests.demo.seen import careful, fast, lossy, played


def test_a_clear_path() -> None:
    text = board(played([fast(), fast()], trusting=(0.1, 0.101)))
    assert "A plain connection: first byte after 2.0 round trips" in text
    assert "Through tfo-proxy: first byte after 1.0 round trips" in text
    assert "━━ SYN + cookie + request ━━" in text
    assert re.search(r"through tfo-proxy +1\.0 +1\.0$", text, re.MULTILINE)
    assert re.search(r"a client's own Fast Open +1\.0 +1\.0$", text, re.MULTILINE)
    assert "dials once without data, for a cookie" in text
    assert "2.0 → 1.0 round trips" in text
    assert "ACK ──" not in text.replace("SYN-ACK ──", "")
    assert "\033" not in text


def test_times_stand_at_the_ends_where_they_belong() -> None:
    rows = board(played([fast()])).splitlines()
    (early,) = [row for row in rows if "SYN + cookie + request" in row]
    assert early.split("│")[0].split() == ["1.0"]
    assert early.split("│")[-1].split() == ["51.0"]
    (answer,) = [row for row in rows if "SYN-ACK, took 37 B" in row]
    assert answer.split("│")[0].split() == ["101.0"]
    assert answer.split("│")[-1].split() == ["51.0"]


def test_a_bad_path_shows_the_first_and_the_last() -> None:
    text = board(played([lossy(), lossy(), careful()], scene("drops-syn-data"), (1.2, None)))
    assert "the first one: first byte after 3.5 round trips" in text
    assert "number 3: first byte after 2.0 round trips" in text
    assert "SYN + cookie + request ──╳ " in text
    assert "✗: refused, or nothing came in 5 s." in text
    assert "\n   1-2  The SYN with the request got lost." in text


def test_every_line_fits_a_terminal_of_eighty_columns() -> None:
    for runs in ([fast()], [lossy(), careful()]):
        assert max(map(len, board(played(runs), everything=True).splitlines())) <= 80


def test_everything_and_colour() -> None:
    assert "── ACK ──" in board(played([fast()]), everything=True)
    coloured = board(played([fast()]), colour=True)
    assert "\033[1;32m━━ SYN" in coloured
    assert re.sub(r"\033\[[\d;]*m", "", coloured) == board(played([fast()]))
