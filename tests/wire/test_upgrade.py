"""Another program takes over from the real one, under way."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from proxy.lab.behaviours import answers_each, echoes
from proxy.lab.namespaces import python_environment
from proxy.lab.wan import Wan
from tests.wire.program import Line, Program, forward, until
from tests.wire.test_workers import ask, children, customers, gone

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.01)]


@contextmanager
def upgraded(program: Program, number: int = 1) -> Iterator[int]:
    """The successor's process number; it is gone when the block is left."""
    program.signal(signal.SIGUSR2)
    successor = int(program.wait_for("upgraded", number, 60)["successor"])
    program.pid = successor
    try:
        yield successor
    finally:
        with suppress(ProcessLookupError):
            os.kill(successor, signal.SIGTERM)
        until(lambda: gone(successor), 10)


@pytest.mark.parametrize("workers", [1, 2])
def test_another_program_takes_over_and_nobody_notices(wan: Wan, tmp_path: Path, workers: int) -> None:
    server, long = wan.serve(answers_each(request=4)), wan.serve(echoes())
    path, state = tmp_path / "sock", tmp_path / "state.json"
    ends = {"a": forward(server, ["127.0.0.1:0", f"unix:{path}"]), "long": forward(long)}
    admin = {"bind": f"unix:{tmp_path}/admin"}
    with Program(wan.client, ends, workers=workers, state=str(state), drain="5s", admin=admin) as program:
        address, old = program.address(), program.pid
        with socket.create_connection(program.address("long"), 10) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            with customers(wan, address, 3) as (answered, troubles):
                time.sleep(0.5)
                with upgraded(program) as successor:
                    assert successor != old
                    program.wait_for("state_read", 2, 30)
                    assert program.wait_for("ready", 2)["pid"] == successor
                    client.sendall(b"y")
                    assert client.recv(1) == b"y", "the old one goes on with what it has begun"
                    client.close()
                    assert program.wait_for("stopped", 1, 30)["cut_off"] == 0
                    until(lambda: gone(old), 10)
                    time.sleep(0.3)
                    with socket.socket(socket.AF_UNIX) as other:
                        other.connect(str(path))
                        other.sendall(b"ping")
                        assert other.recv(16) == b"pong"
                    assert (tmp_path / "admin").exists()
                    count = len(answered)
                    until(lambda: len(answered) > count)
                    with upgraded(program, 2) as third:
                        until(lambda: gone(successor), 15)
                        assert len(children(third)) == (workers if workers > 1 else 0)
                        time.sleep(0.3)
                        program.pid = third
                        assert not troubles
                        assert all(answered)
        assert len(program.events("upgraded")) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_what_was_counted_goes_on(wan: Wan, tmp_path: Path, workers: int) -> None:
    server, long = wan.serve(answers_each(request=4)), wan.serve(echoes())
    admin = tmp_path / "admin"
    ends = {"a": forward(server, replay="any"), "long": forward(long)}
    with Program(wan.client, ends, workers=workers, admin={"bind": f"unix:{admin}"}, drain="9s") as program:
        for _ in range(20):
            assert ask(program.address())
        at = f"{server.address[0]}:{server.address[1]}"
        until(lambda: told(admin)["total"]["sessions"] == ended(admin, at) == 20, 10)
        before = told(admin)
        assert before["total"]["round_trips_saved"] > 0
        with socket.create_connection(program.address("long"), 10) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            with upgraded(program) as successor:
                until(lambda: told(admin)["pid"] == successor, 10)
                now = told(admin)
                assert now["total"]["sessions"] == 20
                assert now["total"]["seconds_saved"] == before["total"]["seconds_saved"]
                assert now["total"]["open"] == 0, "the predecessor's"
                assert now["counted_since"] == pytest.approx(before["counted_since"], abs=0.1)
                assert now["counted_since"] < now["began"]
                assert (now["saved_per_minute"], sum(one["sessions"] for one in now["minutes"])) == (0, 0)
                assert ask(program.address())
                client.close()
                until(lambda: told(admin)["total"]["sessions"] == 22, 10)
                program.wait_for("stopped", 1, 30)
                time.sleep(1.2)
                assert ended(admin, at) == 21
                assert ask(program.address())
                with upgraded(program, 2) as third:
                    until(lambda: told(admin)["pid"] == third, 10)
                    until(lambda: told(admin)["total"]["sessions"] == 23, 10)
        assert not program.events("counters_not_kept")


def asked(admin: Path, what: str) -> Line:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(admin))
    connection.request("GET", f"/api/v1/{what}")
    found: Line = json.loads(connection.getresponse().read())
    connection.close()
    return found


def ended(admin: Path, endpoint: str) -> int:
    found = [one for one in asked(admin, "endpoints")["endpoints"] if one["endpoint"] == endpoint]
    return sum(one["tally"]["sessions"] for one in found)


def told(admin: Path) -> Line:
    return asked(admin, "status")


def test_a_successor_that_cannot_begin_fails_alone(wan: Wan) -> None:
    server = wan.serve(answers_each(request=4))
    with Program(wan.client, {"a": forward(server)}) as program:
        program.file.write_text("listeners: {a: {bind: nowhere}}\n")
        program.signal(signal.SIGUSR2)
        assert "ended with 78" in program.wait_for("not_upgraded", 1, 60)["why"]
        assert ask(program.address())
        program.configure({"a": forward(server)})
        with upgraded(program):
            assert ask(program.address())


@pytest.mark.parametrize("workers", [1, 2])
def test_who_is_leaving_hands_nothing_over(wan: Wan, workers: int) -> None:
    server = wan.serve(echoes())
    with Program(wan.client, {"a": forward(server)}, workers=workers, drain="5s") as program:
        with socket.create_connection(program.address(), 5) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            program.signal(signal.SIGTERM)
            program.wait_for("draining")
            program.signal(signal.SIGUSR2)
            assert "draining" in program.wait_for("not_upgraded")["why"]
            program.signal(signal.SIGHUP)
            client.sendall(b"y")
            assert client.recv(1) == b"y"
        assert program.end() == 0


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_signal_to_stop_ends_an_upgrade_under_way(wan: Wan, busy: bool) -> None:
    server = wan.serve(answers_each(request=4))
    with (
        Program(wan.client, {"a": forward(server)}, workers=2, drain="3s") as program,
        socket.create_connection(program.address(), 5) as client,
    ):
        if not busy:
            client.close()
        program.signal(signal.SIGUSR2)
        program.signal(signal.SIGTERM)
        assert program.end() == 0
        assert program.wait_for("stopped")["cut_off"] == int(busy)
        assert not program.events("upgraded")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(program.address(), 2)


@pytest.mark.root
def test_process_1_stays(wan: Wan) -> None:
    server = wan.serve(answers_each(request=4))
    prefix = ["unshare", "--pid", "--fork", "--kill-child"]
    with Program(wan.client, {"a": forward(server)}, prefix=prefix) as program:
        program.signal(signal.SIGUSR2)
        assert "process 1" in program.wait_for("not_upgraded")["why"]
        assert ask(program.address())


def test_sockets_of_the_service_manager_are_used_and_left_behind(wan: Wan, tmp_path: Path) -> None:
    """As systemd does it: sd_listen_fds(3)."""
    server = wan.serve(answers_each(request=4))
    path = tmp_path / "sock"
    to = "{}:{}".format(*server.address)
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(path))
        unix.listen()
        port = tcp.getsockname()[1]
        binds = f"['127.0.0.1:{port}', 'unix:{path}']"
        file = tmp_path / "proxy.yaml"
        file.write_text(f"listeners: {{a: {{bind: {binds}, mode: forward, to: '{to}'}}}}\nworkers: 2\n")
        shell = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4);"
            "os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '2', 'LISTEN_FDNAMES': 'x:y'};"
            "os.set_inheritable(3, True); os.set_inheritable(4, True);"
            "os.execv(sys.executable, [sys.executable, '-m', 'proxy', 'run', sys.argv[3]])"
        )
        for _ in range(2):
            process = subprocess.Popen(
                [sys.executable, "-c", shell, str(tcp.fileno()), str(unix.fileno()), str(file)],
                pass_fds=(tcp.fileno(), unix.fileno()),
                env=python_environment(),
                stderr=subprocess.PIPE,
            )
            assert ask(("127.0.0.1", port)), "who came before it served has waited"
            process.terminate()
            _, said = process.communicate(timeout=30)
            assert process.returncode == 0, said
            assert b"sockets_not_used" not in said
            assert path.exists()


def test_the_number_of_workers_changes_with_it(wan: Wan) -> None:
    server = wan.serve(answers_each(request=4))
    with Program(wan.client, {"a": forward(server)}, workers=1) as program:
        address, pid = program.address(), program.pid
        with customers(wan, address, 3) as (answered, troubles):
            for number, workers in enumerate([3, 1, 2], 1):
                program.configure({"a": forward(server)}, workers=workers)
                program.signal(signal.SIGUSR2)
                successor = int(program.wait_for("upgraded", number, 60)["successor"])
                until(lambda gone_one=pid: gone(gone_one), 20)  # type: ignore[misc]  # bound now
                program.pid = pid = successor
                assert len(children(pid)) == (workers if workers > 1 else 0)
                time.sleep(0.3)
        assert not troubles
        assert all(answered)
        assert len(answered) > 50
        program.signal(signal.SIGTERM)
        until(lambda: gone(pid), 15)
