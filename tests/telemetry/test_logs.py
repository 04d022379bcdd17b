from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from proxy.core.outcomes import Reason
from proxy.telemetry import logs


@pytest.fixture(autouse=True)
def afterwards() -> Iterator[None]:
    yield
    structlog.reset_defaults()


class Lines(io.TextIOWrapper):
    """A text file as standard error is one."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def text(self) -> str:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode()


def test_json_is_one_object_a_line_with_the_event_in_front() -> None:
    out = Lines()
    log = logs.configure(stream=out)
    log.info("session", id="a-1", bytes=3, reason=Reason.CLOSED, text='quo"te\nline', nothing=None)
    log.warning("second", path=Path("/x"))
    first, second = (json.loads(line) for line in out.text().splitlines())
    assert list(first)[:3] == ["time", "level", "event"]
    assert (first["level"], first["event"], first["reason"]) == ("info", "session", "closed")
    assert first["text"] == 'quo"te\nline'
    assert first["time"].endswith("Z")
    assert (second["level"], second["path"]) == ("warning", "/x")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_console_line_and_its_end_are_one_write(terminal: bool) -> None:
    """Others write to that terminal too, and would come between them."""
    read, write = os.pipe2(os.O_DIRECT)  # keeps writes apart, see pipe(2)
    with io.TextIOWrapper(os.fdopen(write, "wb", buffering=0), write_through=True) as out:  # PYTHONUNBUFFERED
        out.isatty = lambda: terminal  # type: ignore[method-assign]
        log = logs.configure(form="console", stream=out)
        log.info("one", detail="x")
        log.info("two")
    try:
        pieces = [os.read(read, 4096) for _ in range(3)]
    finally:
        os.close(read)
    assert [b"one" in pieces[0], b"two" in pieces[1], pieces[2]] == [True, True, b""]
    assert all(piece.endswith(b"\n") for piece in pieces[:2])


def test_on_a_terminal_a_line_about_a_wait_gives_way() -> None:
    out = Lines(terminal=True)
    log = logs.configure(stream=out)
    log.info("one")
    log.error("two", exc_info=ValueError("first\nsecond"))
    written = out.text().split("\n")
    assert [line.startswith("\x1b[K") for line in written if not line.startswith("    ")] == [
        True,
        True,
        False,
    ]


def test_what_json_cannot_hold_is_written_as_text() -> None:
    out = Lines()
    logs.configure(stream=out).info("odd", value=object, raw=b"\xff")
    assert json.loads(out.text())["event"] == "odd"


@pytest.mark.parametrize(("level", "shown"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_levels(level: str, shown: int) -> None:
    out = Lines()
    log = logs.configure(level, stream=out)
    log.debug("d")
    log.info("i")
    log.warning("w")
    log.error("e")
    assert len(out.text().splitlines()) == shown


@pytest.mark.parametrize(
    ("form", "terminal", "console"),
    [("auto", True, True), ("auto", False, False), ("json", True, False), ("console", False, True)],
)
def test_forms(form: str, terminal: bool, console: bool) -> None:
    out = Lines(terminal=terminal)
    logs.configure(form=form, stream=out).info("hello", name="world")
    assert out.text().startswith("{") is not console
    assert ("\x1b[" in out.text()) is (console and terminal), "colours on a terminal only"


def _fault() -> BaseException:
    secret = "hunter2"
    try:
        raise ValueError(f"boom {len(secret)}")
    except ValueError as error:
        return error


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_is_written_and_shows_no_variables(form: str) -> None:
    out = Lines()
    logs.configure(form=form, stream=out).error("session_fault", exc_info=_fault())
    assert "ValueError: boom 7" in out.text()
    assert "hunter2" not in out.text().replace('secret = "hunter2"', "").replace('secret = \\"hunter2\\"', "")
    if form == "json":
        assert len(out.text().splitlines()) == 1


def test_rich_is_not_loaded_even_where_it_is_installed(tmp_path: Path) -> None:
    (tmp_path / "rich.py").write_text("raise SystemExit('rich was imported')")
    program = (
        "import sys; from proxy.telemetry import logs; assert not {'rich', 'asyncio'} & set(sys.modules)"
    )
    root = Path(logs.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{root}"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
