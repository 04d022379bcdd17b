from __future__ import annotations

import io

import pytest

from proxy.commands.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_that_goes_again() -> None:
    terminal, clock = Terminal(), Clock()
    with Progress(terminal, clock) as progress:
        clock.now += 2
        progress.tell("probing: 1 of 3")
        assert terminal.getvalue() == "\r\x1b[Kprobing: 1 of 3, 2 s"
        clock.now += 3
        progress.tell("probing: 2 of 3")
    assert terminal.getvalue().endswith("\r\x1b[Kprobing: 2 of 3, 5 s\r\x1b[K")


def test_what_is_done_at_once_needs_no_line() -> None:
    terminal, clock = Terminal(), Clock()
    with Progress(terminal, clock) as progress:
        progress.tell("probing: 1 of 3")
        clock.now += 0.2
        progress.tell("probing: 3 of 3")
    assert terminal.getvalue() == ""


def test_it_does_not_flicker() -> None:
    terminal, clock = Terminal(), Clock()
    with Progress(terminal, clock) as progress:
        clock.now += 1
        for _ in range(50):
            clock.now += 0.01
            progress.tell("draining")
        assert 4 <= terminal.getvalue().count("draining") <= 6


def test_it_keeps_to_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    terminal, clock = Terminal(), Clock()
    with Progress(terminal, clock) as progress:
        clock.now += 1
        progress.tell("x" * 100)
        assert terminal.getvalue() == "\r\x1b[K" + "x" * 19


def test_scripts_see_nothing() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(stream, clock) as progress:
        clock.now += 10
        progress.tell("probing: 1 of 3")
    assert stream.getvalue() == ""


def test_a_terminal_that_has_gone_is_no_trouble() -> None:
    class Gone(Terminal):
        def write(self, text: str) -> int:
            raise OSError

    clock = Clock()
    with Progress(Gone(), clock) as progress:
        clock.now += 1
        progress.tell("probing")
