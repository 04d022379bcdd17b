"""The generator against its own server: what it counts is what happened."""

from __future__ import annotations

import shutil
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from bench.load import Load, LoadError
from bench.rounds import free_port, replies

pytestmark = pytest.mark.skipif(not shutil.which("cc"), reason="the load generator needs a C compiler")


@pytest.fixture(scope="module")
def load() -> Iterator[Load]:
    with Load(core=0) as running:
        yield running


@pytest.mark.parametrize(
    "command",
    ["short S {} 8 0.3 100", "short C {} 8 0.3 100", "short G {} 8 0.3 100", "short S {} 8 0.3 65000"],
)
def test_short_connections_all_succeed(load: Load, command: str) -> None:
    answer = load.ask(command.format(load.port))
    assert answer.ops >= 8
    assert (answer.errors, answer.stalled) == (0, 0)
    assert 0 < answer.p50_us <= answer.p99_us <= answer.p999_us < 1e7


@pytest.mark.parametrize("size", [1, 1024, 65536])
def test_kept_connections_answer_every_request(load: Load, size: int) -> None:
    answer = load.ask(f"kept {load.port} 8 0.5 {size}")
    assert answer.ops >= 8
    assert answer.open == 8
    assert (answer.errors, answer.stalled) == (0, 0)


@pytest.mark.parametrize("kind", ["D", "U"])
def test_bulk_counts_bytes_and_ends(load: Load, kind: str) -> None:
    answer = load.ask(f"bulk {kind} {load.port} 2 0.5")
    assert answer.bytes > 1_000_000
    assert (answer.errors, answer.stalled) == (0, 0)
    assert answer.seconds < 5


def test_idle_connections_stay_until_they_are_dropped(load: Load) -> None:
    assert load.ask(f"idle {load.port} 300").open == 300
    load.ask("drop")
    assert load.ask(f"idle {load.port} 1").open == 1
    load.ask("drop")


def test_a_relay_that_refuses_is_counted_not_waited_for(load: Load) -> None:
    answer = load.ask(f"short S {free_port()} 4 30 100")
    assert (answer.ops, answer.errors >= 4) == (0, True)
    assert answer.seconds < 15


def test_a_relay_that_cuts_replies_short_is_counted(load: Load) -> None:
    def cut(listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # the end of the test
                return
            with client:
                client.recv(100)
                client.sendall(b"x" * 99)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        cutter = threading.Thread(target=cut, args=[listener])
        cutter.start()
        answer = load.ask(f"short S {listener.getsockname()[1]} 1 30 100")
        listener.shutdown(socket.SHUT_RDWR)
        cutter.join()
    assert (answer.ops, answer.errors, answer.stalled) == (0, 100, 0)


def test_its_server_answers_a_hello_in_pieces(load: Load) -> None:
    with socket.create_connection(("127.0.0.1", load.port), timeout=5) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = b"S\0\0\0" + struct.pack("=I", 12) + b"four"
        for position in range(len(request)):
            client.sendall(request[position : position + 1])
            time.sleep(0.002)
        reply = b""
        while part := client.recv(100):
            reply += part
        assert reply == b"x" * 12


def test_between_runs_its_server_answers(load: Load) -> None:
    assert replies(load.port)
    assert not replies(free_port())


def test_a_wrong_command_is_said_to_be_wrong(load: Load) -> None:
    with pytest.raises(LoadError, match="unknown command"):
        load.ask("juggle 3")
