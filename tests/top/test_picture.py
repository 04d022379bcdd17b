from __future__ import annotations

import io
import re

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console

from proxy.admin.views import Minute, WarmUp
from proxy.top import picture
from proxy.top.choice import Choice, Section
from proxy.top.picture import Frame
from proxy.top.seen import Seen
from tests.top.sample import ENDPOINTS, HOSTILE, MISTAKEN, NOW, seen

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def plain(line: str) -> str:
    return COLOURS.sub("", line)


def frame(
    now: Seen | None, choice: Choice | None = None, *, size: tuple[int, int] = (80, 24), gone: str = ""
) -> list[str]:
    lines = Frame(now, choice or Choice(), *size, "http://127.0.0.1:7414", 1.0, gone).lines()
    assert len(lines) == size[1]
    assert all(cell_len(plain(line)) <= size[0] for line in lines)
    assert not any("\x1b" in plain(line) for line in lines)
    return [plain(line) for line in lines]


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (200, 60)])
@pytest.mark.parametrize("section", Section)
def test_it_fills_the_screen_and_no_more(size: tuple[int, int], section: Section) -> None:
    for now in (seen(), seen(last_reload=MISTAKEN, notes=[HOSTILE] * 3), None):
        frame(now, Choice(section), size=size)
        frame(now, Choice(section, help=True), size=size)
        frame(now, Choice(section, typing=True, find=HOSTILE), size=size)


def test_what_is_saved_comes_first() -> None:
    title, saved, rhythm, tabs, *_ = frame(seen())
    assert title.startswith("tfo-proxy 0.5.0  ready for 2d 7h  http://127.0.0.1:7414")
    assert saved.startswith("2,600 round trips = 2m 10s saved  37.2 = 1.8 s a minute  lost 4.1 s")
    assert rhythm.endswith("█ seconds saved, by minute")
    assert "!" in rhythm
    assert tabs.startswith(" 1 endpoints (5)  2 sessions (4 open)  3 listeners (2) ")
    assert tabs.endswith("by sessions")


def test_nobody_answers() -> None:
    assert "nobody answers at x; trying again every 1 s" in frame(None, gone="nobody answers at x")
    lines = frame(seen(), gone="nobody answers at x")
    assert any(line.startswith("203.0.113.10:443") for line in lines)


def test_a_warm_up_while_it_lasts() -> None:
    now = WarmUp(
        began=NOW, seconds=12.3, is_over=False, endpoints=1200, waiting=944, fetched=250, held=3, no_fast_open=2,
        dropped=0, unreachable=1,
    )  # fmt: skip
    words = "warm-up: 256 of 1,200 endpoints, 250 cookies fetched, 3 there already, 2 without Fast Open, 1 unreachable"
    assert any(f"{words}, for 12 s" in line for line in frame(seen(warm_up=now), size=(160, 24)))
    assert not any(
        "warm-up" in line for line in frame(seen(warm_up=msgspec.structs.replace(now, is_over=True)))
    )


def test_mistakes_of_a_reload() -> None:
    lines = frame(seen(last_reload=MISTAKEN))
    assert any("not reloaded at" in line for line in lines)
    assert sum("no such key" in line for line in lines) == 4
    assert any("and 5 more" in line for line in lines)


def test_the_last_page_is_full() -> None:
    choice = Choice(offset=1_000_000)
    lines = frame(seen(), choice, size=(80, 10))
    assert choice.offset == len(ENDPOINTS) - 3
    assert lines[-2].startswith("192.0.2.201:6379")


def test_what_is_chosen_is_said() -> None:
    choice = Choice()
    for key in ("s", "r", "f", "/", *"443", "enter"):
        choice.press(key)
    assert frame(seen(), choice)[3].endswith("by saved (turned), fast, “443”")
    choice.press("f")
    choice.press("/")
    choice.press("z")
    lines = frame(seen(), choice)
    assert "None is like that." in lines
    assert lines[-1].startswith("/443z█")
    assert frame(seen(), Choice(paused=True))[0].endswith(" paused")


def test_help_fits_a_small_terminal() -> None:
    lines = frame(seen(), Choice(help=True))
    assert any("q, Ctrl-C" in line for line in lines)
    assert any(line.startswith("first byte") for line in lines)


def test_a_proxy_that_nothing_has_used_yet() -> None:
    fresh = seen(
        minutes=[
            Minute(began=NOW, sessions=0, round_trips_saved=0, seconds_saved=0.0, seconds_lost=0.0, bytes=0)
        ]
    )
    empty = Seen(fresh.status, fresh.listeners, type(fresh.endpoints)(endpoints=[], total=0), fresh.sessions)
    assert "Nothing yet." in frame(empty)


def test_once_into_a_pipe() -> None:
    out = io.StringIO()
    picture.once(seen(last_reload=MISTAKEN), Console(file=out, width=80))
    text = out.getvalue()
    assert "\x1b" not in text
    assert text.startswith("tfo-proxy 0.5.0, ready for 2d 7h\n2,600 round trips = 2m 10s saved")
    for part in ("Endpoints (5)", "Sessions (5)", "Listeners (2)", "192.0.2.201:6379", "/etc/x.yaml:0:1"):
        assert part in text
