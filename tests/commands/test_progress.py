from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from contextlib import suppress

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
        assert terminal.getvalue() == "\r\x1b[Kprobing: 1 of 3, 2 s\r"
        clock.now += 3
        progress.tell("probing: 2 of 3")
    assert terminal.getvalue().endswith("\r\x1b[Kprobing: 2 of 3, 5 s\r\r\x1b[K")


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
        assert terminal.getvalue() == "\r\x1b[K" + "x" * 19 + "\r"


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


IN_A_SHELL = """
import fcntl, os, sys, termios
from proxy.commands.progress import Progress
fcntl.ioctl(2, termios.TIOCSCTTY, 0)
if sys.argv[1] == "background":
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        sys.exit()
    os.setpgid(0, 0)
times = iter([0.0, 2.0])
with Progress(clock=lambda: next(times)) as progress:
    progress.tell("probing")
"""


@pytest.mark.parametrize(("where", "shown"), [("foreground", True), ("background", False)])
def test_a_process_in_the_background_leaves_the_terminal_to_the_shell(where: str, shown: bool) -> None:
    user, terminal = pty.openpty()
    command = [sys.executable, "-c", IN_A_SHELL, where]
    subprocess.run(command, stderr=terminal, start_new_session=True, timeout=30, check=True)
    os.close(terminal)
    written = b""
    with suppress(OSError):  # what a terminal without a program says
        while data := os.read(user, 1000):
            written += data
    os.close(user)
    assert (b"probing, 2 s" in written) is shown
