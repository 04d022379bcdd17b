"""Reloads of the real program: what changes at once, what goes on undisturbed, and mistakes, which do nothing."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from proxy.lab.behaviours import answers_each, echoes
from proxy.lab.servers import Behaviour
from proxy.lab.wan import Wan
from tests.wire.program import Line, Program, forward, until

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.01)]


def says(name: bytes) -> Behaviour:
    """A server that answers four bytes with its name."""
    return answers_each(name, request=4)


def ask(address: tuple[str, int]) -> bytes:
    with socket.create_connection(address, 5) as client:
        client.sendall(b"ping")
        return client.recv(16)


def connect(address: tuple[str, int]) -> socket.socket:
    client = socket.create_connection(address, 5)
    client.sendall(b"x")
    assert client.recv(1) == b"x"
    return client


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def inode(program: Program, port: int) -> str:
    """Which socket listens on a port of the program's namespace."""
    for line in Path(f"/proc/{program.pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{port:04X}") and fields[3] == "0A":
            return fields[9]
    raise AssertionError(port)


def test_new_sessions_get_the_new_and_old_ones_keep_the_old(wan: Wan) -> None:
    old, new, long = wan.serve(says(b"old")), wan.serve(says(b"new")), wan.serve(echoes())
    port, gone = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    first = {"a": forward(old, port), "long": forward(long, gone)}
    with Program(wan.client, first, drain="5s") as program:
        address, leaving = program.address("a"), program.address("long")
        socket_of_a = inode(program, address[1])
        assert ask(address) == b"old"
        with connect(leaving) as session:
            program.configure(
                {"b": forward(new, port), "c": forward(new)},
                drain="5s",
                log={"format": "json", "level": "debug"},
            )
            line = program.reload()
            assert {"new listener b", "new listener c", "no listener a", "no listener long"} <= set(
                line["changed"]
            )
            assert {"drain"}.isdisjoint(line["changed"])
            assert ask(address) == b"new"
            assert ask(program.address("c")) == b"new"
            assert inode(program, address[1]) == socket_of_a, "the address is the same, so is its socket"
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(leaving, 2)
            session.sendall(b"y")
            assert session.recv(1) == b"y"
        assert program.session(1, listener="long")["reason"] == "closed"
        assert not program.events("restart_needed")
        assert program.events("ready")[0]["pid"] == program.pid


def test_a_mistake_changes_nothing_and_is_explained(wan: Wan) -> None:
    server = wan.serve(says(b"old"))
    with (
        Program(wan.client, {"a": forward(server)}) as program,
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        address, before = program.address(), program.descriptors()
        program.file.write_text("listeners: {a: {bind: '127.0.0.1:0', mode: fourward}}\n")
        program.signal(signal.SIGHUP)
        assert "fourward" in program.wait_for("not_reloaded")["why"]
        clash = f"127.0.0.1:{taken.getsockname()[1]}"
        program.configure({"a": forward(server), "b": forward(server), "clash": forward(server, clash)})
        program.signal(signal.SIGHUP)
        assert "EADDRINUSE" in program.wait_for("not_reloaded", 2)["why"]
        assert ask(address) == b"old"
        until(lambda: program.descriptors() == before)
        assert not program.events("reloaded")


def test_a_changed_file_is_noticed(wan: Wan) -> None:
    old, new = wan.serve(says(b"old")), wan.serve(says(b"new"))
    with Program(wan.client, {"a": forward(old)}) as program:
        address = program.address()
        assert ask(address) == b"old"
        program.configure({"a": forward(new)})
        program.wait_for("reloaded")
        assert ask(address) == b"new"
        time.sleep(2.5)
        assert len(program.events("reloaded")) == 1


def test_a_storm_of_signals_is_a_few_reloads(wan: Wan) -> None:
    server = wan.serve(says(b"old"))
    with Program(wan.client, {"a": forward(server)}) as program:
        for _ in range(200):
            program.signal(signal.SIGHUP)
        program.wait_for("reloaded")
        assert ask(program.address()) == b"old"
        time.sleep(0.5)
        assert len(program.events("reloaded")) < 60


def test_no_connection_is_lost_while_the_file_changes_all_the_time(wan: Wan) -> None:
    old, new = wan.serve(says(b"old")), wan.serve(says(b"new"))
    port = f"127.0.0.1:{free_port()}"
    with Program(wan.client, {"a": forward(old, port)}) as program:
        address, over = program.address(), threading.Event()
        heard: list[bytes] = []
        troubles: list[OSError] = []

        def customers() -> None:
            with wan.client.entered():
                while not over.is_set():
                    try:
                        heard.append(ask(address))
                    except OSError as error:
                        troubles.append(error)

        threads = [threading.Thread(target=customers) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(1, 11):
            server = (new, old)[number % 2]
            program.configure(
                {f"a{number}": forward(server, port, balance="random" if number % 3 else "first")}
            )
            program.reload(number)
            so_many = len(heard)
            until(lambda enough=so_many: len(heard) > enough + 10 or bool(troubles), 30)  # type: ignore[misc]  # bound now
        over.set()
        for thread in threads:
            thread.join()
        assert not troubles
        assert set(heard) == {b"old", b"new"}
        assert len(heard) > 100


def test_what_was_learned_stays(wan: Wan) -> None:
    server = wan.serve(says(b"pong"))
    with Program(wan.client, {"a": forward(server, replay="any")}) as program:
        for number in range(1, 4):
            assert ask(program.address()) == b"pong"
            program.session(number)
        assert program.session(3)["standing_after"] == "confirmed"
        program.configure({"a": forward(server, replay="any", hedge="off")})
        program.reload()
        ask(program.address())
        line = program.session(4)
        assert (line["standing_before"], line["evidence"]) == ("confirmed", "syn_data_acked")


def test_the_level_and_form_of_the_log_follow(wan: Wan) -> None:
    server = wan.serve(says(b"pong"))
    with Program(wan.client, {"a": forward(server)}) as program:
        program.configure({"a": forward(server)}, log={"format": "json", "level": "warning"})
        program.signal(signal.SIGHUP)

        def silent() -> bool:
            """A session that no line is written of, where it would have been by now."""
            before = len(program.events("session"))
            ask(program.address())
            time.sleep(0.3)
            return len(program.events("session")) == before

        until(silent)
        os.kill(program.pid, 0)


def test_the_admin_moves_and_the_listeners_stay(wan: Wan, tmp_path: Path) -> None:
    server = wan.serve(says(b"pong"))
    port = f"127.0.0.1:{free_port()}"
    first, second = tmp_path / "first", tmp_path / "second"
    with Program(wan.client, {"a": forward(server, port)}, admin={"bind": f"unix:{first}"}) as program:
        assert ready(first)
        program.configure({"a": forward(server, port)}, admin={"bind": f"unix:{second}"})
        assert program.reload()["changed"] == ["admin"]
        until(lambda: second.exists() and ready(second))
        assert not first.exists()
        program.configure({"a": forward(server, port)})
        program.reload(2)
        until(lambda: not second.exists())
        program.configure({"a": forward(server, port)}, admin={"bind": f"unix:{first}"})
        program.reload(3)
        until(lambda: first.exists() and ready(first))
        assert ask(program.address()) == b"pong"


def ready(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(path))
        client.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        return b" 200 " in client.recv(4096)


def test_who_is_still_asking_is_routed_as_when_he_came(wan: Wan) -> None:
    old, new = wan.serve(says(b"old")), wan.serve(says(b"new"))

    def document(to: str) -> Line:
        return {
            "listeners": {"a": {"bind": port, "mode": "socks"}},
            "clusters": {"x": {"endpoints": [to], "warm_up": False}},
            "routes": [{"match": {"host": "x.example"}, "to": "x"}],
            "log": {"format": "json"},
        }

    port = f"127.0.0.1:{free_port()}"
    to_old, to_new = ("{}:{}".format(*server.address) for server in (old, new))
    with Program(wan.client, None, document=document(to_old)) as program:
        with socket.create_connection(program.address(), 5) as client:
            client.sendall(b"\5\1\0")
            assert client.recv(2) == b"\5\0"
            program.configure(document=document(to_new))
            program.reload()
            client.sendall(b"\5\1\0\3\x09x.example\0\x50")
            assert client.recv(10)[1] == 0
            client.sendall(b"ping")
            assert client.recv(10) == b"old"
        with socket.create_connection(program.address(), 5) as client:
            client.sendall(b"\5\1\0\5\1\0\3\x09x.example\0\x50ping")
            heard = b""
            while len(heard) < 15:
                heard += client.recv(20)
            assert heard.endswith(b"new")
