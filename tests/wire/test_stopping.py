"""Run and stop: signals, draining, PID 1, without root, and the two ways to say what to serve."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from proxy.lab.behaviours import answers, echoes
from proxy.lab.clients import ask
from proxy.lab.wan import Wan
from tests.wire.program import GET, Program, forward, until

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.02)]


def connect(program: Program) -> socket.socket:
    client = socket.create_connection(program.address())
    client.settimeout(10)
    return client


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_then_it_ends_with_0(wan: Wan, number: signal.Signals) -> None:
    server = wan.serve(echoes())
    with Program(wan.client, {"a": forward(server)}) as program:
        with connect(program) as client:
            client.sendall(b"before")
            assert client.recv(100) == b"before"
            program.signal(number)
            said = program.wait_for("draining", signal=number.name)
            assert said["sessions"] == 1
            assert ask(program.address(), b"", fast_open=False).error_name == "ECONNREFUSED"
            client.sendall(b"after")
            assert client.recv(100) == b"after", "running sessions go on"
            assert program.process.poll() is None
        assert program.end() == 0
        assert program.wait_for("stopped")["cut_off"] == 0
        assert program.session(1)["reason"] == "closed"
    assert server.wait(1)[0].received == b"beforeafter"


def test_without_sessions_it_ends_at_once(wan: Wan) -> None:
    with Program(wan.client, {"a": forward(("10.77.2.9", 80))}, drain="60s") as program:
        program.signal(signal.SIGTERM)
        assert program.end() == 0, "long before the minute is over"


def test_what_outlasts_the_drain_is_cut_off(wan: Wan) -> None:
    server = wan.serve(echoes())
    with Program(wan.client, {"a": forward(server)}, drain="700ms") as program, connect(program) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        started = time.monotonic()
        program.signal(signal.SIGTERM)
        assert program.end() == 0
        assert 0.6 < time.monotonic() - started < 10, "not as long as it would be without a drain of its own"
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert program.wait_for("stopped")["cut_off"] == 1
        line = program.session(1)
        assert (line["ended_by"], line["reason"], line["up_bytes"]) == ("operator", "drain", 1)
    assert server.wait(1)[0].ended == "reset"


def test_a_second_signal_ends_it_at_once(wan: Wan) -> None:
    server = wan.serve(echoes())
    with Program(wan.client, {"a": forward(server)}, drain="60s") as program, connect(program) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        program.signal(signal.SIGTERM)
        program.wait_for("draining")
        program.signal(signal.SIGINT)
        assert program.end() == 0, "long before the minute is over"


def test_sessions_of_every_stage_are_cut_off_in_order(wan: Wan) -> None:
    """One that waits for first bytes, one that dials, one that relays."""
    server, nobody = wan.serve(echoes()), (wan.unrouted_address(), 80)
    ends = {
        "a": forward(server),
        "sniff": forward(server, timeouts={"first_bytes": "60s"}),
        "dial": forward(nobody, connect={"timeout": "60s"}),
    }
    with Program(wan.client, ends, drain="500ms") as program:
        clients = [socket.create_connection(program.address(name)) for name in ends]
        clients[0].sendall(GET)
        clients[2].sendall(GET)
        server.wait(1, ended=False)
        wan.wait_for(lambda seen: bool(seen.syns(dst=nobody)))
        until(lambda: program.open_sessions() == 3)
        program.signal(signal.SIGTERM)
        assert program.end() == 0
        lines = {line["listener"]: line for line in program.events("session")}
        during = {name: line["during"] for name, line in lines.items()}
        assert during == {"a": "relay", "sniff": "sniff", "dial": "dial"}
        assert {line["reason"] for line in lines.values()} == {"drain"}
        for client in clients:
            client.close()


def test_status_goes_to_the_log(wan: Wan) -> None:
    server = wan.serve(echoes())
    with Program(wan.client, {"a": forward(server)}) as program:
        assert program.open_sessions() == 0
        with connect(program) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            assert program.open_sessions() == 1


# As whom, and how


@pytest.mark.root
def test_it_runs_as_pid_1(wan: Wan) -> None:
    server = wan.serve(answers())
    prefix = ["unshare", "--pid", "--fork", "--kill-child"]
    with Program(wan.client, {"a": forward(server)}, prefix=prefix) as program:
        assert program.events("ready")[0]["pid"] == 1
        assert ask(program.address(), GET, fast_open=False).reply == b"pong"
        program.session(1)
        program.signal(signal.SIGTERM)
        assert program.end() == 0
        assert program.wait_for("stopped")["cut_off"] == 0


@pytest.mark.root
def test_it_runs_without_root(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)))
    nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--bounding-set=-all,+dac_read_search",
    ]
    # The one capability left lets it read a checkout and an interpreter that may lie under /root.
    nobody += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    with Program(wan.client, {"a": forward(server, hedge="off")}, prefix=nobody) as program:
        status = Path(f"/proc/{program.pid}/status").read_text()
        assert status.partition("Uid:")[2].split()[:4] == ["65534"] * 4
        for number in (1, 2):
            assert ask(program.address(), GET, fast_open=False).reply == b"pong"
            line = program.session(number)
        assert line["evidence"] == "syn_data_acked"
        program.signal(signal.SIGTERM)
        assert program.end() == 0


def test_flags_alone_are_enough(wan: Wan) -> None:
    server = wan.serve(answers(request=len(GET)))
    to = f"{server.address[0]}:{server.address[1]}"
    with Program(wan.client, arguments=["--forward", f"127.0.0.1:18000={to}"]) as program:
        assert ask(("127.0.0.1", 18000), GET, fast_open=False).reply == b"pong"
        assert program.session(1)["reason"] == "closed"
    assert server.wait(1, ended=False)


def test_one_line_of_a_file_is_enough(wan: Wan, tmp_path: Path) -> None:
    server = wan.serve(answers(request=len(GET)))
    file = tmp_path / "proxy.yaml"
    to = f"{server.address[0]}:{server.address[1]}"
    file.write_text(f'listeners: {{a: {{bind: "127.0.0.1:18000", mode: forward, to: "{to}"}}}}\n')
    with Program(wan.client, arguments=[str(file)]) as program:
        assert ask(("127.0.0.1", 18000), GET, fast_open=False).reply == b"pong"
        line = program.session(1)
        assert (line["listener"], line["reason"]) == ("a", "closed")
    assert server.wait(1, ended=False)


def test_it_is_a_console_log_on_a_terminal(wan: Wan) -> None:
    main, end = os.openpty()
    arguments = [sys.executable, "-m", "proxy", "run", "--forward", "127.0.0.1:18000=10.77.2.9:80"]
    process = wan.client.popen(arguments, stderr=end)
    os.close(end)
    try:
        text = b""
        deadline = time.monotonic() + 10
        while b"ready" not in text and time.monotonic() < deadline:
            text += os.read(main, 65536)
        assert b"listening" in text
        assert b"{" not in text
    finally:
        process.terminate()
        assert process.wait(10) == 0
        os.close(main)
