"""Lines that go out by the dozen, to files and to pipes whose readers are slow, gone, or many writers' own."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

import pytest
import trio

from proxy.telemetry import lines as module
from proxy.telemetry.lines import Lines


@pytest.fixture
def pipe() -> Iterator[tuple[BinaryIO, int]]:
    """A pipe's two ends: a file to write to, a descriptor to read from."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    with open(write, "wb", buffering=0) as out:
        yield out, read
    os.close(read)


def drained(fd: int) -> bytes:
    said = b""
    while True:
        try:
            data = os.read(fd, 1 << 20)
        except BlockingIOError:
            return said
        if not data:
            return said
        said += data


def test_without_anybody_who_writes_later_it_is_now() -> None:
    out = io.BytesIO()
    lines = Lines(out)
    lines.later(lambda: b"one")
    assert out.getvalue() == b"one\n"


async def test_sessions_wait_for_each_other_and_events_come_behind_them() -> None:
    with tempfile.TemporaryFile() as file:
        lines = Lines(file)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lines.keep_writing, lambda _: None)
            await trio.testing.wait_all_tasks_blocked()
            lines.later(lambda: b"one")
            lines.later(lambda: b"two")
            assert os.pread(file.fileno(), 100, 0) == b""
            lines.msg(b"event")
            assert os.pread(file.fileno(), 100, 0) == b"one\ntwo\nevent\n"
            lines.later(lambda: b"three")
            with trio.fail_after(30):
                while not os.pread(file.fileno(), 100, 0).endswith(b"three\n"):  # noqa: ASYNC110
                    await trio.sleep(0.002)
            lines.later(lambda: b"last")
            nursery.cancel_scope.cancel()
        assert os.pread(file.fileno(), 100, 0).endswith(b"three\nlast\n"), (
            "who is cancelled writes what is left"
        )


async def test_very_many_do_not_wait_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DELAY", 60.0)
    with tempfile.TemporaryFile() as file:
        lines = Lines(file)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lines.keep_writing, lambda _: None)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(700):
                lines.later(lambda: b"x" * 99)
            assert os.fstat(file.fileno()).st_size >= 60000
            nursery.cancel_scope.cancel()


def test_a_pipe_gets_whole_lines_in_pieces_that_stay_whole(
    pipe: tuple[BinaryIO, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, read = pipe
    pieces: list[bytes] = []

    def write(_: int, data: bytes) -> int:
        pieces.append(bytes(data))
        return len(data)

    monkeypatch.setattr(os, "write", write)
    lines = Lines(out)
    for number in range(100):
        lines._add(b"%d" % number + b"x" * 200)
    assert lines.flush()
    assert len(pieces) > 3
    assert all(len(piece) <= 4096 and piece.endswith(b"\n") for piece in pieces)
    assert b"".join(pieces).split(b"\n")[:100] == [b"%d" % number + b"x" * 200 for number in range(100)]
    assert drained(read) == b""


async def test_nobody_waits_for_a_reader_and_what_is_lost_is_counted(
    pipe: tuple[BinaryIO, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST", 100_000)
    monkeypatch.setattr(module, "_AGAIN", 0.005)
    out, read = pipe
    lines = Lines(out)
    lost: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lines.keep_writing, lost.append)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(5000):
            lines.later(partial(bytes, b"%04d" % number + b"x" * 95))  # would block for ever
        lines.msg(b"event")
        said = b""
        with trio.fail_after(30):
            while not lost:
                said += drained(read)
                await trio.sleep(0.002)
        said += drained(read)
        nursery.cancel_scope.cancel()
    numbers = [int(line[:4]) for line in said.splitlines() if line != b"event"]
    assert numbers == list(range(len(numbers))), "in order, the newest are missing"
    assert sum(lost) == 5001 - len(said.splitlines()) > 0


def test_the_end_waits_for_a_reader_only_so_long(
    pipe: tuple[BinaryIO, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LAST", 0.05)
    out, read = pipe
    lines = Lines(out)
    for _ in range(3000):
        lines._add(b"x" * 99)
    lines.finish()
    assert 0 < len(drained(read)) < 300_000


def test_a_reader_that_has_gone_is_no_error(pipe: tuple[BinaryIO, int]) -> None:
    out, read = pipe
    lines = Lines(out)
    with open(os.devnull, "rb") as other:
        os.dup2(other.fileno(), read)  # the pipe's last reader
    lines.msg(b"one")
    assert lines.flush()


def test_a_line_that_cannot_be_made_costs_no_other() -> None:
    def broken() -> bytes:
        raise ZeroDivisionError

    with tempfile.TemporaryFile() as file:
        lines = Lines(file)
        lines._wanted = trio.Event()
        for make in (lambda: b"one", broken, lambda: b"two"):
            lines.later(make)
        lines.msg(b"three")
        assert os.pread(file.fileno(), 100, 0) == b"one\ntwo\nthree\n"
        assert lines._lost == 1
