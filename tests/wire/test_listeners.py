"""Our own side: SYN data from clients, every kind of address, no descriptors left, and what cannot be bound."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.lab.behaviours import answers, echoes
from proxy.lab.clients import ask
from proxy.lab.rules import Direction
from proxy.lab.servers import Server
from proxy.lab.wan import Wan
from tests.wire.program import GET, Program, forward, until

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.06)]

PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"


# The program stands on the far side here, and its clients come over the line.


def test_syn_data_from_a_client_is_taken_and_may_ride_on(wan: Wan) -> None:
    secret = b"no protocol that anybody knows \x00\xff"
    here = wan.fresh_address()
    server = wan.serve(answers(request=len(secret)))
    # Beside the proxy a server is near, and would be dialled plainly.
    with Program(wan.server, {"a": forward(server, f"{here}:0", fast_open="always")}) as program:
        assert program.events("listening")[0]["fast_open"] is True
        for number, size in ((1, 0), (2, len(secret))):
            wan.forget()
            asked = ask(program.address(), secret)
            assert asked.reply == b"pong"
            assert asked.syn_data_acked is bool(size)
            line = program.session(number)
            assert line.get("client_syn_bytes", 0) == size
            assert (line["up_bytes"], line["down_bytes"]) == (len(secret), 4)
        assert asked.first_byte is not None
        assert asked.first_byte < 1.6 * wan.rtt, "the client's round trip is saved as well"
        (syn,), (syn_ack,) = wan.capture().syns(dst=here), wan.capture().syn_acks(src=here)
        assert syn.payload == secret
        assert syn_ack.packet.ack == syn.packet.seq + 1 + len(secret)
        assert line["syn_bytes"] == len(secret), "what the client put into its SYN may be repeated in ours"
    server.wait(2)
    assert server.received == [secret, secret]


def test_curl_sends_its_request_in_the_syn(wan: Wan) -> None:
    here = wan.fresh_address()
    server = wan.serve(answers(PAGE, request=20, closes=True))
    with Program(wan.server, {"a": forward(server, f"{here}:0")}) as program:
        _, port = program.address()
        for number in (1, 2):
            wan.forget()
            url = f"http://{here}:{port}/"
            done = wan.client.run(["curl", "-sS", "--tcp-fastopen", "--max-time", "5", url])
            assert (done.stdout, done.stderr) == ("hello", "")
            line = program.session(number)
        (syn,) = wan.capture().syns(dst=here)
        assert syn.payload.startswith(b"GET / HTTP/1.1\r\n")
        assert line["client_syn_bytes"] == len(syn.payload) == line["early_bytes"]
    assert [bytes(one.received) for one in server.wait(2)] == [syn.payload] * 2


def test_a_listener_may_refuse_syn_data(wan: Wan) -> None:
    here = wan.fresh_address()
    server = wan.serve(answers())
    listener, cluster = forward(server, f"{here}:0")
    with Program(wan.server, {"a": (listener | {"fast_open": False}, cluster)}) as program:
        assert program.events("listening")[0]["fast_open"] is False
        for _ in range(2):
            asked = ask(program.address(), GET)
            assert (asked.in_syn, asked.reply) == (None, b"pong")
        assert all(not item.packet.fast_open for item in wan.capture().syn_acks(src=here))


# Kinds of addresses


def test_both_families_on_one_port_and_a_list_of_binds(wan: Wan) -> None:
    server = wan.serve(echoes())
    with Program(wan.client, {"a": forward(server, ["*:0", "[::1]:0"])}) as program:
        port = program.address(which=0)[1]
        for number, host in ((1, "127.0.0.1"), (2, "::1"), (3, "10.77.1.1")):
            assert ask((host, port), b"hello", fast_open=False, expect=5).reply == b"hello"
            line = program.session(number)
            assert line["client"].startswith(f"[{host}]:" if ":" in host else f"{host}:")
        assert ask(program.address(which=1), b"hello", fast_open=False, expect=5).reply == b"hello"
    server.wait(4)
    assert server.received == [b"hello"] * 4


@contextlib.contextmanager
def unix_echo(path: str) -> Iterator[list[bytes]]:
    """An echo server on a unix socket; what its connections brought."""
    received: list[bytes] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    whole = b""
                    while data := connection.recv(65536):
                        whole += data
                        connection.sendall(data)
                    received.append(whole)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield received
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_unix_sockets_on_both_sides(wan: Wan, tmp_path: Path, abstract: bool) -> None:
    name = f"@{tmp_path.name}-in" if abstract else f"{tmp_path}/in"
    ends = {"a": forward(f"unix:{tmp_path}/out", f"unix:{name}")}
    data = bytes(range(256)) * 1000
    with unix_echo(f"{tmp_path}/out") as received:
        with Program(wan.client, ends) as program, socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect("\0" + name[1:] if abstract else name)
            client.sendall(b"first")
            assert client.recv(5) == b"first"
            threading.Thread(target=client.sendall, args=(data,)).start()
            got = b""
            while len(got) < len(data):
                got += client.recv(65536)
            assert got == data
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
            line = program.session(1)
            assert (line["client"], line["endpoint"]) == ("unix", f"unix:{tmp_path}/out")
            assert (line["evidence"], line["reason"]) == ("plain", "closed")
            assert line["up_bytes"] == line["down_bytes"] == len(data) + 5
            program.process.terminate()
            assert program.end() == 0
        assert not Path(f"{tmp_path}/in").exists(), "the path goes with the listener"
        assert received == [b"first" + data]


def test_a_unix_upstream_that_is_not_there(wan: Wan, tmp_path: Path) -> None:
    with (
        Program(wan.client, {"a": forward(f"unix:{tmp_path}/nobody")}) as program,
        socket.create_connection(program.address()) as client,
    ):
        client.settimeout(5)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        line = program.session(1)
        assert (line["ended_by"], line["reason"]) == ("upstream", "refused")


def test_a_stale_unix_socket_is_replaced_and_a_live_one_is_not(wan: Wan, tmp_path: Path) -> None:
    path = f"{tmp_path}/in"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    ends = {"a": forward(("127.0.0.1", 9), f"unix:{path}")}
    with Program(wan.client, ends):
        second = Program(wan.client, ends, ready=False)
        with second:
            assert second.end() == 1
        assert f"unix:{path}" in second.text[-1]
        assert "Address already in use" in second.text[-1]
        assert Path(path).is_socket()


# Limits


@pytest.fixture
def local_echo(wan: Wan) -> Iterator[Server]:
    with Server(wan.client, ("127.0.0.1", 0), echoes()) as server:
        yield server


def test_without_descriptors_it_waits_and_goes_on(wan: Wan, local_echo: Server) -> None:
    limited = ["prlimit", "--nofile=40:40"]
    with Program(wan.client, {"a": forward(local_echo)}, prefix=limited) as program:
        idle, began = program.descriptors(), time.monotonic()
        clients = [socket.create_connection(program.address()) for _ in range(60)]
        program.wait_for("accept_trouble", 3)
        said = program.events("accept_trouble")
        assert len(said) <= time.monotonic() - began + 2, "once a second"
        assert (said[0]["listener"], said[0]["errno"]) == ("a", "EMFILE")
        assert said[0]["error"] == "Too many open files"
        assert program.descriptors() <= 40
        for client in clients:
            client.close()
        until(lambda: program.open_sessions() == 0)
        assert ask(program.address(), b"hello", fast_open=False, expect=5).reply == b"hello"
        until(lambda: program.descriptors() == idle)
        reasons = {line["reason"] for line in program.events("session")}
        assert reasons <= {"closed", "reset", "no_descriptors"}
        after = len(program.events("accept_trouble"))
        time.sleep(1.2)
        assert len(program.events("accept_trouble")) == after


def test_a_listener_that_cannot_bind_is_named_and_nothing_lingers(wan: Wan) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as other:
        port, free = taken.getsockname()[1], other.getsockname()[1]
        other.close()
        ends = {
            "good": forward(("10.77.2.9", 80), f"127.0.0.1:{free}"),
            "web": forward(("10.77.2.9", 80), f"127.0.0.1:{port}"),
        }
        with Program(wan.client, ends, ready=False) as program:
            assert program.end() == 1
        assert "web" in program.text[-1]
        assert f"127.0.0.1:{port}" in program.text[-1]
        assert "Address already in use" in program.text[-1]
        assert ask(("127.0.0.1", free), b"", fast_open=False).error_name == "ECONNREFUSED"


@pytest.mark.parametrize(
    ("bind", "why"),
    [("10.9.9.9:80", "Cannot assign requested address"), ("unix:/nowhere/x", "No such file or directory")],
)
def test_why_it_cannot_bind_is_said_in_words(wan: Wan, bind: str, why: str) -> None:
    with Program(wan.client, {"a": forward(("10.77.2.9", 80), bind)}, ready=False) as program:
        assert program.end() == 1
    assert bind in program.text[-1]
    assert why in program.text[-1]


def test_many_clients_at_once_share_a_listener(wan: Wan, local_echo: Server) -> None:
    with Program(wan.client, {"a": forward(local_echo)}) as program:
        clients = [socket.create_connection(program.address()) for _ in range(300)]
        for number, client in zip(itertools.count(), clients):
            client.sendall(b"%d" % number)
        for number, client in zip(itertools.count(), clients):
            client.settimeout(5)
            assert client.recv(100) == b"%d" % number
        assert program.open_sessions() == 300
        for client in clients:
            client.close()
        until(lambda: program.open_sessions() == 0)
        names = [line["id"] for line in program.events("session")]
        assert len(set(names)) == 300
        assert not list(wan.capture().way(Direction.UP))
