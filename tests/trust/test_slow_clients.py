"""Clients and servers that take their time: they cost little, and the others are served."""

from __future__ import annotations

import resource
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from proxy.lab.behaviours import echoes, sends
from proxy.lab.servers import Conversation, Server
from proxy.lab.wan import Wan
from tests.trust.loris import Loris
from tests.wire.program import Line, Program, forward, until

pytestmark = [pytest.mark.netns, pytest.mark.wan(rtt=0.0)]

MANY, MOST = 1_000, 10_000  # idle sessions
EACH = 8 << 10  # bytes of ours that an idle session may take


@pytest.fixture
def echo(wan: Wan) -> Iterator[Server]:
    with Server(wan.client, ("127.0.0.1", 0), echoes()) as server:
        yield server


def proxy(wan: Wan, listeners: Line, **settings: object) -> Program:
    document = {
        "listeners": listeners,
        "direct": {"deny": ["metadata"]},
        "defaults": {"warm_up": False},
        **settings,
    }
    return Program(wan.client, None, document=document, arguments=["--log-level", "warning"], ready=False)


@contextmanager
def as_many_descriptors_as_there_may_be() -> Iterator[int]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def answered(to: tuple[str, int]) -> float:
    """How long twenty had to wait, one after the other: the one in the middle. None of them waited for ten seconds."""
    return statistics.median(says(to) for _ in range(20))


def sends_much(conversation: Conversation) -> None:
    with suppress(OSError):  # its clients leave before they have heard it all
        sends(8 << 20)(conversation)


def says(to: tuple[str, int], word: bytes = b"hello") -> float:
    """Seconds until an echo has come back."""
    started = time.monotonic()
    with socket.create_connection(to, timeout=10) as sock:
        sock.sendall(word)
        assert sock.recv(100) == word
    return time.monotonic() - started


@pytest.mark.parametrize(
    "opening", [b"GET http://example.com/ HTTP/1.1\r\n", b"\x05\xff" + b"\0" * 200], ids=["http", "socks"]
)
def test_who_never_finishes_a_sentence_is_shown_out_and_the_others_are_served(
    wan: Wan, echo: Server, opening: bytes
) -> None:
    """The short sister of `python -m bench loris`."""
    listeners = {
        "slow": {"bind": "127.0.0.1:17001", "mode": "mixed", "timeouts": {"handshake": "1s"}},
        "a": {"bind": "127.0.0.1:17002", "mode": "forward", "to": f"127.0.0.1:{echo.address[1]}"},
    }
    with proxy(wan, listeners) as program:
        until(lambda: accepts(17001))
        before, idle = program.memory(), program.descriptors()
        loris = Loris(("127.0.0.1", 17001), opening, rate=100.0)
        loris.start()
        served = 0
        while loris.closed < 100 or served <= 20:
            says(("127.0.0.1", 17002))
            served += 1
            time.sleep(0.02)
        assert program.memory() - before < 64 << 20
        assert program.descriptors() - idle < 400, "a second's worth at a time, and some"
        loris.end()
        until(lambda: program.descriptors() <= idle, timeout=30)


def accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def test_who_never_reads_an_answer_holds_nothing_up(wan: Wan, echo: Server) -> None:
    """Fifty clients that ask for much and read nothing, and one that talks."""
    with Server(wan.client, ("127.0.0.1", 0), sends_much) as endless, ExitStack() as stack:
        ends = {"much": forward(endless), "a": forward(echo)}
        program = stack.enter_context(Program(wan.client, ends))
        before = program.memory()
        for _ in range(50):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(program.address("much"))
            client.sendall(b"go")
        endless.wait(50, ended=False)
        assert answered(program.address()) < 2.0
        assert program.memory() - before < 50 * (256 << 10)


def test_a_server_that_never_reads_holds_nothing_up(wan: Wan, echo: Server) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as deaf, ExitStack() as stack:
        ends = {"deaf": forward(deaf.getsockname()), "a": forward(echo)}
        program = stack.enter_context(Program(wan.client, ends))
        before = program.memory()
        for _ in range(50):
            client = stack.enter_context(socket.create_connection(program.address("deaf"), timeout=10))
            client.setblocking(False)
            with suppress(BlockingIOError):
                while client.send(bytes(1 << 16)):
                    pass
        assert answered(program.address()) < 2.0
        assert program.memory() - before < 50 * (256 << 10)


def test_a_client_that_never_reads_its_refusal_is_not_waited_for(wan: Wan) -> None:
    """A reply that says no is small, and whoever does not close after it is closed."""
    with proxy(wan, {"a": {"bind": "127.0.0.1:17003", "mode": "http"}}) as program, ExitStack() as stack:
        until(lambda: accepts(17003))
        idle = program.descriptors()
        for _ in range(100):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", 17003), timeout=10))
            client.sendall(b"nonsense\r\n\r\n")
        until(lambda: program.descriptors() <= idle, timeout=15)


@pytest.mark.parametrize("number", [MANY, pytest.param(MOST, marks=pytest.mark.slow)])
def test_idle_sessions_take_little_and_the_others_are_served(wan: Wan, echo: Server, number: int) -> None:
    """Their server never even accepts: the kernel shakes hands for it."""
    wan.client.sysctl("net.core.somaxconn", 2 * MOST)
    wan.client.sysctl("net.ipv4.ip_local_port_range", "1024 65535")
    with as_many_descriptors_as_there_may_be() as most, ExitStack() as stack:
        number = min(
            number, (most - 1_000) // 2
        )  # a hard limit that is too low for ten thousand is a limit here, too
        asleep = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=2 * MOST))
        ends = {
            "asleep": forward(asleep.getsockname(), timeouts={"first_bytes": "0s", "half_closed": "1s"}),
            "a": forward(echo),
        }
        ends["asleep"][0].update(backlog=4096, limits={"per_destination": "none"})
        program = stack.enter_context(Program(wan.client, ends))
        says(program.address())
        program.session()
        before, idle = program.memory(), program.descriptors()
        clients = [
            stack.enter_context(socket.create_connection(program.address("asleep"))) for _ in range(number)
        ]
        until(lambda: program.descriptors() >= idle + 2 * number, timeout=60)
        assert (program.memory() - before) / number < EACH
        assert answered(program.address()) < 2.0
        for client in clients:
            client.close()
        until(lambda: program.descriptors() == idle, timeout=60)
        assert answered(program.address()) < 2.0
