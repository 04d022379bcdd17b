from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from proxy.net.flow import BUFFER, Flow
from tests.net.pairs import pair, read_all, reset

DATA = bytes(range(251)) * 40_000  # 10 MB, and no block of it like the next


class Rig:
    """A flow with both its peers: what `source` sends is to come out at `sink`."""

    def __init__(
        self, ours: tuple[socket.socket, socket.socket], peers: tuple[socket.socket, socket.socket]
    ) -> None:
        self.flow = Flow(*ours)
        self.source, self.sink = peers
        self.buffer = memoryview(bytearray(BUFFER))

    def pump(self) -> bool:
        select.select([self.flow.source], (), (), 0.2)  # loopback delivers at once, mostly
        time.sleep(0.01)
        self.flow.readable = True
        return self.flow.pump(self.buffer)


@pytest.fixture
def rig() -> Iterator[Rig]:
    with pair() as (source, a), pair() as (sink, b):
        rig = Rig((source, sink), (a, b))
        yield rig
        rig.flow.close()


@pytest.fixture
def tight() -> Iterator[Rig]:
    """Its sink takes only little at a time."""
    with pair() as (source, a), pair(small=True) as (sink, b):
        rig = Rig((source, sink), (a, b))
        yield rig
        rig.flow.close()


def pipes() -> int:
    return sum(
        os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:")
        for fd in os.listdir("/proc/self/fd")
        if _is(fd)
    )


def _is(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def test_bytes_go_through(rig: Rig) -> None:
    rig.source.sendall(b"hello")
    assert rig.pump() is False, "the source is empty"
    assert rig.sink.recv(100) == b"hello"
    assert (rig.flow.moved, rig.flow.held()) == (5, 0)


def test_nothing_to_read_is_no_end(rig: Rig) -> None:
    assert rig.pump() is False
    assert not rig.flow.eof
    assert not rig.flow.readable


def test_early_data_goes_first(rig: Rig) -> None:
    rig.source.sendall(b"second")
    rig.flow.put(b"first ")
    rig.pump()
    rig.source.close()
    rig.pump()
    assert read_all(rig.sink) == b"first second"
    assert rig.flow.moved == 12


def test_nothing_early_is_nothing(rig: Rig) -> None:
    rig.flow.put(b"")
    assert (rig.flow.moved, rig.flow.held()) == (0, 0)


def test_the_end_is_passed_on(rig: Rig) -> None:
    rig.source.sendall(b"bye")
    rig.source.shutdown(socket.SHUT_WR)
    for _ in range(3):
        rig.pump()
    assert read_all(rig.sink) == b"bye"
    assert rig.flow.eof
    assert rig.flow.finished
    assert (rig.flow.source_fault, rig.flow.sink_fault) == (0, 0)


def test_a_reset_is_not_passed_on_as_an_end(rig: Rig) -> None:
    reset(rig.source)
    rig.pump()
    assert rig.flow.source_fault == errno.ECONNRESET
    assert rig.flow.finished
    rig.sink.setblocking(False)
    with pytest.raises(BlockingIOError):
        rig.sink.recv(1)


def test_a_sink_that_was_reset(rig: Rig) -> None:
    reset(rig.sink)
    rig.source.sendall(b"x")
    rig.pump()
    assert rig.flow.sink_fault in {errno.ECONNRESET, errno.EPIPE}
    assert rig.flow.finished
    assert rig.flow.held() == 0
    assert rig.pump() is False


def test_a_full_sink_blocks_and_holds_no_more_than_the_buffer(tight: Rig) -> None:
    tight.source.setblocking(False)
    sent = 0
    for _ in range(50):
        if sent < len(DATA):
            with suppress(BlockingIOError):
                sent += tight.source.send(DATA[sent:])
        tight.pump()
    assert tight.flow.blocked
    assert 0 < tight.flow.held() <= BUFFER
    before = tight.flow.moved
    tight.pump()
    assert tight.flow.moved == before, "it reads nothing while it cannot write"

    got = b""
    while len(got) < sent:
        tight.flow.blocked = False
        tight.pump()
        got += tight.sink.recv(1 << 18)
    assert got == DATA[:sent]
    assert tight.flow.moved == sent


def test_what_is_held_goes_before_the_end_is_passed_on(tight: Rig) -> None:
    tight.flow.put(DATA[: 1 << 20])
    assert tight.flow.blocked
    tight.source.shutdown(socket.SHUT_WR)
    tight.flow.end()
    assert tight.flow.eof
    assert not tight.flow.finished
    tight.sink.settimeout(0.01)
    got = b""
    for _ in range(1000):
        tight.flow.blocked = False
        tight.pump()
        with suppress(TimeoutError):
            got += tight.sink.recv(1 << 18)
        if tight.flow.held() == 0:
            break
    tight.sink.settimeout(5)
    got += read_all(tight.sink)
    assert got == DATA[: 1 << 20]


def test_bulk_goes_through_a_pipe_and_gives_it_back(rig: Rig) -> None:
    before = pipes()
    rig.source.settimeout(0.2)
    rig.sink.settimeout(0.001)
    sent, got, most = 0, bytearray(), 0
    while len(got) < len(DATA):
        try:
            if sent < len(DATA):
                sent += rig.source.send(DATA[sent : sent + (1 << 18)])
        except TimeoutError:
            pass
        rig.flow.readable, rig.flow.blocked = True, False
        rig.flow.pump(rig.buffer)
        most = max(most, pipes() - before)
        try:
            got += rig.sink.recv(1 << 20)
        except TimeoutError:
            continue
    assert got == DATA
    assert rig.flow.moved == len(DATA)
    assert most == 2, "it was spliced"
    rig.flow.close()
    assert pipes() == before


def test_a_long_stream_gives_others_a_turn(rig: Rig) -> None:
    """Whatever comes in, a pump ends: here the sender never pauses and the reader keeps up."""
    stop = threading.Event()

    def feed() -> None:
        with suppress(OSError):
            while not stop.is_set():
                rig.source.send(DATA[:65536])

    def drain() -> None:
        with suppress(OSError):
            while rig.sink.recv(1 << 20):
                pass

    threads = [threading.Thread(target=feed), threading.Thread(target=drain)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        rig.flow.readable, rig.flow.blocked = True, False
        before = rig.flow.moved
        rig.flow.pump(rig.buffer)
        assert rig.flow.moved - before <= 16 << 20
    stop.set()
    rig.flow.close()
    rig.flow.source.close()
    rig.flow.sink.close()
    for thread in threads:
        thread.join()
