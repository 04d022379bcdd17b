"""SOCKS and CONNECT over a long line: what the reply's moment wins, and that errors stay honest."""

from __future__ import annotations

import contextlib
import socket
import ssl
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from proxy.lab.behaviours import answers, never_answers
from proxy.lab.servers import Address, Conversation
from proxy.lab.wan import Wan
from tests.wire.program import Line, Program

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.1)]

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def listener(mode: str = "mixed", **keys: object) -> dict[str, Line]:
    return {"a": {"bind": "127.0.0.1:0", "mode": mode, **keys}}


def program(wan: Wan, listeners: dict[str, Line], **settings: object) -> Program:
    return Program(wan.client, None, document={"listeners": listeners, **settings})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A server's certificate with its key, and who signed it."""
    folder = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    ca.issue_cert("site.test").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return folder / "server.pem", folder / "ca.pem"


def serves_https(certificate: Path) -> object:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.num_tickets = 0  # Nagle would hold the answer back until they are acknowledged

    def behave(conversation: Conversation) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)

        def until_done(step: object) -> bytes:
            while True:
                try:
                    result = step()  # type: ignore[operator]
                except ssl.SSLWantReadError:
                    conversation.send(outgoing.read())
                    data = conversation.receive()
                    if not data:
                        return b""
                    incoming.write(data)
                else:
                    conversation.send(outgoing.read())
                    return result or b""

        until_done(tls.do_handshake)
        if until_done(lambda: tls.read(65536)):
            tls.write(ANSWER)
            conversation.send(outgoing.read())
        conversation.receive_all()

    return behave


def connect(proxy: Address, to: Address, how: str) -> socket.socket:
    """A tunnel through the proxy, each step after the one before."""
    sock = socket.create_connection(proxy, timeout=10)
    if how == "socks5":
        sock.sendall(b"\5\1\0")
        assert sock.recv(2) == b"\5\0"
        sock.sendall(b"\5\1\0\1" + socket.inet_aton(to[0]) + to[1].to_bytes(2, "big"))
        assert sock.recv(10)[:2] == b"\5\0"
    else:
        sock.sendall(f"CONNECT {to[0]}:{to[1]} HTTP/1.1\r\nHost: {to[0]}\r\n\r\n".encode())
        assert sock.recv(100) == b"HTTP/1.1 200 Connection established\r\n\r\n"
    return sock


@pytest.mark.parametrize("how", ["socks5", "connect"])
def test_https_saves_a_round_trip_where_the_endpoint_is_known(
    wan: Wan, authority: tuple[Path, Path], how: str
) -> None:
    server = wan.serve(serves_https(authority[0]), port=443)  # type: ignore[arg-type]
    context = ssl.create_default_context(cafile=str(authority[1]))
    took: list[float] = []
    plain: list[float] = []
    line: Line = {}

    def exchange(open_tunnel: Callable[[], socket.socket]) -> float:
        started = time.monotonic()
        with open_tunnel() as sock, context.wrap_socket(sock, server_hostname="site.test") as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nHost: site.test\r\n\r\n")
            assert tls.recv(100) == ANSWER
            return (time.monotonic() - started) / wan.rtt

    with program(wan, listener()) as proxy:
        for number in range(1, 7):
            took.append(exchange(lambda: connect(proxy.address(), server.address, how)))
            plain.append(exchange(lambda: socket.create_connection(server.address, timeout=10)))
            line = proxy.session(number)
            assert line["reply"] == ("dialed" if number == 1 else "optimistic")
    # Two TLS stacks in Python take some ms that are not the way's: as many as without a proxy, in three round trips.
    own = max(statistics.median(plain) - 3.0, 0.0)
    assert statistics.median(took[1:]) - own <= 2.1, (took, plain)
    assert line["evidence"] == "syn_data_acked"
    assert line["syn_bytes"] > 100


def test_the_first_contact_reports_a_refused_port(wan: Wan) -> None:
    nobody = (wan.fresh_address(), 81)
    with program(wan, listener()) as proxy:
        with socket.create_connection(proxy.address(), timeout=10) as sock:
            sock.sendall(b"\5\1\0\5\1\0\1" + socket.inet_aton(nobody[0]) + b"\0\x51")
            reply = b""
            while data := sock.recv(100):
                reply += data
            assert reply[:4] == b"\5\0\5\5"
        with socket.create_connection(proxy.address(), timeout=10) as sock:
            sock.sendall(f"CONNECT {nobody[0]}:81 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            reply = b""
            while data := sock.recv(1000):
                reply += data
            assert reply.startswith(b"HTTP/1.1 502 ")
            assert b"refused" in reply.partition(b"\r\n\r\n")[2]
        assert proxy.session(2)["reason"] == "refused"


def test_nobody_answers_in_time(wan: Wan) -> None:
    to = wan.unrouted_address()
    settings = {"defaults": {"connect": {"timeout": "300ms", "retries": 0}}}
    with program(wan, listener(), **settings) as proxy:
        with socket.create_connection(proxy.address(), timeout=10) as sock:
            sock.sendall(b"\5\1\0\5\1\0\1" + socket.inet_aton(to) + b"\0\x51")
            assert sock.recv(2) + sock.recv(10)[:2] == b"\5\0\5\6"
        with socket.create_connection(proxy.address(), timeout=10) as sock:
            sock.sendall(f"CONNECT {to}:81 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert sock.recv(1000).startswith(b"HTTP/1.1 504 ")


def test_a_client_that_does_not_wait_is_served_in_one_go(wan: Wan) -> None:
    server = wan.serve(answers(b"pong", request=35))
    get = b"GET / HTTP/1.1\r\nHost: site.test\r\n\r\n"
    with program(wan, listener()) as proxy:
        took: list[float] = []
        line: Line = {}
        for number in range(1, 6):
            wan.forget()
            started = time.monotonic()
            with socket.create_connection(proxy.address(), timeout=10) as sock:
                to = socket.inet_aton(server.address[0]) + b"\0\x50"
                sock.sendall(b"\5\1\0" + b"\5\1\0\1" + to + get)
                reply = b""
                while len(reply) < 16:
                    reply += sock.recv(100)
                took.append((time.monotonic() - started) / wan.rtt)
            assert reply == b"\5\0" + b"\5\0\0\1\0\0\0\0\0\0" + b"pong"
            line = proxy.session(number)
            assert line["reply"] == "dialed", "there was no need to promise anything"
        assert min(took) < 1.3
        (syn,) = wan.capture().syns(dst=server.address)
        assert syn.payload == get
    assert line["syn_bytes"] == len(get)
    server.wait(5)
    assert server.received == [get] * 5


def test_after_an_optimistic_reply_a_failed_dial_is_a_reset(wan: Wan) -> None:
    nobody = (wan.fresh_address(), 81)
    with program(wan, listener(reply="optimistic")) as proxy:
        with connect(proxy.address(), nobody, "socks5") as sock, pytest.raises(ConnectionResetError):
            sock.recv(1)
        line = proxy.session()
        assert (line["reason"], line["reply"]) == ("refused", "optimistic")
        assert "had been told" in line["detail"]


def test_dialed_never_promises(wan: Wan) -> None:
    server = wan.serve(answers(b"pong"))
    with program(wan, listener(reply="dialed")) as proxy:
        for number in range(1, 4):
            with connect(proxy.address(), server.address, "connect") as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: site.test\r\n\r\n")
                assert sock.recv(10) == b"pong"
            assert proxy.session(number)["reply"] == "dialed"


def test_requests_for_http_urls_ride_in_their_syns_one_after_another(wan: Wan) -> None:
    server = wan.serve(answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", request=10))
    to = server.address[0]
    get = f"GET http://{to}/a HTTP/1.1\r\nHost: other\r\nProxy-Connection: x\r\n\r\n".encode()
    with (
        program(wan, listener("http")) as proxy,
        socket.create_connection(proxy.address(), timeout=10) as sock,
    ):
        for _ in range(4):
            sock.sendall(get)
            answer = b""
            while not answer.endswith(b"ok"):
                answer += sock.recv(1000)
            assert b"onnection" not in answer.partition(b"Via")[0]
        lines = [proxy.session(number) for number in range(1, 5)]
        assert [line["evidence"] for line in lines[1:]] == ["syn_data_acked"] * 3
        assert [line["syn_bytes"] for line in lines[1:]] == [len(server.received[0])] * 3
        assert max(line["first_byte"] for line in lines[1:]) < 1.6 * wan.rtt
        assert len({line["client"] for line in lines}) == 1
    server.wait(4)
    for data in server.received:
        assert data.decode().split("\r\n")[:2] == ["GET /a HTTP/1.1", f"Host: {to}"]


def test_a_client_that_says_nothing_is_not_waited_for(wan: Wan) -> None:
    with program(wan, listener(timeouts={"handshake": "1s"})) as proxy:
        for opening in (b"", b"\5", b"\5\1\0\5", b"GET http://a/ HT"):
            with socket.create_connection(proxy.address(), timeout=10) as sock:
                sock.sendall(opening)
                sock.settimeout(30)
                with contextlib.suppress(ConnectionResetError):
                    while sock.recv(100):
                        pass
        assert proxy.session(4)["reason"] == "handshake_timeout"


def test_loopback_is_off_limits_unless_it_is_said(wan: Wan) -> None:
    with program(wan, listener()) as proxy, socket.create_connection(proxy.address(), timeout=10) as sock:
        sock.sendall(b"\5\1\0\5\1\0\1\x7f\0\0\1\0\x50")
        assert sock.recv(2) + sock.recv(10)[:2] == b"\5\0\5\2"
        assert proxy.session()["reason"] == "denied"


def test_a_server_that_speaks_first_is_not_promised_for_nothing(wan: Wan) -> None:
    server = wan.serve(never_answers())
    with program(wan, listener(reply="optimistic")) as proxy:
        took = []
        for _ in range(5):
            started = time.monotonic()
            with connect(proxy.address(), server.address, "socks5"):
                took.append(time.monotonic() - started)
        assert min(took) < wan.rtt / 2
