"""Lines that go out by the dozen, to files and to pipes whose readers are slow, gone, or many writers' own."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
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
            nursery.start_soon(lines.keep_writing)
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
            nursery.start_soon(lines.keep_writing)
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
    lines.start(lost.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lines.keep_writing)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(5000):
            lines.later(partial(bytes, b"%04d" % number + b"x" * 95))  # would block for ever
        lines.msg(b"event")
        said = b""
        with trio.fail_after(30):
            while not (lost and lines.flush()):
                said += drained(read)
                await trio.sleep(0.002)
        said += drained(read)
        nursery.cancel_scope.cancel()
    lines.finish()
    said += drained(read)
    numbers = [int(line[:4]) for line in said.splitlines() if line != b"event"]
    assert numbers == sorted(set(numbers)), "in order"
    assert numbers[:900] == list(range(900)), "the newest are missing"
    assert sum(lost) == lines.lost == 5001 - len(said.splitlines()) > 0


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
        assert lines.lost == 1


def test_a_line_is_never_longer_than_one_write_to_a_pipe(pipe: tuple[BinaryIO, int]) -> None:
    out, read = pipe
    lines = Lines(out)
    for line in (b"x" * 4095, b"y" * 4096, "\u00fc".encode() * 9000, b"\n".join([b"z" * 1000] * 9)):
        lines.msg(line)
    written = drained(read).split(b"\n")[:-1]
    assert max(map(len, written)) == 4095
    assert written[0] == b"x" * 4095
    assert [line.decode().endswith("\u2026 (cut)") for line in written[1:3]] == [True, True]
    assert written[3:] == [b"z" * 1000] * 9, "a text of several lines keeps all of them"


def test_a_thread_writes_while_the_others_log(pipe: tuple[BinaryIO, int]) -> None:
    out, read = pipe
    os.set_blocking(read, True)
    lines = Lines(out)
    lines.start(lambda _: None)
    for number in range(20_000):
        lines.msg(b"%05d" % number + b"x" * 95)  # more than the pipe holds: nothing of it waits here
    said = b""
    while said.count(b"\n") < 20_000:
        said += os.read(read, 1 << 20)
    lines.finish()
    assert [int(line[:5]) for line in said.splitlines()] == list(range(20_000))
    assert lines.lost == 0


@pytest.mark.parametrize("where", ["/dev/full", "a pipe without a reader"])
def test_what_cannot_be_written_is_counted_and_never_told_in_a_circle(where: str) -> None:
    if where == "/dev/full":
        out = open(where, "wb", buffering=0)  # noqa: SIM115
    else:
        read, write = os.pipe()
        os.close(read)
        out = os.fdopen(write, "wb", buffering=0)
    with out:
        lines, lost = Lines(out), list[int]()
        lines.start(lost.append)
        for _ in range(100):
            lines.msg(b"x")
        lines.finish()
    waiting = len(lines._waiting) + lines._rest.count(b"\n")
    assert (lines.lost + waiting, lost) == (100, [])


def test_a_disk_that_was_full_gets_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel does it: it writes what there is room for, and then nothing."""
    room, write = [70], os.write

    def short(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "full")
        number = min(room[0], len(data))
        room[0] -= number
        return write(fd, data[:number])

    monkeypatch.setattr(os, "write", short)
    with open(tmp_path / "log", "wb", buffering=0) as out:
        lines = Lines(out)
        for number in range(20):
            lines.msg(b"%02d" % number + b"x" * 20)
        room[0] = 10_000
        assert lines.flush()
    written = (tmp_path / "log").read_bytes().splitlines()
    assert written == [b"%02d" % number + b"x" * 20 for number in range(20)]
    assert lines.lost == 0
