from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
from collections.abc import Iterator

import pytest

from proxy.top.terminal import SMALLEST, Terminal, keys


@pytest.mark.parametrize(
    ("typed", "pressed"),
    [
        ("", []),
        ("qS/", ["q", "S", "/"]),
        ("\x1b[A\x1b[B\x1bOC\x1b[D", ["up", "down", "right", "left"]),
        ("\x1b[5~\x1b[6~\x1b[H\x1bOF\x1b[1~", ["page up", "page down", "home", "end", "home"]),
        ("\t\x1b[Z\r\x7f", ["tab", "back tab", "enter", "backspace"]),
        ("\x1b", ["escape"]),
        ("\x1bq", ["escape", "q"]),
        ("\x1b[200~é\x1b[201~", ["é"]),
        ("\x1b[1;5", []),
    ],
)
def test_keys(typed: str, pressed: list[str]) -> None:
    assert keys(typed) == pressed


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """Our end of a terminal, and the user's."""
    user, ours = pty.openpty()
    yield ours, user
    os.close(ours)
    os.close(user)


def shown(user: int) -> str:
    os.set_blocking(user, False)
    data = b""
    try:
        while chunk := os.read(user, 65536):
            data += chunk
    except BlockingIOError:
        pass
    return data.decode()


def test_all_is_as_it_was_in_the_end(ends: tuple[int, int]) -> None:
    ours, user = ends
    before = termios.tcgetattr(ours)
    with pytest.raises(ZeroDivisionError), Terminal(ours, ours):
        assert not termios.tcgetattr(ours)[3] & (termios.ECHO | termios.ICANON)
        raise ZeroDivisionError
    assert termios.tcgetattr(ours) == before
    text = shown(user)
    assert text.startswith("\x1b[?1049h\x1b[?25l")
    assert text.endswith("\x1b[0m\x1b[?25h\x1b[?1049l")


def test_giving_back_twice_does_no_harm(ends: tuple[int, int]) -> None:
    ours, user = ends
    with Terminal(ours, ours) as terminal:
        terminal.give_back()
        terminal.give_back()
        terminal.take()
    assert shown(user).count("\x1b[?1049l") == 2


def test_keys_are_read_at_once(ends: tuple[int, int]) -> None:
    ours, user = ends
    with Terminal(ours, ours) as terminal:
        os.write(user, "s\x1b[Bé".encode())
        assert terminal.read() == ["s", "down", "é"]


def test_a_frame_covers_what_was_there(ends: tuple[int, int]) -> None:
    ours, user = ends
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 50, 0, 0))
    with Terminal(ours, ours) as terminal:
        assert terminal.size == (50, 12)
        shown(user)
        terminal.draw(["one", "two"])
        assert "\x1b[2Kone\r\r\n\x1b[0m\x1b[2Ktwo\x1b[0m\r\r\n\x1b[J" in shown(user)
        terminal.draw([str(n) for n in range(20)])
        last = shown(user)
        assert "\x1b[2K11\x1b[?2026l" in last
        assert "\x1b[J" not in last


def test_a_terminal_that_does_not_know_its_size(
    ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("LINES", raising=False)
    with Terminal(ends[0], ends[0]) as terminal:
        assert terminal.size >= SMALLEST


def test_input_that_has_ended_is_q() -> None:
    source, end = os.pipe()
    os.close(end)
    assert Terminal(source, 1).read() == ["q"]
    os.close(source)
