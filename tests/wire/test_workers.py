"""Several processes of the real program: shared out, shared knowledge, and what happens when one of them dies."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from proxy.lab.behaviours import answers_each, echoes
from proxy.lab.wan import Wan
from tests.wire.program import Line, Program, forward, until

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.01)]


def ask(address: tuple[str, int], reply: bytes = b"pong") -> bool:
    with socket.create_connection(address, 10) as client:
        client.sendall(b"ping")
        return client.recv(16) == reply


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    with suppress(OSError):
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    return True


def who(line: Line) -> str:
    """Which process a session's line is of."""
    return str(line["id"]).partition("-")[0]


@contextmanager
def customers(wan: Wan, address: tuple[str, int], threads: int = 4) -> Iterator[tuple[list[bool], list[str]]]:
    """All the time, until the block is left; who was answered, and what went wrong."""
    answered: list[bool] = []
    troubles: list[str] = []
    over = threading.Event()

    def come_and_go() -> None:
        with wan.client.entered():
            while not over.is_set():
                try:
                    answered.append(ask(address))
                except OSError as error:
                    troubles.append(f"{time.monotonic():.3f} {error!r}")

    crowd = [threading.Thread(target=come_and_go) for _ in range(threads)]
    for one in crowd:
        one.start()
    try:
        yield answered, troubles
    finally:
        over.set()
        for one in crowd:
            one.join()


def test_all_of_them_serve_on_all_listeners_and_add_up(wan: Wan, tmp_path: Path) -> None:
    server = wan.serve(answers_each(request=4))
    path = tmp_path / "sock"
    binds = ["127.0.0.1:0", f"unix:{path}"]
    with Program(wan.client, {"a": forward(server, binds)}, workers=3) as program:
        assert len(children(program.pid)) == 3
        assert len(program.events("listening")) == 2
        for _ in range(40):
            assert ask(program.address())
        for _ in range(10):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(b"ping")
                assert client.recv(16) == b"pong"
        program.session(50)
        assert len(Counter(who(line) for line in program.events("session"))) == 3
        until(lambda: program.status()["sessions"] == 50)
        program.signal(signal.SIGTERM)
        assert program.end() == 0
        assert program.wait_for("stopped")["cut_off"] == 0
    assert not path.exists()


def test_syn_data_is_taken_by_each_of_them(wan: Wan) -> None:
    here, server = wan.fresh_address(), wan.serve(answers_each(request=4))
    with Program(wan.server, {"a": forward(server, f"{here}:80")}, workers=3) as program:
        assert program.events("listening")[0]["fast_open"] is True
        for number in range(30):
            with wan.client.entered(), socket.socket() as client:
                client.sendto(b"ping", 0x20000000, (here, 80))
                assert client.recv(16) == b"pong"
            program.session(number + 1)
        taken = Counter(who(line) for line in program.events("session") if line.get("client_syn_bytes"))
        assert sum(taken.values()) >= 29, "one cookie is good for all of them"
        assert len(taken) == 3


def test_what_one_finds_out_the_others_hear_of(wan: Wan) -> None:
    server = wan.serve(answers_each(request=4))
    with Program(wan.client, {"a": forward(server, replay="any")}, workers=2) as program:
        number = 0
        while not any(line.get("standing_after") == "confirmed" for line in program.events("session")):
            assert ask(program.address())
            number += 1
            program.session(number)
            assert number < 20
        time.sleep(6.0)  # they tell each other once a second
        first: dict[str, Line] = {}
        for _ in range(20):
            assert ask(program.address())
            number += 1
            line = program.session(number)
            first.setdefault(who(line), line)
        assert len(first) == 2
        assert {line["standing_before"] for line in first.values()} == {"confirmed"}


def test_one_that_is_killed_is_replaced_and_nobody_who_waits_is_lost(wan: Wan) -> None:
    server, long = wan.serve(answers_each(request=4)), wan.serve(echoes())
    with Program(wan.client, {"a": forward(server), "long": forward(long)}, workers=2) as program:
        address, spared = program.address(), children(program.pid)[-1]
        clients = [socket.create_connection(program.address("long"), 10) for _ in range(8)]
        for client in clients:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        with customers(wan, address) as (answered, troubles):
            for number in range(1, 4):
                (victim,) = set(children(program.pid)) - {spared}
                os.kill(victim, signal.SIGKILL)
                line = program.wait_for("worker_died", number)
                assert (line["pid"], line["signal"]) == (victim, "SIGKILL")
                until(lambda: len(children(program.pid)) == 2, 10)
                time.sleep(0.7)
        assert len(answered) > 100
        hurt = len(troubles) + answered.count(False)
        assert hurt <= 3 * 4, "at most the sessions that the victims had just then"
        assert not [trouble for trouble in troubles if "Refused" in trouble], "nobody was turned away"
        alive = 0
        for client in clients:
            with suppress(OSError), client:
                client.sendall(b"y")
                alive += client.recv(1) == b"y"
        assert 0 < alive < 8, "those of the other worker go on"


def test_one_that_dies_again_and_again_is_given_time(wan: Wan) -> None:
    server = wan.serve(answers_each(request=4))
    with Program(wan.client, {"a": forward(server)}, workers=2) as program:
        pauses = []
        for number in range(1, 4):
            before = set(children(program.pid))
            os.kill(max(before) if number > 1 else min(before), signal.SIGKILL)
            pauses.append(program.wait_for("worker_died", number)["again_in"])
            until(lambda: len(children(program.pid)) == 2, 10)
            time.sleep(0.3)
        assert pauses[0] == 0.0
        assert pauses[2] > 0.0
        assert ask(program.address())


def test_they_go_when_the_supervisor_does(wan: Wan) -> None:
    server = wan.serve(answers_each(request=4))
    with Program(wan.client, {"a": forward(server)}, workers=2) as program:
        workers = children(program.pid)
        program.signal(signal.SIGKILL)
        until(lambda: all(gone(pid) for pid in workers), 20)


def test_signals_that_everybody_gets_are_the_supervisors_business(wan: Wan) -> None:
    server = wan.serve(echoes())
    with Program(wan.client, {"a": forward(server)}, workers=2) as program:
        with socket.create_connection(program.address(), 5) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            for pid in (*children(program.pid), program.pid):
                os.kill(pid, signal.SIGINT)
            program.wait_for("draining")
            client.sendall(b"y")
            assert client.recv(1) == b"y"
        assert program.end() == 0
        assert program.wait_for("stopped")["cut_off"] == 0
        assert not program.events("worker_died")


def test_what_does_not_end_is_cut_off_and_counted(wan: Wan) -> None:
    server = wan.serve(echoes())
    with Program(wan.client, {"a": forward(server)}, workers=2, drain="500ms") as program:
        clients = [socket.create_connection(program.address(), 5) for _ in range(6)]
        for client in clients:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        program.signal(signal.SIGTERM)
        assert program.end() == 0
        assert program.wait_for("stopped")["cut_off"] == 6
        assert Counter(line["reason"] for line in program.events("session")) == {"drain": 6}
        for client in clients:
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            client.close()


def test_a_reload_reaches_all_and_keeps_their_sockets(wan: Wan) -> None:
    old, new = wan.serve(answers_each(b"old!", request=4)), wan.serve(answers_each(b"new!", request=4))
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = f"127.0.0.1:{sock.getsockname()[1]}"
    with Program(wan.client, {"a": forward(old, port)}, workers=3) as program:
        workers = children(program.pid)
        assert ask(program.address(), b"old!")
        program.configure({"b": forward(new, port), "c": forward(new)}, workers=3)
        program.reload()
        for _ in range(20):
            assert ask(program.address("a"), b"new!")
            assert ask(program.address("c"), b"new!")
        assert children(program.pid) == workers
        program.configure({"c": forward(new)}, workers=4)
        program.reload(2)
        assert program.wait_for("restart_needed")["keys"] == ["workers"]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(program.address("a"), 2)
        os.kill(children(program.pid)[0], signal.SIGKILL)
        for _ in range(20):
            assert ask(program.address("c"), b"new!")


def test_a_supervisor_that_does_nothing_keeps_nobody_waiting(wan: Wan) -> None:
    server = wan.serve(answers_each(request=4))
    with Program(wan.client, {"a": forward(server)}, workers=2) as program:
        address, workers = program.address(), children(program.pid)
        program.signal(signal.SIGSTOP)
        try:
            until_later = time.monotonic() + 3.0
            asked = 0
            while time.monotonic() < until_later or asked <= 20:
                assert ask(address)
                asked += 1
        finally:
            program.signal(signal.SIGCONT)
        until(lambda: program.status()["sessions"] >= asked)
        assert children(program.pid) == workers
